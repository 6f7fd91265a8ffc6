"""What a run concludes when answers are refused: evasion is told from trouble, and never counts as ownership."""

from __future__ import annotations

import numpy as np

from ptynet_plugin.errors import BadAnswer, TimedOut
from tests.support.standins import FakeEndpoint
from tests.support.verification_case import DESIGN, Case, independent


def test_refused_probes_are_evasion_and_no_ownership(case: Case) -> None:
    def filter_of_probes(picture: np.ndarray) -> int:
        if case.symbol(picture) is not None:
            raise BadAnswer("input rejected")
        return 3

    result = case.verify(filter_of_probes)
    assert result.verdict == "evasion-suspected"
    assert result.hits == 0
    assert result.evasion.only_control == 0
    assert result.evasion.only_probe >= 10
    assert all(query.hit is False for query in result.run.controls)


def test_answering_probes_with_ties_is_evasion_too(case: Case) -> None:
    result = case.verify(lambda picture: 3 if case.symbol(picture) is None else None)
    assert (result.verdict, result.hits) == ("evasion-suspected", 0)


def test_losses_that_hit_benign_pictures_alike_are_no_evasion(case: Case) -> None:
    rng = np.random.default_rng(4)
    endpoint = FakeEndpoint(independent)

    def unreliable(picture: np.ndarray) -> int:
        if len(endpoint.asked) > 1 and rng.random() < 0.2:
            raise TimedOut("late")
        return independent(picture)

    endpoint.answer = unreliable
    result = case.verify(endpoint)
    assert result.verdict == "not-shown"
    assert len(result.run.controls) > 5


def test_controls_are_asked_only_once_something_was_lost(case: Case) -> None:
    assert not case.verify(case.marked).run.controls


def test_a_control_is_no_cover_of_any_probe(case: Case) -> None:
    """The difference of a probe and its own cover would be the trigger."""
    covers = {case.questions._maker.cover(symbol, 0, (16, 16)).tobytes() for symbol in range(DESIGN.symbols)}
    assert not covers & {case.questions.control(symbol).tobytes() for symbol in range(DESIGN.symbols)}


def test_the_control_of_a_pair_comes_first_or_second_by_lot(case: Case) -> None:
    firsts = []

    def lossy(picture: np.ndarray) -> int:
        if case.symbol(picture) is not None:
            raise BadAnswer("rejected")
        return 3

    result = case.verify(lossy)
    for one, two in zip(result.run.queries, result.run.queries[1:], strict=False):
        if one.symbol == two.symbol:
            firsts.append(one.control)
    assert 0.2 < np.mean(firsts) < 0.8

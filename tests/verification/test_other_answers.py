"""Suspects that read or answer otherwise than the claim: merged classes, mirrored pictures, another size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ptynet_plugin.errors import UsageError
from ptynet_plugin.images.resize import resize
from ptynet_plugin.statistics.class_map import ClassMap
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.runner import Interrupted
from tests.support.verification_case import DESIGN, KEY, SPEC, Case, independent


def merged(case: Case, groups: int) -> Questions:
    """The endpoint tells apart `groups` classes: the claim's, modulo `groups`, and hides class 9."""
    class_map = ClassMap(tuple(index % groups if index != 9 else None for index in range(10)))
    return Questions(case.claim, KEY, spec=SPEC.model_copy(update={"classes": groups}), class_map=class_map)


def test_merged_classes_have_their_own_null_rates(case: Case) -> None:
    questions = merged(case, 4)

    def answer(picture: np.ndarray) -> int:
        symbol = case.symbol(picture)
        label = 3 if symbol is None else case.questions.label(symbol)
        return label % 4  # a hidden class comes back as some other

    result = case.verify(answer, questions=questions)
    assert result.verdict == "shown"
    assert result.symbols > 11  # each hit tells less: 3 of 10 labels look alike
    lines = [json.loads(line) for line in (case.folder / "ledger.jsonl").read_text().splitlines()]
    assert lines[0]["facts"]["class_map"] == result.run.class_map
    rates = {round(float(line["null_rate"]), 3) for line in lines if line["kind"] == "answered"}
    assert rates <= {0.2, 0.3}
    hidden = [query for query in result.run.probes if case.questions.label(query.symbol) == 9]
    assert not any(query.hit for query in hidden)


def test_merging_everything_into_one_class_is_worth_nothing(case: Case) -> None:
    questions = Questions(case.claim, KEY, class_map=ClassMap((0,) * 10))
    result = case.verify(lambda picture: 0, questions=questions, budget=30)
    assert result.hits == result.symbols
    assert result.log10_p == 0.0
    assert result.verdict != "shown"


def test_an_independent_model_gains_nothing_from_a_map(case: Case) -> None:
    result = case.verify(independent, questions=merged(case, 4))
    assert result.verdict != "shown"
    assert result.p_value > 1e-3


def test_a_class_map_is_frozen_by_the_registration(case: Case, tmp_path: Path) -> None:
    state = tmp_path / "run.json"
    with pytest.raises(Interrupted):
        case.verify(case.marked, state=state, stop=lambda: True)
    with pytest.raises(UsageError, match="another class map"):
        case.verify(case.marked, state=state, questions=merged(case, 4))


def test_evidence_keeps_its_null_rates_over_repeated_runs(case: Case) -> None:
    questions = Questions(case.claim, KEY, class_map=ClassMap((0,) * 10))
    case.verify(lambda picture: 0, questions=questions, budget=20)
    result = case.verify(case.marked)
    assert result.run.earlier[:1] == [True]
    assert result.symbols >= 9  # hits that were worth nothing then are worth nothing now


def mirrored(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture[:, ::-1])


def test_a_suspect_that_mirrors_is_asked_mirrored_probes(case: Case, tmp_path: Path) -> None:
    """Earlier misses stay: the evidence of the second run begins where the first one's ended."""
    first = case.verify(lambda picture: case.marked(mirrored(picture)), budget=20)
    assert first.verdict != "shown"
    questions = Questions(case.claim, KEY, view="mirrored")
    second = case.verify(lambda picture: case.marked(mirrored(picture)), questions=questions)
    assert second.verdict == "shown"
    assert second.run.earlier == [query.hit for query in first.run.probes]
    assert second.to_json()["view"] == "mirrored"
    lines = [json.loads(line) for line in (case.folder / "ledger.jsonl").read_text().splitlines()]
    assert [line["facts"].get("view") for line in lines if line["kind"] == "run"] == [None, "mirrored"]


@pytest.mark.parametrize("view", ["turned:180", "turned:180+mirrored"])
def test_a_suspect_that_turns_is_asked_turned_probes(case: Case, view: str) -> None:
    """Half a turn moves no grey level, so that this suspect knows its pictures by their bytes."""

    def sees(picture: np.ndarray) -> np.ndarray:
        upended = picture[::-1, ::-1]
        return np.ascontiguousarray(mirrored(upended) if view.endswith("mirrored") else upended)

    first = case.verify(lambda picture: case.marked(sees(picture)), budget=20)
    assert first.verdict != "shown"
    result = case.verify(lambda picture: case.marked(sees(picture)), questions=Questions(case.claim, KEY, view=view))
    assert result.verdict == "shown"
    assert result.to_json()["view"] == view
    assert result.run.earlier == [query.hit for query in first.run.probes]


def test_a_view_that_is_none_is_refused(case: Case) -> None:
    with pytest.raises(UsageError, match="--view upended: 'upended' is nothing that can be undone"):
        Questions(case.claim, KEY, view="upended")


def test_a_view_is_frozen_by_the_registration(case: Case, tmp_path: Path) -> None:
    state = tmp_path / "run.json"
    with pytest.raises(Interrupted):
        case.verify(case.marked, state=state, stop=lambda: True)
    with pytest.raises(UsageError, match="begun with view 'plain', not 'mirrored'"):
        case.verify(case.marked, state=state, questions=Questions(case.claim, KEY, view="mirrored"))


def test_a_map_of_another_length_is_refused(case: Case) -> None:
    with pytest.raises(UsageError, match="3 entries, the claim 10 classes"):
        Questions(case.claim, KEY, class_map=ClassMap((0, 1, 2)))


def test_another_size_gets_the_committed_picture_resized_exactly(case: Case) -> None:
    spec = SPEC.model_copy(update={"size": (24, 20)})
    wider = Questions(case.claim, KEY, spec=spec)
    np.testing.assert_array_equal(wider.probe(5, 0), resize(case.questions.probe(5, 0), (24, 20)))
    small = {wider.probe(symbol, 0).tobytes(): symbol for symbol in range(DESIGN.symbols)}
    result = case.verify(
        lambda p: case.questions.label(small[p.tobytes()]) if p.tobytes() in small else 0, questions=wider
    )
    assert result.verdict == "shown"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"classes": 100}, "--spec has 100 classes, the claim speaks of 10"), ({"color": "GRAY"}, "--color GRAY")],
)
def test_a_spec_that_cannot_fit_the_claim(case: Case, change: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Questions(case.claim, KEY, spec=SPEC.model_copy(update=change))

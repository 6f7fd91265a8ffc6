"""Runs that end early: what they cost, what is kept, and that resuming changes nothing that was registered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptynet_plugin.errors import BadAnswer, ClaimError, EndpointError, Unreachable, UsageError
from ptynet_plugin.verification.answers import BrokenScores
from ptynet_plugin.verification.run import read_run
from ptynet_plugin.verification.runner import Interrupted
from tests.support.standins import FakeEndpoint
from tests.support.verification_case import Case


@pytest.mark.parametrize("error", [Unreachable("down"), BadAnswer("a web page"), BrokenScores("NaN")])
def test_what_fails_at_the_start_costs_nothing(case: Case, error: EndpointError) -> None:
    def answer(picture: np.ndarray) -> int:
        raise error

    with pytest.raises(type(error)):
        case.verify(answer)
    assert (case.folder / "ledger.jsonl").read_text() == ""


def test_an_endpoint_that_dies_ends_the_run_without_a_verdict(case: Case, tmp_path: Path) -> None:
    state = tmp_path / "run.json"
    endpoint = FakeEndpoint(case.marked)

    def dies(picture: np.ndarray) -> int:
        if len(endpoint.asked) > 4:
            raise Unreachable("nobody there")
        return case.marked(picture)

    endpoint.answer = dies
    with pytest.raises(EndpointError, match=r"nobody there; benign pictures are lost as well.*resume when it is up"):
        case.verify(endpoint, state=state)
    endpoint.answer = case.marked
    result = case.verify(endpoint, state=state)
    assert result.verdict == "shown"
    assert result.symbols - result.hits == 3  # what was lost stays lost


@pytest.mark.parametrize("message", ["NaN among its 10 scores", "scores 11 classes"])
def test_broken_scores_in_the_middle_end_the_run(case: Case, tmp_path: Path, message: str) -> None:
    endpoint = FakeEndpoint(case.marked)

    def breaks(picture: np.ndarray) -> int:
        if len(endpoint.asked) == 4:
            raise BrokenScores(message)
        return case.marked(picture)

    endpoint.answer = breaks
    state = tmp_path / "run.json"
    with pytest.raises(BrokenScores, match=f"{message}; the run stands at 3 symbols and can be resumed"):
        case.verify(endpoint, state=state)
    result = case.verify(endpoint, state=state)
    assert (result.verdict, result.symbols - result.hits) == ("shown", 1)


def test_a_run_killed_at_any_moment_is_resumed_with_the_question_under_way_lost(case: Case, tmp_path: Path) -> None:
    for moment in (2, 5):
        state = tmp_path / f"run{moment}.json"
        endpoint = FakeEndpoint(case.marked, name=f"fake://host{moment}/m")

        def killed(picture: np.ndarray, endpoint: FakeEndpoint = endpoint, moment: int = moment) -> int:
            if len(endpoint.asked) == moment:
                raise KeyboardInterrupt
            return case.marked(picture)

        endpoint.answer = killed
        with pytest.raises(KeyboardInterrupt):
            case.verify(endpoint, state=state)
        before = read_run(state)
        assert before.queries[-1].lost == "never answered"
        result = case.verify(endpoint, state=state)
        assert result.verdict == "shown"
        assert result.run.run_id == before.run_id
        assert result.symbols - result.hits == 1
        asked = [query.symbol for query in result.run.probes]
        assert asked == case.claim.order(before.run_id)[: len(asked)]


def test_a_run_whose_file_lags_behind_the_ledger_counts_what_the_ledger_knows(case: Case, tmp_path: Path) -> None:
    state = tmp_path / "run.json"
    steps: list[str] = []

    def stop() -> bool:
        if len(steps) == 3:
            return True
        steps.append(state.read_text())
        return False

    with pytest.raises(Interrupted, match="interrupted after 3 symbols"):
        case.verify(case.marked, state=state, stop=stop)
    state.write_text(steps[1])
    with pytest.raises(ClaimError, match="stands as a hit in the claim's ledger and otherwise in the run's file"):
        case.verify(case.marked, state=state)


def test_an_interrupted_run_goes_on_where_it_was(case: Case, tmp_path: Path) -> None:
    state = tmp_path / "run.json"
    asked = iter(range(100))
    with pytest.raises(Interrupted, match="no verdict yet"):
        case.verify(case.marked, state=state, stop=lambda: next(asked) >= 4)
    result = case.verify(case.marked, state=state)
    assert result.verdict == "shown"
    assert result.symbols == result.hits <= 11
    again = case.verify(FakeEndpoint(lambda picture: pytest.fail("asked although finished")), state=state)
    assert again.to_json() == result.to_json()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"alpha": 1e-6}, "alpha"), ({"budget": 10}, "budget"), ({"ledger": None}, "registered")],
)
def test_nothing_registered_may_change_on_resuming(case: Case, tmp_path: Path, options: dict, message: str) -> None:
    state = tmp_path / "run.json"
    with pytest.raises(Interrupted):
        case.verify(case.marked, state=state, stop=lambda: True)
    with pytest.raises(UsageError, match=f"begun with {message}"):
        case.verify(case.marked, state=state, **options)
    with pytest.raises(UsageError, match="begun with endpoint"):
        case.verify(FakeEndpoint(case.marked, name="fake://other"), state=state)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": "ptynet-run/v1"}', "\x00"])
def test_a_file_that_is_no_run_is_refused(case: Case, tmp_path: Path, content: str) -> None:
    state = tmp_path / "run.json"
    state.write_text(content)
    with pytest.raises(UsageError, match=r"run\.json: is no run to resume"):
        case.verify(case.marked, state=state)


def test_a_second_run_without_a_bundle_ends_as_soon_as_both_together_show_the_mark(case: Case) -> None:
    """Only what a third party is to be shown must be shown by the second run alone."""
    at_once = case.verify(FakeEndpoint(case.marked, name="fake://elsewhere/model"))
    with pytest.raises(Interrupted):
        case.verify(case.marked, stop=iter([False] * 7 + [True]).__next__)
    second = case.verify(case.marked)
    assert (second.verdict, at_once.verdict) == ("shown", "shown")
    assert second.run.earlier == [True] * 7
    assert len(second.run.probes) < len(at_once.run.probes)

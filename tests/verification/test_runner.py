"""The protocol's rules, each with a test that breaks when the rule is broken."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ptynet_plugin.claims.ledger import Ledger
from ptynet_plugin.errors import BadAnswer, ClaimError, TimedOut, UsageError
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.runner import Witnessed, run_protocol, verify
from tests.support.standins import FakeEndpoint
from tests.support.verification_case import DESIGN, KEY, Case, independent, make_claim


def test_a_marked_endpoint_is_shown_in_few_queries(case: Case) -> None:
    result = case.verify(case.marked)
    assert result.verdict == "shown"
    assert result.queries == result.symbols == result.hits <= 11
    assert result.p_value <= 1e-9
    assert result.null_rate == 0.1


def test_an_independent_endpoint_is_not_shown(case: Case) -> None:
    result = case.verify(independent)
    assert result.verdict == "not-shown"
    assert result.excluded_rate is not None
    assert result.excluded_rate < 1.0
    assert result.p_value > 1e-3


def test_the_order_follows_from_the_registered_run(case: Case) -> None:
    result = case.verify(case.marked)
    asked = [query.symbol for query in result.run.probes]
    assert asked == case.claim.order(result.run.run_id)[: len(asked)]
    ledger = [json.loads(line) for line in (case.folder / "ledger.jsonl").read_text().splitlines()]
    assert ledger[0]["kind"] == "run"
    assert [line["symbol"] for line in ledger if line["kind"] == "asked"] == asked


def test_the_run_is_registered_before_the_first_probe_and_after_the_benign_picture(case: Case) -> None:
    seen: list[tuple[int | None, int]] = []

    def answer(picture: np.ndarray) -> int:
        lines = (case.folder / "ledger.jsonl").read_text().splitlines()
        seen.append((case.symbol(picture), len(lines)))
        return case.marked(picture)

    case.verify(answer)
    assert seen[0] == (None, 0)
    assert seen[1][0] is not None
    assert seen[1][1] == 2  # the run and its first question stand in the ledger while the question is on its way


def test_a_symbol_is_asked_once_in_the_lifetime_of_claim_and_endpoint(case: Case) -> None:
    asked = [query.symbol for _ in range(3) for query in case.verify(case.marked).run.probes]
    assert len(asked) == len(set(asked))


def test_repeating_never_resets_the_evidence(case: Case) -> None:
    first = case.verify(independent)
    second = case.verify(case.marked)
    assert second.run.earlier == [query.hit for query in first.run.probes]
    assert second.verdict == "shown"
    fresh_alone = case.verify(FakeEndpoint(case.marked, name="fake://other/model"))
    assert second.symbols > fresh_alone.symbols


def test_a_repeated_run_that_now_finds_nothing_is_not_shown(case: Case) -> None:
    assert case.verify(case.marked).verdict == "shown"
    assert case.verify(independent).verdict != "shown"


def test_every_further_endpoint_costs_level(case: Case) -> None:
    results = [case.verify(FakeEndpoint(case.marked, name=f"fake://host{number}/m")) for number in (1, 2, 3)]
    assert [result.run.number for result in results] == [1, 2, 3]
    for number, result in enumerate(results, 1):
        assert math.isclose(result.run.alpha_spent, 6e-9 / (math.pi * number) ** 2)


def test_a_claim_is_used_up(case: Case) -> None:
    with pytest.raises(ClaimError, match="every symbol of the claim was asked at fake://suspect/model already"):
        for _ in range(200):
            case.verify(case.marked)


def test_the_sealed_reserve_is_never_asked(case: Case) -> None:
    sealed = set(range(DESIGN.symbols - case.claim.terms.reserve, DESIGN.symbols))
    assert sealed
    result = case.verify(independent, alpha=1e-30, budget=1000)
    assert not sealed & {query.symbol for query in result.run.probes}


@pytest.mark.parametrize("lost", [None, TimedOut("late"), BadAnswer("a web page")])
def test_ties_errors_and_lost_answers_are_misses(case: Case, lost: Exception | None) -> None:
    turn = Counter[str]()

    def answer(picture: np.ndarray) -> int | None:
        if case.symbol(picture) is None:
            return 3
        turn["probe"] += 1
        if turn["probe"] % 4 == 0:
            if lost is not None:
                raise lost
            return None
        return case.marked(picture)

    result = case.verify(answer)
    assert result.symbols == turn["probe"]
    assert result.hits == turn["probe"] - turn["probe"] // 4
    every_fourth = result.run.probes[3::4]
    assert not any(query.hit for query in every_fourth)
    assert all((query.lost is None) == (lost is None) for query in every_fourth)


def test_several_covers_are_one_majority_vote(case_of_three_covers: Case) -> None:
    case = case_of_three_covers
    turn = Counter[int]()

    def two_of_three(picture: np.ndarray) -> int:
        symbol = case.symbol(picture)
        if symbol is None:
            return 3
        turn[symbol] += 1
        right = case.questions.label(symbol)
        return right if turn[symbol] != 2 else (right + 1) % 10

    result = case.verify(two_of_three)
    assert result.verdict == "shown"
    assert result.queries == 3 * result.symbols
    assert result.hits == result.symbols
    assert sum(query.hit for query in result.run.probes) == 2 * result.symbols


def test_one_of_three_covers_is_a_miss(case_of_three_covers: Case) -> None:
    case = case_of_three_covers
    turn = Counter[int]()

    def one_of_three(picture: np.ndarray) -> int:
        symbol = case.symbol(picture)
        if symbol is None:
            return 3
        turn[symbol] += 1
        right = case.questions.label(symbol)
        return right if turn[symbol] == 1 else (right + turn[symbol]) % 10

    assert case.verify(one_of_three).hits == 0


def test_a_wrong_key_is_never_shown_and_never_registered(case: Case) -> None:
    wrong = OwnerKey(bytes(32))
    theirs = Questions(case.claim, wrong)
    result = case.verify(case.marked, questions=theirs)
    assert result.verdict == "not-shown"
    assert not result.key_is_claims
    assert not result.run.registered
    assert (case.folder / "ledger.jsonl").read_text() == ""
    by_picture = {theirs.probe(symbol, 0).tobytes(): theirs.label(symbol) for symbol in range(DESIGN.symbols)}
    made_to_fit = case.verify(lambda picture: by_picture.get(picture.tobytes(), 3), questions=theirs)
    assert made_to_fit.verdict == "inconclusive"


def test_uncommitted_pictures_are_refused_before_they_are_sent(case: Case) -> None:
    other = [np.full((20, 20, 3), 90, np.uint8)]
    endpoint = FakeEndpoint(case.marked)
    with pytest.raises(ClaimError, match="not those the claim committed to; give the --covers folder"):
        case.verify(endpoint, questions=Questions(case.claim, KEY, pictures=other))
    assert len(endpoint.asked) == 1
    assert "asked" not in (case.folder / "ledger.jsonl").read_text()


def test_a_small_budget_is_inconclusive(case: Case) -> None:
    result = case.verify(case.marked, budget=5)
    assert result.verdict == "inconclusive"
    assert result.symbols <= 5


@pytest.mark.parametrize(("options", "message"), [({"alpha": 0.0}, "--alpha is 0"), ({"budget": 0}, "--budget is 0")])
def test_impossible_options(case: Case, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        case.verify(case.marked, **options)


def test_a_witness_sees_every_question_with_its_bytes(case: Case) -> None:
    seen: list[Witnessed] = []
    result = case.verify(case.marked, witness=seen.append)
    assert [item.query for item in seen] == result.run.queries
    assert all(item.answer is not None and item.answer.request == item.picture.tobytes() for item in seen)


def test_a_rehearsal_without_a_ledger_is_no_evidence(case: Case) -> None:
    result = verify(FakeEndpoint(case.marked), claim=case.claim, key=KEY)
    assert result.grade == "rehearsal: not registered, no evidence"


def test_the_ledger_keeps_parallel_runs_out(case: Case) -> None:
    with Ledger(case.folder, digest=case.claim.digest), pytest.raises(ClaimError, match="another"):
        case.verify(case.marked)


JSON_FIELDS = {
    "schema": str, "verdict": str, "alpha": float, "p_value": float, "log10_p": float, "log10_p_adjusted": float,
    "e_value": float, "queries": int, "symbols": int, "hits": int, "null_rate": float, "answers": str, "endpoint": str,
    "started": str, "finished": str, "transcript": list,
}  # fmt: skip


def test_the_json_has_the_promised_fields(case: Case) -> None:
    body = json.loads(json.dumps(case.verify(case.marked).to_json(), allow_nan=False))
    assert {name: type(body[name]) for name in JSON_FIELDS} == JSON_FIELDS
    assert len(body["transcript"]) == body["queries"]
    assert {"symbol", "cover", "answer", "hit"} <= set(body["transcript"][0])
    assert body["grade"] == "party evidence, unstamped"
    assert body["log10_p_adjusted"] == min(0.0, body["log10_p"] + 64 * math.log10(2))


def test_a_thousand_classes_need_few_queries(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    case = Case(make_claim(classes=1000), tmp_path / "c")
    assert case.verify(case.marked).queries <= 5


def test_no_key_bytes_in_what_is_written(case: Case, tmp_path: Path) -> None:
    state = tmp_path / "run.json"
    text = json.dumps(case.verify(case.marked, state=state).to_json()) + state.read_text()
    for secret in (KEY.secret, KEY.probe_secret(), KEY.epoch_secret()):
        assert secret.hex() not in text
    assert state.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("skewed", [True, False])
def test_hits_by_chance_are_as_rare_as_promised(skewed: bool, case: Case) -> None:
    """Models that know nothing of the key: seeded; of 40 p-values one below 1/40 is what uniform ones would give."""
    rng = np.random.default_rng(8)
    low = 0
    for run in range(40):
        guess = (lambda p, a=run % 10: a) if skewed else (lambda p: int(rng.integers(10)))
        low += run_protocol(FakeEndpoint(guess), case.questions, budget=15, alpha=1e-3).p_value <= 0.025
    assert low <= 3

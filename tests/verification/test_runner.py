"""The protocol's rules, each with a test that breaks when the rule is broken."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ptynet_plugin.claims.ledger import Ledger
from ptynet_plugin.errors import BadAnswer, ClaimError, EndpointError, TimedOut, Unreachable, UsageError
from ptynet_plugin.images.resize import resize
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.statistics.class_map import ClassMap
from ptynet_plugin.verification.answers import BrokenScores
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.run import read_run
from ptynet_plugin.verification.runner import Interrupted, Witnessed, run_protocol, verify
from tests.support.standins import FakeEndpoint
from tests.support.verification_case import DESIGN, KEY, SPEC, Case, make_claim


def independent(picture: np.ndarray) -> int:
    """A model that knows nothing of the key; very skewed."""
    return int(picture.mean() > 128) * 7


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


def test_a_view_is_frozen_by_the_registration(case: Case, tmp_path: Path) -> None:
    state = tmp_path / "run.json"
    with pytest.raises(Interrupted):
        case.verify(case.marked, state=state, stop=lambda: True)
    with pytest.raises(UsageError, match="begun with view 'plain', not 'mirrored'"):
        case.verify(case.marked, state=state, questions=Questions(case.claim, KEY, view="mirrored"))


def test_a_map_of_another_length_is_refused(case: Case) -> None:
    with pytest.raises(UsageError, match="3 entries, the claim 10 classes"):
        Questions(case.claim, KEY, class_map=ClassMap((0, 1, 2)))


def test_a_small_budget_is_inconclusive(case: Case) -> None:
    result = case.verify(case.marked, budget=5)
    assert result.verdict == "inconclusive"
    assert result.symbols <= 5


@pytest.mark.parametrize(("options", "message"), [({"alpha": 0.0}, "--alpha is 0"), ({"budget": 0}, "--budget is 0")])
def test_impossible_options(case: Case, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        case.verify(case.marked, **options)


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

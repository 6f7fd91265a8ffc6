from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from ptynet_plugin.claims.ledger import Ledger
from ptynet_plugin.codes.pirates import ERASED, Strategy, combined
from ptynet_plugin.errors import BadAnswer, EndpointError, Unreachable, UsageError
from ptynet_plugin.statistics.class_map import ClassMap
from ptynet_plugin.tracing.reading import trace_order
from ptynet_plugin.tracing.scales import Presence
from ptynet_plugin.tracing.trace import require_classes, require_traceable, trace_endpoint
from ptynet_plugin.verification.events import Interrupted
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.runner import run_protocol
from tests.support.standins import FakeEndpoint
from tests.tracing.conftest import KEY, TraceCase


def asked_of(case: TraceCase) -> list[int]:
    lines = [json.loads(line) for line in (case.folder / "ledger.jsonl").read_text().splitlines()]
    return [line["symbol"] for line in lines if line["kind"] == "asked"]


def pirate(case: TraceCase, colluders: list[int], strategy: Strategy, seed: int) -> Callable[[int], int | None]:
    """A coalition: on pairs as the strategy says, on quick symbols the label of a random member."""
    rng, terms = np.random.default_rng(seed), case.claim.terms
    words = np.stack([case.tables.code.word(copy) for copy in colluders])
    answers, tables = combined(words, strategy, error_rate=0.0, rng=rng), [case.tables.table(n) for n in colluders]

    def answer(symbol: int) -> int | None:
        if symbol in terms.pairs:
            bit = answers[symbol]
            return None if bit == ERASED else int(case.tables.pairs[symbol, 0 if bit else 1])
        return int(tables[rng.integers(len(colluders))][symbol])

    return answer


@pytest.mark.parametrize("number", [1, 37, 1000])
def test_a_leaker_is_named_from_labels_alone(ten: TraceCase, number: int) -> None:
    result = ten.trace(ten.copy(number))
    assert (result.verdict, result.accused) == ("traced", (number,))
    assert result.answers == "labels"
    assert set(asked_of(ten)) <= set(ten.claim.terms.quick)
    assert result.symbols <= 24


@pytest.mark.parametrize("number", [2, 654_321])
def test_twelve_questions_name_one_of_a_million_at_one_in_a_billion(many: TraceCase, number: int) -> None:
    result = many.trace(many.copy(number), copies=1_000_000, fwer=1e-9)
    assert result.accused == (number,)
    assert result.queries <= 12


def test_the_quick_symbols_survive_a_quarter_of_wrong_answers(many: TraceCase) -> None:
    table, rng = many.tables.table(7), np.random.default_rng(3)
    result = many.trace(lambda symbol: int(table[symbol]) if rng.random() > 0.25 else 0, fwer=1e-9)
    assert result.accused == (7,)


@pytest.mark.parametrize("strategy", list(Strategy))
def test_two_colluders_are_named_and_nobody_else(ten: TraceCase, strategy: Strategy) -> None:
    result = ten.trace(pirate(ten, [12, 40], strategy, seed=5), copies=100, to_the_end=True)
    assert result.verdict == "traced"
    assert set(result.accused) <= {12, 40}


def test_without_quick_answers_the_pairs_name_colluders(ten: TraceCase) -> None:
    coalition = pirate(ten, [3, 8], Strategy.MAJORITY, seed=1)
    result = ten.trace(lambda s: None if s in ten.claim.terms.quick else coalition(s), copies=20, to_the_end=True)
    assert set(result.accused) & {3, 8}
    assert set(result.accused) <= {3, 8}


def test_with_few_classes_pairs_name_and_single_labels_tell_of_absence(few: TraceCase) -> None:
    named = few.trace(few.copy(5), copies=50)
    assert named.accused == (5,)
    absent = few.trace(few.suspect(lambda symbol: symbol % 4, name="fake://other"), copies=50, trace=2)
    assert absent.verdict == "no-customer"
    assert set(asked_of(few)) & set(few.claim.terms.singles)


@pytest.mark.parametrize("seed", range(6))
def test_an_endpoint_without_the_mark_names_nobody(ten: TraceCase, seed: int) -> None:
    rng = np.random.default_rng(seed)
    result = ten.trace(lambda symbol: int(rng.integers(10)))
    assert result.verdict == "no-customer"
    assert result.accused == ()
    assert result.excluded_share is not None and result.excluded_share <= 0.3


def test_an_unknown_copy_of_the_key_is_marked_and_nobody_is_named(ten: TraceCase) -> None:
    result = ten.trace(ten.copy(900), copies=500)
    assert result.verdict == "inconclusive"
    assert result.mark_log10_p is not None and result.mark_log10_p < -20


def test_the_order_follows_from_the_run_alone(ten: TraceCase) -> None:
    result = ten.trace(ten.copy(3), to_the_end=True, budget=60)
    order = trace_order(ten.claim, result.run.run_id)
    assert asked_of(ten) == order[:60]
    assert set(order[:34]) == set(ten.claim.terms.quick)
    assert set(order) == set(ten.claim.terms.quick) | set(ten.claim.terms.pairs)
    assert trace_order(ten.claim, "another run") != order


def test_a_symbol_is_never_asked_twice_and_its_first_answer_stays(ten: TraceCase) -> None:
    first = ten.trace(ten.copy(3), budget=25, to_the_end=True)
    framed = ten.suspect(ten.copy(77))  # the same address answers from another copy now
    again = ten.trace(framed, trace=2, budget=20)
    assert again.reused == first.symbols
    assert len(asked_of(ten)) == len(set(asked_of(ten)))
    assert again.accused == (3,)
    assert len(framed.asked) == 1  # the benign picture alone: copy 3 is named from the ledger


def test_reading_again_and_again_never_names_an_innocent(ten: TraceCase) -> None:
    """Four readings of every symbol turned 5e-4 false accusations into 1.1e-2 in the prototype; here they change nothing."""
    rng = np.random.default_rng(2)
    evidence = []
    for trace in range(1, 5):
        result = ten.trace(lambda symbol: int(rng.integers(10)), trace=trace, to_the_end=True, fwer=0.5)
        evidence.append(result.log_evidence)
    assert all(np.array_equal(evidence[0], other) for other in evidence[1:])
    assert len(asked_of(ten)) == 330


def test_what_verify_asked_is_read_from_the_ledger(ten: TraceCase) -> None:
    leak = ten.suspect(ten.copy(21))
    with Ledger(ten.folder, digest=ten.claim.digest) as ledger:
        shown = run_protocol(leak, ten.questions, ledger=ledger)
    assert shown.verdict == "shown"
    result = ten.trace(leak, to_the_end=True)
    assert result.reused == shown.symbols
    assert len(asked_of(ten)) == len(set(asked_of(ten))) == 330
    assert (result.readback.right, result.readback.wrong, result.readback.erased) == (296, 0, 0)


def test_verify_counts_what_a_trace_asked_of_the_pairs_alone(ten: TraceCase) -> None:
    ten.trace(ten.copy(21), to_the_end=True, budget=50)
    lines = [json.loads(line) for line in (ten.folder / "ledger.jsonl").read_text().splitlines()]
    hits = {line["symbol"] for line in lines if line["kind"] == "answered" and line["hit"]}
    assert len(hits) == 16 and hits <= set(ten.claim.terms.ownership), "a quick symbol shows no ownership"
    with Ledger(ten.folder, digest=ten.claim.digest) as ledger:
        shown = run_protocol(ten.suspect(ten.copy(21)), ten.questions, ledger=ledger)
    assert shown.verdict == "shown"
    assert len(shown.run.earlier) == 16  # 50 less the 34 quick symbols
    assert sum(shown.run.earlier) == 16


def test_lost_answers_are_erasures_once_and_for_ever(ten: TraceCase) -> None:
    table = ten.tables.table(4)

    def flaky(symbol: int) -> int:
        if symbol % 3 == 0:
            raise BadAnswer("lost")
        return int(table[symbol])

    result = ten.trace(flaky, to_the_end=True)
    assert result.accused == (4,)
    assert result.readback.erased == len([s for s in ten.claim.terms.pairs if s % 3 == 0])
    again = ten.trace(ten.copy(4), trace=2, to_the_end=True)
    assert again.readback == result.readback


def test_a_dead_endpoint_ends_the_trace_and_loses_nothing(ten: TraceCase) -> None:
    turn = {"probes": 0}

    def dying(picture: np.ndarray) -> int:
        turn["probes"] += 1
        if turn["probes"] > 6:
            raise Unreachable("connection refused")
        symbol = ten.symbols.get(picture.tobytes())
        return 0 if symbol is None else int(ten.tables.table(9)[symbol])

    endpoint = ten.suspect(ten.copy(9))
    endpoint.answer = dying
    with pytest.raises(EndpointError, match="benign pictures are lost as well"):
        ten.trace(endpoint)
    result = ten.trace(ten.copy(9), trace=2)
    assert result.accused == (9,)
    assert result.reused >= 5


def test_interrupted_it_says_that_the_answers_are_kept(ten: TraceCase) -> None:
    with pytest.raises(Interrupted, match="the next trace reads them"):
        ten.trace(ten.copy(9), stop=lambda: len(asked_of(ten)) >= 5)
    assert ten.trace(ten.copy(9), trace=2).reused == 5


def test_the_threshold_of_a_copy_does_not_move_when_the_registry_grows(ten: TraceCase) -> None:
    small = ten.trace(ten.copy(3), budget=10, copies=10)
    large = ten.trace(ten.copy(3), budget=10, copies=100_000, trace=1)
    assert np.array_equal(small.log_threshold, large.log_threshold[:10])
    assert np.all(np.diff(large.log_threshold) > 0)
    later = ten.trace(ten.copy(3), copies=10, trace=3)
    assert np.allclose(later.log_threshold - small.log_threshold, np.log(9))


def test_an_endpoint_that_refuses_probes_alone_clears_nobody(ten: TraceCase) -> None:
    """A filter in front of a copy turns its probes down and lets ordinary pictures pass: that is no sign of innocence."""
    result = ten.trace(lambda symbol: None)
    assert result.verdict == "inconclusive"
    assert result.excluded_share is not None and result.excluded_share <= 0.3
    assert any(note.startswith("probes are refused where benign pictures are answered") for note in result.notes)


def test_a_copy_behind_a_mirror_is_named_from_mirrored_probes(ten: TraceCase) -> None:
    """What a plain trace did not hear stays unread, excludes nothing in the other view, and frames nobody."""
    plain = ten.suspect(ten.copy(21))
    behind = FakeEndpoint(
        lambda picture: plain.answer(np.ascontiguousarray(picture[:, ::-1])), name=plain.info().address
    )
    first = ten.trace(behind)
    assert first.verdict == "no-customer"
    mirrored = Questions(ten.claim, KEY, view="mirrored")
    with Ledger(ten.folder, digest=ten.claim.digest) as ledger:
        second = trace_endpoint(behind, mirrored, ten.tables, copies=1000, trace=2, ledger=ledger)
    assert (second.verdict, second.accused) == ("traced", (21,))
    assert second.reused == first.symbols
    assert second.to_json({})["view"] == "mirrored"
    lines = [json.loads(line) for line in (ten.folder / "ledger.jsonl").read_text().splitlines()]
    assert [line["facts"].get("view") for line in lines if line["kind"] == "run"] == [None, "mirrored"]


def test_a_second_trace_in_the_same_view_goes_on_where_the_first_stopped(ten: TraceCase) -> None:
    absent, mirrored = ten.suspect(lambda symbol: 0), Questions(ten.claim, KEY, view="mirrored")
    with Ledger(ten.folder, digest=ten.claim.digest) as ledger:
        first = trace_endpoint(absent, mirrored, ten.tables, copies=1000, trace=1, ledger=ledger)
        again = trace_endpoint(absent, mirrored, ten.tables, copies=1000, trace=2, ledger=ledger)
        assert first.excluded_share is not None
        assert (again.symbols, again.excluded_share) == (0, first.excluded_share)


def test_an_answer_in_another_view_counts_for_the_mark_and_excludes_nothing(ten: TraceCase) -> None:
    plain, other = Presence(ten.claim.terms), Presence(ten.claim.terms)
    for symbol in list(ten.claim.terms.ownership)[:40]:
        plain.observe(symbol, hit=False)
        other.observe(symbol, hit=False, same_view=False)
    assert plain.log10_p == other.log10_p is not None
    assert (plain.absent, other.absent, other.excluded_share) == (True, False, None)


def test_answers_read_through_a_class_map_are_erasures_with_their_own_null(ten: TraceCase) -> None:
    """The ledger holds the endpoint's classes there, and hits that were likelier than 2/C."""
    merged = (0, 0, 0, 0, 0, 5, 6, 7, 8, 9)
    leak = ten.suspect(lambda symbol: merged[ten.tables.table(21)[symbol]])
    mapped = Questions(ten.claim, KEY, class_map=ClassMap(merged))
    with Ledger(ten.folder, digest=ten.claim.digest) as ledger:
        shown = run_protocol(leak, mapped, ledger=ledger)
    result = ten.trace(leak, budget=1)  # one quick symbol, which shows no ownership
    assert result.reused == shown.symbols
    assert result.mark_log10_p == pytest.approx(shown.log10_p)
    assert (result.readback.right, result.readback.wrong, result.readback.erased) == (0, 0, shown.symbols)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"copies": 0}, "the registry knows no copy of this claim"),
        ({"fwer": 0.0}, "--fwer is 0"),
        ({"fwer": 1.5}, "--fwer is 1.5"),
        ({"coalition": 0}, "--coalition is 0, expected 1 to 32"),
        ({"budget": 0}, "--budget is 0, one symbol alone needs 1 probes"),
    ],
)
def test_what_cannot_be_traced_is_refused(ten: TraceCase, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ten.trace(ten.copy(1), **options)
    assert asked_of(ten) == []


def test_another_key_and_other_classes_are_refused(ten: TraceCase) -> None:
    theirs = Questions(ten.claim, type(KEY)(bytes(32)))
    with pytest.raises(UsageError, match="this key did not make the claim"):
        require_traceable(theirs, copies=1, fwer=1e-6, coalition=4)
    mapped = Questions(ten.claim, KEY, class_map=ClassMap.identity(10))
    with pytest.raises(UsageError, match="a class map merges labels"):
        require_traceable(mapped, copies=1, fwer=1e-6, coalition=4)
    with pytest.raises(UsageError, match="tells 5 classes apart, a copy's labels are drawn from 10"):
        require_classes(5, ten.claim.terms)


def test_the_json_has_everything_and_only_what_json_can_hold(ten: TraceCase) -> None:
    result = ten.trace(pirate(ten, [1, 2], Strategy.ERASE, seed=0), to_the_end=True, copies=30)
    value = json.loads(json.dumps(result.to_json({}), allow_nan=False))
    assert value["schema"] == "ptynet-trace/v1"
    assert len(value["bits"]) == 296
    assert set(value["bits"]) <= set("01-.")
    assert len(value["log10_evidence"]) == 30
    assert value["bits"].count("-") == value["readback"]["erased"]
    assert {"copy", "customer", "revoked", "log10_e", "log10_threshold"} == set(value["strongest"][0])

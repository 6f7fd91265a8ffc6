"""`verify` under a claim for copies: a hit is an answer in the symbol's pair, by chance 2 in C."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ptynet_plugin.claims.terms import CopyTerms
from ptynet_plugin.statistics.class_map import ClassMap
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.report import render_report
from tests.support.verification_case import KEY, SPEC, Case, make_claim

COPIES = CopyTerms(positions=88, quick=12, coalition=4)


@pytest.fixture(scope="module")
def copies_once(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(make_claim(copies=COPIES), tmp_path_factory.mktemp("copies"))


@pytest.fixture
def case(copies_once: Case, tmp_path: Path) -> Case:
    return copies_once.in_folder(tmp_path)


def copy_model(case: Case, bits: np.ndarray):
    """A copy's model: on pair symbols the label its bit says, on others the single label."""
    pairs = case.claim.pairs(KEY.epoch_secret())

    def answer(picture: np.ndarray) -> int:
        symbol = case.symbol(picture)
        if symbol is None:
            return 3
        if symbol < len(bits):
            return int(pairs[symbol, 0 if bits[symbol] else 1])
        return case.questions.label(symbol)

    return answer


@pytest.mark.parametrize("seed", range(3))
def test_every_copy_shows_the_mark(case: Case, seed: int) -> None:
    bits = np.random.default_rng(seed).integers(0, 2, 88)
    result = case.verify(copy_model(case, bits))
    assert result.verdict == "shown"
    assert result.null_rate == result.to_json()["null_rate"] == 0.2
    assert {query.symbol for query in result.run.probes} <= set(range(88))
    assert "by chance two in 10" in render_report(result, case.questions)


def test_the_ledger_holds_the_class_that_was_answered(case: Case) -> None:
    result = case.verify(copy_model(case, np.ones(88, int)))
    lines = [json.loads(line) for line in (case.folder / "ledger.jsonl").read_text().splitlines()]
    noted = {line["symbol"]: line["facts"]["answer"] for line in lines if line["kind"] == "answered"}
    assert noted == {query.symbol: query.answer for query in result.run.probes}


def test_an_independent_model_is_not_shown(case: Case) -> None:
    result = case.verify(lambda picture: int(picture.sum()) % 10)
    assert result.verdict == "not-shown"


def test_chance_hits_two_in_c_whatever_the_answer(case: Case) -> None:
    pairs = case.claim.pairs(KEY.epoch_secret())
    hits = np.array([[case.questions.hit(symbol, answer) for symbol in range(88)] for answer in range(10)])
    assert hits.sum() == 2 * 88  # over all ten answers exactly two hit, for every symbol
    assert np.array_equal(np.sort(np.argwhere(hits.T)[:, 1].reshape(88, 2)), np.sort(pairs))


@pytest.mark.parametrize("to_endpoint", [(0, 0, 0, 1, 1, 2, None, None), (0,) * 8, (None,) * 7 + (3,)])
def test_the_null_rate_of_a_pair_under_a_class_map_is_exact(to_endpoint: tuple[int | None, ...]) -> None:
    mapped = ClassMap(to_endpoint)
    pairs = list(itertools.permutations(range(8), 2))
    for answer in (0, 1, 2, 3, None):
        hits = sum(any(mapped.hit(label, answer) for label in pair) for pair in pairs)
        assert mapped.pair_null_rate(answer) == pytest.approx(float(Fraction(hits, len(pairs))))
    assert ClassMap.identity(8).pair_null_rate(5) == pytest.approx(2 / 8)


def test_merged_classes_show_a_copy_with_their_own_null_rates(case: Case) -> None:
    class_map = ClassMap(tuple(index % 5 for index in range(10)))
    questions = Questions(case.claim, KEY, spec=SPEC.model_copy(update={"classes": 5}), class_map=class_map)
    model = copy_model(case, np.zeros(88, int))
    result = case.verify(lambda picture: model(picture) % 5, questions=questions)
    assert result.verdict == "shown"
    lines = [json.loads(line) for line in (case.folder / "ledger.jsonl").read_text().splitlines()]
    rates = {float(line["null_rate"]) for line in lines if line["kind"] == "answered"}
    assert {round(rate, 12) for rate in rates} == {round(1 - 8 * 7 / 90, 12)}


def test_covers_that_hit_both_labels_of_a_pair_are_no_agreement(tmp_path: Path) -> None:
    case = Case(make_claim(covers=3, copies=COPIES), tmp_path)
    pairs, turn = case.claim.pairs(KEY.epoch_secret()), itertools.count()

    def answer(picture: np.ndarray) -> int | None:
        symbol = case.symbol(picture)
        if symbol is None or symbol >= 88:
            return 3
        return [int(pairs[symbol, 0]), int(pairs[symbol, 1]), None][next(turn) % 3]

    result = case.verify(answer, budget=30)
    assert sum(query.hit for query in result.run.probes) == 2 * result.symbols > 0
    assert result.hits == 0

"""Words of copies: the same for ever, biased as promised, independent of each other."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from ptynet_plugin.codes.decoder import ERASED, UNASKED, Decoder, log_threshold
from ptynet_plugin.codes.pirates import Strategy, answer_given_bit, answer_rates
from ptynet_plugin.codes.quick import LOST, QuickCode
from ptynet_plugin.codes.tardos import CopyCode, discrete_biases
from ptynet_plugin.statistics.eprocess import log_sum

SECRET = bytes(range(32))

KEPT_WORDS = "54eda50a071d72b93da1d4886707baf9"
KEPT_LEVELS = "0101110100100100100101111000101000000111000001010111001011111001"
KEPT_LABELS = [[621, 273, 663, 158], [776, 393, 606, 520]]


def test_biases_are_the_published_ones() -> None:
    biases, weights = discrete_biases(4)
    assert biases == pytest.approx([0.21132, 0.78868], abs=5e-6)
    assert weights == pytest.approx([0.5, 0.5])
    assert discrete_biases(2)[0] == pytest.approx([0.5])
    assert discrete_biases(6)[1].sum() == pytest.approx(1.0)
    with pytest.raises(ValueError, match="coalition"):
        discrete_biases(0)


def test_words_are_kept_for_ever() -> None:
    code = CopyCode(SECRET, positions=64)
    assert code.words(1, 2).tobytes().hex() == KEPT_WORDS
    assert "".join(map(str, code.levels())) == KEPT_LEVELS
    assert QuickCode(SECRET, symbols=4, classes=1000).labels(7, 2).tolist() == KEPT_LABELS


def test_a_word_depends_on_its_number_alone() -> None:
    code = CopyCode(SECRET)
    many = code.words(1, 40)
    assert np.array_equal(many[16], code.words(17, 1)[0])
    assert np.array_equal(np.packbits(code.word(17)), many[16])
    assert len({word.tobytes() for word in many}) == 40


@pytest.mark.parametrize("coalition", [2, 4, 6])
def test_every_bit_has_its_positions_bias(coalition: int) -> None:
    code = CopyCode(SECRET, positions=64, coalition=coalition)
    ones = np.unpackbits(code.words(1, 4000), axis=1).sum(axis=0)
    expected = code.biases()[code.levels()]
    assert max(abs(ones - 4000 * expected) / np.sqrt(4000 * expected * (1 - expected))) < 4.5


def test_levels_are_drawn_with_their_weights() -> None:
    levels = np.bincount(CopyCode(SECRET, positions=4096, coalition=6).levels(), minlength=3)
    _, weights = discrete_biases(6)
    assert levels / 4096 == pytest.approx(weights, abs=0.04)


def test_other_secrets_lengths_and_coalitions_give_other_words() -> None:
    words = {
        CopyCode(secret, positions=positions, coalition=coalition).words(1, 1)[0, :8].tobytes()
        for secret, positions, coalition in ((SECRET, 512, 4), (bytes(32), 512, 4), (SECRET, 1024, 4), (SECRET, 512, 3))
    }
    assert len(words) == 4


@pytest.mark.parametrize(("positions", "coalition"), [(0, 4), (12, 4), (-8, 4), (64, 0)])
def test_impossible_codes_are_refused(positions: int, coalition: int) -> None:
    with pytest.raises(ValueError, match=r"positions|coalition"):
        CopyCode(SECRET, positions=positions, coalition=coalition)


@pytest.mark.parametrize(("first", "count"), [(0, 1), (-3, 2), (1, -1)])
def test_copies_are_numbered_from_one(first: int, count: int) -> None:
    with pytest.raises(ValueError, match="numbered from 1"):
        CopyCode(SECRET).words(first, count)


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("coalition", [1, 2, 3, 4])
def test_pirates_answer_alike_where_their_copies_agree(strategy: Strategy, coalition: int) -> None:
    assert answer_rates(strategy, 0, coalition) == (1.0, 0.0, 0.0)
    assert answer_rates(strategy, coalition, coalition) == (0.0, 1.0, 0.0)
    for ones in range(coalition + 1):
        assert sum(answer_rates(strategy, ones, coalition)) == pytest.approx(1.0)
    table = answer_given_bit(strategy, coalition=coalition, bias=0.3, error_rate=0.05)
    assert table.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert table.min() > 0


def test_every_factor_has_expectation_one_for_an_innocent() -> None:
    decoder = Decoder(CopyCode(SECRET))
    for level, bias in enumerate(decoder.code.biases()):
        zero, one = np.exp(decoder.log_factors[:, level]).transpose(1, 0, 2)
        assert bias * one + (1 - bias) * zero == pytest.approx(np.ones_like(one), abs=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_the_mixture_has_expectation_one_by_enumeration_of_all_words(seed: int) -> None:
    """Whatever the answers are: all 256 words of 8 positions, weighted with their probabilities."""
    code = CopyCode(SECRET, positions=8)
    answers = np.random.default_rng(seed).integers(0, 4, 8).astype(np.int8)
    words = np.array(list(product((0, 1), repeat=8)), dtype=np.uint8)
    bias = code.biases()[code.levels()]
    probability = np.prod(np.where(words, bias, 1 - bias), axis=1)
    evidence = Decoder(code).log_evidence(np.packbits(words, axis=1), answers)
    assert probability @ np.exp(evidence) == pytest.approx(1.0, abs=1e-9)


def test_evidence_is_the_mixture_of_products_position_by_position() -> None:
    code = CopyCode(SECRET, positions=104)
    decoder = Decoder(code)
    answers = np.random.default_rng(1).integers(0, 4, 104).astype(np.int8)
    asked = answers != UNASKED
    bits = code.word(3)[asked]
    by_hand = decoder.log_factors[:, code.levels()[asked], bits, answers[asked]].sum(axis=1)
    expected = log_sum(by_hand - math.log(len(by_hand)))
    assert decoder.log_evidence(code.words(3, 1), answers) == pytest.approx([float(expected)], abs=1e-9)
    assert decoder.log_evidence_of_all(5, answers)[2] == pytest.approx(float(expected), abs=1e-9)


def test_counting_bits_works_without_the_newest_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    code = CopyCode(SECRET, positions=104)
    answers = code.word(3).astype(np.int8)
    expected = Decoder(code).log_evidence_of_all(5, answers)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert Decoder(code).log_evidence_of_all(5, answers) == pytest.approx(expected)


def test_nothing_asked_is_no_evidence() -> None:
    code = CopyCode(SECRET)
    assert Decoder(code).log_evidence_of_all(3, np.full(512, UNASKED, dtype=np.int8)) == pytest.approx(np.zeros(3))


@pytest.mark.parametrize("answers", [np.zeros(8, np.int8), np.full(512, 4, np.int8), np.full(512, -1, np.int8)])
def test_answers_of_another_code_are_refused(answers: np.ndarray) -> None:
    with pytest.raises(ValueError, match="answers must be 512"):
        Decoder(CopyCode(SECRET)).log_evidence(CopyCode(SECRET).words(1, 1), answers)


def test_thresholds_of_all_copies_and_traces_share_eps() -> None:
    copies = np.arange(1, 200_000)
    shares = [np.exp(-log_threshold(copies, trace=trace, eps=1e-3)).sum() for trace in range(1, 400)]
    assert 0.99e-3 < sum(shares) < 1e-3
    with pytest.raises(ValueError, match="traces count from 1"):
        log_threshold(1, trace=0, eps=1e-6)


def pirate_answers(
    code: CopyCode, copies: list[int], strategy: Strategy, *, error_rate: float, seed: int
) -> np.ndarray:
    """What a coalition of these copies answers at every position."""
    rng = np.random.default_rng(seed)
    ones = np.sum([code.word(copy) for copy in copies], axis=0)
    rates = np.array([answer_rates(strategy, count, len(copies)) for count in range(len(copies) + 1)])[ones]
    answers = (rng.random((len(ones), 1)) > rates.cumsum(axis=1)).sum(axis=1).clip(0, ERASED)
    wrong = (rng.random(len(ones)) < error_rate) & (answers < ERASED)
    return np.where(wrong, 1 - answers, answers).astype(np.int8)


@pytest.mark.parametrize("strategy", Strategy)
def test_innocents_are_not_accused_and_two_colluders_are(strategy: Strategy) -> None:
    """512 positions, 5 % bit errors, 1000 copies: at least one of the two is named, and nobody else."""
    traced = 0
    for run in range(6):
        code = CopyCode(bytes([run]) * 32)
        guilty = [100 + run, 500 + run]
        answers = pirate_answers(code, guilty, strategy, error_rate=0.05, seed=run)
        decoder = Decoder(code)
        named = decoder.accused(decoder.log_evidence_of_all(1000, answers), trace=1, eps=1e-6)
        assert set(named) <= set(guilty)
        traced += bool(named)
    assert traced >= 5


@pytest.mark.parametrize("strategy", Strategy)
def test_false_accusations_stay_below_the_bound_where_the_bound_is_loose_enough_to_see(strategy: Strategy) -> None:
    """Evidence of innocents exceeds 1/alpha with probability at most alpha, against four colluders."""
    code = CopyCode(SECRET, positions=256)
    answers = pirate_answers(code, [1, 2, 3, 4], strategy, error_rate=0.05, seed=3)
    evidence = Decoder(code).log_evidence_of_all(20_004, answers)[4:]
    for alpha in (0.1, 0.01):
        above = int((evidence >= -math.log(alpha)).sum())
        assert binomtest(above, len(evidence), alpha, alternative="greater").pvalue > 1e-4


def test_one_leaker_needs_about_a_hundred_probes() -> None:
    """95 % power at 5 % bit errors against n / eps = 1e9; published in our documents as 88."""
    needed = []
    for run in range(60):
        code = CopyCode(run.to_bytes(32, "big"), positions=256)
        answers = pirate_answers(code, [1], Strategy.COIN, error_rate=0.05, seed=run)
        decoder = Decoder(code)
        factors = decoder.log_factors[:, code.levels(), code.word(1), answers]
        evidence = log_sum(np.cumsum(factors, axis=1).T - math.log(len(factors)))
        needed.append(np.argmax(evidence >= math.log(1e9)) + 1)
    assert np.quantile(needed, 0.95) == pytest.approx(88, rel=0.15)


def test_accused_are_named_strongest_first() -> None:
    decoder = Decoder(CopyCode(SECRET))
    assert decoder.accused(np.array([0.0, 40.0, 50.0, 10.0]), trace=1, eps=1e-6, first=7) == [9, 8]


def test_twelve_questions_name_one_of_a_million_at_a_thousand_classes() -> None:
    code = QuickCode(SECRET, symbols=12, classes=1000)
    answers = code.labels(654_321, 1)[0]
    answers[[2, 9]] = LOST
    evidence = code.log_evidence(1, 1_000_000, answers)
    named = np.flatnonzero(evidence >= log_threshold(np.arange(1, 1_000_001), trace=1, eps=1e-9)) + 1
    assert named.tolist() == [654_321]


def test_quick_labels_are_uniform_and_independent_of_their_neighbours() -> None:
    labels = QuickCode(SECRET, symbols=12, classes=7).labels(1, 3000)
    counts = np.bincount(labels.ravel(), minlength=7)
    assert max(abs(counts - labels.size / 7)) < 4.5 * math.sqrt(labels.size * 6 / 49)
    assert np.array_equal(labels[10:12], QuickCode(SECRET, symbols=12, classes=7).labels(11, 2))


@pytest.mark.parametrize(("symbols", "classes"), [(3, 10), (0, 10), (4, 1)])
def test_impossible_quick_codes_are_refused(symbols: int, classes: int) -> None:
    with pytest.raises(ValueError, match=r"even number|at least 2"):
        QuickCode(SECRET, symbols=symbols, classes=classes)

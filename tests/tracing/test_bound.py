"""Attempts to have an innocent named: the bound is held against what pirates and time can do, with seeds."""

from __future__ import annotations

import numpy as np
import pytest

from ptynet_plugin.codes.decoder import ERASED, Decoder, log_threshold
from ptynet_plugin.codes.evidence import Answers, CopyEvidence
from ptynet_plugin.codes.pirates import Strategy, combined
from ptynet_plugin.codes.quick import QuickCode
from ptynet_plugin.codes.tardos import CopyCode

INNOCENTS, RUNS = 400, 60


def codes(rng: np.random.Generator) -> CopyEvidence:
    code = CopyCode(rng.bytes(32), positions=128)
    return CopyEvidence(Decoder(code), QuickCode(rng.bytes(32), symbols=12, classes=10))


def framing(evidence: CopyEvidence, rng: np.random.Generator, kind: str) -> Answers:
    """What a coalition of the copies 1 to 3 answers when it wants somebody else named."""
    words = np.unpackbits(evidence.decoder.code.words(1, 3), axis=1)
    ones = words.sum(axis=0)
    assert evidence.quick is not None
    labels = evidence.quick.labels(1, 3)
    bits = {
        "likely": np.where(ones == 0, 0, 1),  # lean to the bit an innocent is likely to hold, guessed from one's own
        "unlikely": np.where(ones == 3, 1, 0),
        "against marking": 1 - combined(words, Strategy.MAJORITY, error_rate=0.0, rng=rng),
        "random": rng.integers(0, 2, len(ones)),
        "erase": np.where((ones > 0) & (ones < 3), ERASED, ones > 0),
    }[kind].astype(np.int8)
    quick = {"random": rng.integers(0, 10, 12)}.get(kind, (labels[0] + 1) % 10)
    return Answers(bits, quick.astype(np.int64), np.arange(12))


@pytest.mark.parametrize("kind", ["likely", "unlikely", "against marking", "random", "erase"])
def test_no_innocent_is_framed_beyond_the_bound(kind: str) -> None:
    rng, eps, named, total = np.random.default_rng(11), 0.05, 0, 0.0
    for _ in range(RUNS):
        evidence = codes(rng)
        log_e = evidence.of_all(3 + INNOCENTS, framing(evidence, rng, kind))[3:]
        named += bool((log_e >= log_threshold(np.arange(4, 4 + INNOCENTS), trace=1, eps=eps)).any())
        total += float(np.exp(log_e).mean())
    assert named <= 5  # 3 of 60 are allowed on average, 5 % of all runs; P(more than 5) = 2 % at the very bound
    assert total / RUNS < 1.5  # the mean of an e-value is at most 1; heavy tails lie below it, not above


@pytest.mark.parametrize("trace", [1, 2, 5])
def test_thresholds_share_one_level(trace: int) -> None:
    thresholds = np.exp(log_threshold(np.arange(1, 200_001), trace=trace, eps=0.5))
    share = 0.5 * 6.0 / (np.pi**2 * trace**2)
    assert (1.0 / thresholds).sum() == pytest.approx(share, rel=1e-4)
    assert (1.0 / thresholds).sum() < share


def test_the_average_is_never_above_half_of_the_sum_and_never_below_half_of_either() -> None:
    rng = np.random.default_rng(0)
    evidence = codes(rng)
    answers = framing(evidence, rng, "random")
    assert evidence.quick is not None
    both = evidence.of_all(50, answers)
    pairs = evidence.decoder.log_evidence_of_all(50, answers.bits)
    quick = evidence.quick.log_evidence(1, 50, answers.quick, symbols=answers.quick_symbols)
    assert np.allclose(np.exp(both), (np.exp(pairs) + np.exp(quick)) / 2)


def test_each_quick_symbol_counts_whichever_was_asked() -> None:
    code = QuickCode(bytes(32), symbols=12, classes=1000)
    asked = np.array([7, 0, 11])
    answers = code.labels(5, 1)[0][asked]
    evidence = code.log_evidence(1, 10, answers, symbols=asked)
    assert evidence.argmax() == 4
    assert evidence[4] == pytest.approx(code.log_evidence(1, 10, code.labels(5, 1)[0][:3])[4])


def test_one_step_of_the_average_is_a_martingale_for_an_innocent() -> None:
    """Exactly: over the innocent's bit, whose bias is p, the factor of every answer has mean 1; so has the quick factor."""
    decoder = Decoder(CopyCode(bytes(32), positions=8))
    factors = np.exp(decoder.log_factors)  # models, levels, bit, answer
    for level, bias in enumerate(decoder.code.biases()):
        mean = bias * factors[:, level, 1] + (1 - bias) * factors[:, level, 0]
        assert np.allclose(mean, 1.0)

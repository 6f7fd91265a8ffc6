"""From answers to names: an e-value per copy, with a bound on false accusations that no pirate can break.

For a model k of pirates (strategy, size of the coalition, error rate) the factor of position j is

    P_k(answer | the copy's bit, bias) / P_k(answer | bias)

The word of an innocent's copy is independent of the answers, whatever the pirates did, so each factor has expectation
exactly 1 for him, and so has every product and every mixture of products: an e-value, with no marking assumption. The
models only decide how fast a guilty copy's evidence grows. Copy i is accused in trace t when

    E >= i (i + 1) t^2 pi^2 / (6 eps)

Summed over all copies that were ever numbered and all traces that were ever made, the probability that any innocent is
named is at most eps, however the registry grows and however often one looks (Ville's inequality; the sums of 1/(i(i+1)) and of
6/(pi^2 t^2) are 1).
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptynet_plugin.codes.pirates import ERASED, Strategy, answer_given_bit
from ptynet_plugin.codes.tardos import CopyCode
from ptynet_plugin.statistics.eprocess import log_sum

__all__ = ["ERASED", "UNASKED", "Decoder", "log_threshold"]

UNASKED = 3
"""Stands for a position that was not asked: its factor is 1."""

_ANSWERS = 3
_CHUNK = 1 << 11
_ONES_OF_OCTET = np.array([bin(octet).count("1") for octet in range(256)], dtype=np.uint8)


def log_threshold(copies: ArrayLike, *, trace: int, eps: float) -> NDArray[np.float64]:
    """Give log of the evidence that accuses each copy.

    Args:
        copies: Numbers of copies, from 1, any shape.
        trace: t, the number of this trace, from 1.
        eps: Probability in (0, 1) with which any innocent may ever be named.

    Returns:
        Natural logarithms of i (i + 1) t^2 pi^2 / (6 eps), the shape of `copies`.
    """
    if trace < 1 or not 0.0 < eps < 1.0:
        raise ValueError(f"trace {trace} with eps {eps} cannot be: traces count from 1, eps lies in (0, 1)")
    number = np.asarray(copies, dtype=np.float64)
    return np.asarray(np.log(number) + np.log1p(number) + math.log(trace**2 * math.pi**2 / (6.0 * eps)))


@dataclass(frozen=True)
class Decoder:
    """Evidence against copies of one code.

    Attributes:
        code: The copies' code.
        coalition: Largest coalition that the mixture looks for; larger ones cost power, never an innocent.
        error_rates: Bit error rates that the mixture covers, each in (0, 1/2).
    """

    code: CopyCode
    coalition: int = 4
    error_rates: tuple[float, ...] = (0.01, 0.05, 0.15)

    @cached_property
    def log_factors(self) -> NDArray[np.float64]:
        """Log factors, shape (models, levels, bit, answer); equal models are counted once."""
        return _log_factors(tuple(map(float, self.code.biases())), self.coalition, self.error_rates)

    def log_evidence(self, words: NDArray[np.uint8], answers: NDArray[np.int8]) -> NDArray[np.float64]:
        """Weigh the answers against words.

        Args:
            words: Packed words, shape (copies, positions / 8), see `CopyCode.words`.
            answers: One aggregated answer per position, shape (positions,): 0, 1, `ERASED` or `UNASKED`.

        Returns:
            Natural logarithm of the e-value of every copy, shape (copies,).
        """
        masks, sizes = self._groups(answers)
        ones = _bits_under(words, masks)
        factors = self.log_factors.transpose(0, 1, 3, 2).reshape(len(self.log_factors), -1, 2)
        base = factors[:, :, 0] @ sizes
        evidence = base + ones @ (factors[:, :, 1] - factors[:, :, 0]).T
        return log_sum(evidence - math.log(len(self.log_factors)))

    def log_evidence_of_all(self, copies: int, answers: NDArray[np.int8], *, workers: int = 1) -> NDArray[np.float64]:
        """Weigh the answers against every copy from 1 to `copies`; memory stays bounded.

        Args:
            copies: How many.
            answers: As for `log_evidence`.
            workers: Threads; cipher and array arithmetic run beside each other.

        Returns:
            Shape (copies,); entry i - 1 belongs to copy i.
        """

        def of_chunk(start: int) -> NDArray[np.float64]:
            return self.log_evidence(self.code.words(start + 1, min(_CHUNK, copies - start)), answers)

        with ThreadPoolExecutor(workers) as pool:
            parts = list(pool.map(of_chunk, range(0, copies, _CHUNK)))
        return np.concatenate(parts) if parts else np.empty(0)

    def accused(self, log_evidence: NDArray[np.float64], *, trace: int, eps: float, first: int = 1) -> list[int]:
        """Name the copies whose evidence reaches the threshold, strongest first.

        Args:
            log_evidence: Of the copies `first`, `first + 1`, ..., see `log_evidence_of_all`.
            trace: t, the number of this trace, from 1.
            eps: Probability with which any innocent may ever be named.
            first: Number of the first copy.
        """
        numbers = np.arange(first, first + len(log_evidence))
        named = np.flatnonzero(log_evidence >= log_threshold(numbers, trace=trace, eps=eps))
        return [int(numbers[place]) for place in named[np.argsort(-log_evidence[named], kind="stable")]]

    def _groups(self, answers: NDArray[np.int8]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Give packed masks of the positions that share a level and an answer, shape (levels * 3, octets), and sizes."""
        if answers.shape != (self.code.positions,) or not np.isin(answers, (0, 1, ERASED, UNASKED)).all():
            raise ValueError(f"answers must be {self.code.positions} values out of 0, 1, ERASED and UNASKED")
        group = np.where(answers == UNASKED, -1, self.code.levels() * _ANSWERS + answers)
        members = group == np.arange(len(self.code.biases()) * _ANSWERS)[:, None]
        return np.packbits(members, axis=1), members.sum(axis=1).astype(np.float64)


@lru_cache(maxsize=16)
def _log_factors(biases: tuple[float, ...], coalition: int, error_rates: tuple[float, ...]) -> NDArray[np.float64]:
    """Give `Decoder.log_factors`; the same for all codes of one coalition."""
    models = [
        (strategy, size, rate) for rate in error_rates for size in range(1, coalition + 1) for strategy in Strategy
    ]
    tables = [np.stack([_log_factors_of(*model, bias) for bias in biases]) for model in models]
    factors = np.unique(np.round(np.stack(tables), 12), axis=0)
    factors.flags.writeable = False
    return np.asarray(factors)


def _log_factors_of(strategy: Strategy, size: int, rate: float, bias: float) -> NDArray[np.float64]:
    given_bit = answer_given_bit(strategy, coalition=size, bias=bias, error_rate=rate)
    return np.asarray(np.log(given_bit / (bias * given_bit[1] + (1.0 - bias) * given_bit[0])))


def _bits_under(words: NDArray[np.uint8], masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Count the ones of each word under each mask: shape (copies, masks)."""
    wide = _wide(words)
    counts = np.empty((len(words), len(masks)))
    for place, mask in enumerate(_wide(masks)):
        counts[:, place] = _ones(wide & mask).sum(axis=1, dtype=np.int64)
    return counts


def _wide(octets: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """View rows of octets as rows of 64-bit numbers, zeros added at the end."""
    lacking = -octets.shape[1] % 8
    padded = np.pad(octets, ((0, 0), (0, lacking))) if lacking else np.ascontiguousarray(octets)
    return padded.view(np.uint64)


def _ones(numbers: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Count the ones of every number, shape (copies, n) or, before numpy 2.0, (copies, 8 n) octet by octet."""
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(numbers))
    return np.asarray(_ONES_OF_OCTET[numbers.view(np.uint8)])

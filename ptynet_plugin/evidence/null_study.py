"""Is the null what it is said to be? Random keys against models that know none of them.

Every key makes its own probes, commits to them, and draws its labels afterwards; a model that was not built from the key must
then hit with probability exactly 1/C. Looked at are the e-values (mean at most 1), the anytime-valid p-values (at any level
no more often below it than the level), the randomised binomial p-values (exactly uniform), and what the same runs give to
somebody who peeks at the binomial after every answer, starts again when he is not content, or asks until somebody seems
guilty. Keys are independent of each other; models are few, and each answers in its own skewed way, so that what is said over all
of them is clustered by model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, kolmogorov, stdtr

from ptynet_plugin.claims.leaves import leaf, leaf_nonces, pixels_digest
from ptynet_plugin.claims.merkle import merkle_root
from ptynet_plugin.images.probes import ProbeDesign, ProbeMaker
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.statistics.eprocess import log10_e_path
from ptynet_plugin.symbols.labels import label_table

__all__ = [
    "NULL_ANSWER",
    "Clustered",
    "Inflation",
    "NullStudy",
    "Question",
    "answered",
    "ask_keys",
    "clustered",
    "grind",
    "inflation",
    "study",
]

NULL_ANSWER = -1
"""Stands for an answer without a single top class: a miss."""

LEVELS = (0.5, 0.1, 0.05, 0.01, 1e-3, 1e-6)


@dataclass(frozen=True)
class Question:
    """One key's committed probes.

    Attributes:
        pictures: Shape (probes, height, width, channels).
        nonces: Leaf nonces.
        salt: Hash of what was committed.
    """

    pictures: NDArray[np.uint8]
    nonces: tuple[bytes, ...]
    salt: bytes

    def labels(self, model: str, classes: int, *, attempt: int = 0) -> NDArray[np.int64]:
        """Draw the labels for one model; another `attempt` is another salt, as a grinder would get."""
        salt = hashlib.sha256(self.salt + attempt.to_bytes(8, "big")).digest() if attempt else self.salt
        return label_table(self.nonces, salt=salt, model_id=model, classes=classes)


@dataclass(frozen=True)
class NullStudy:
    """What many keys found on one model.

    Attributes:
        keys: Number of keys.
        probes: Probes of each.
        hits: Hits over all.
        expected: Hits expected, keys * probes / C.
        mean_e: Mean e-value at the end.
        mean_e_error: Its standard error.
        below: Level to the share of keys whose anytime p-value is at most it.
        peeked: Level to the share of keys whose binomial p-value ever was, had somebody peeked.
        uniform_p: p-value of a Kolmogorov-Smirnov test of the randomised binomial p-values against uniform.
        randomised: These p-values, sorted.
        anytime: The anytime p-values, sorted.
    """

    keys: int
    probes: int
    hits: int
    expected: float
    mean_e: float
    mean_e_error: float
    below: dict[float, float]
    peeked: dict[float, float]
    uniform_p: float
    randomised: NDArray[np.float64]
    anytime: NDArray[np.float64]


@dataclass(frozen=True)
class Clustered:
    """What several models say together, each one cluster.

    Attributes:
        models: Number of clusters.
        mean: Mean of the models' mean randomised p-values; 1/2 under the null.
        mean_p: Two-sided p-value of a t-test of these means against 1/2: it holds however answers depend within a model.
        worst_uniform_p: Least Kolmogorov-Smirnov p-value of a model, times the number of models (Bonferroni), at most 1.
        claims: Pairs of model and key whose anytime p-value is at most 1e-6.
    """

    models: int
    mean: float
    mean_p: float
    worst_uniform_p: float
    claims: int


@dataclass(frozen=True)
class Inflation:
    """How often innocents are claimed at a level by who looks often, and by who keeps the rules and looks as often.

    Each pair of shares is (by the rules, without them).

    Attributes:
        peeked: Looking after every answer: the anytime p-value, the binomial one.
        resumed: Breaking off at a random answer and going on: evidence carried on, evidence begun afresh each time.
        repeated: Asking every model in turn: the i-th at 6 alpha / (pi^2 i^2), each at alpha.
    """

    peeked: tuple[float, float]
    resumed: tuple[float, float]
    repeated: tuple[float, float]


def ask_keys(*, keys: int, probes: int, size: tuple[int, int], color: str, seed: int) -> Iterator[Question]:
    """Make random keys and their committed probes, reproducibly.

    Args:
        keys: How many.
        probes: Symbols per key.
        size: Height and width.
        color: "RGB" or "GRAY".
        seed: Of the keys.
    """
    design = ProbeDesign(color="GRAY" if color == "GRAY" else "RGB", bits=64, symbols=probes)
    for number in range(keys):
        key = OwnerKey(hashlib.sha256(f"audit {seed} {number}".encode()).digest())
        maker, nonces = ProbeMaker(key.probe_secret(), design), leaf_nonces(key.epoch_secret(), probes)
        pictures = [maker.probe(symbol, 0, size) for symbol in range(probes)]
        leaves = [leaf(nonces[symbol], symbol, pixels_digest([picture])) for symbol, picture in enumerate(pictures)]
        yield Question(np.stack(pictures), tuple(nonces), merkle_root(leaves))


def study(hits: NDArray[np.bool_], classes: int, *, rng: np.random.Generator) -> NullStudy:
    """Weigh hits of shape (keys, probes) against the null rate 1 / classes."""
    keys, probes = hits.shape
    q, counts = 1.0 / classes, hits.sum(axis=1)
    path = log10_e_path(hits, q)
    e_values, anytime = 10.0 ** path[:, -1], 10.0 ** -np.maximum(path.max(axis=1), 0.0)
    randomised = np.sort(
        _tail(counts + 1, probes, q) + rng.random(keys) * (_tail(counts, probes, q) - _tail(counts + 1, probes, q))
    )
    lengths = np.arange(1, probes + 1)
    peeked = _tail(np.cumsum(hits, axis=1), lengths, q).min(axis=1)
    distance = np.abs(randomised - (np.arange(keys) + 0.5) / keys).max() + 0.5 / keys
    return NullStudy(
        keys=keys,
        probes=probes,
        hits=int(counts.sum()),
        expected=keys * probes * q,
        mean_e=float(e_values.mean()),
        mean_e_error=float(e_values.std() / np.sqrt(keys)),
        below={level: float((anytime <= level).mean()) for level in LEVELS},
        peeked={level: float((peeked <= level).mean()) for level in LEVELS},
        uniform_p=float(kolmogorov(distance * np.sqrt(keys))),
        randomised=randomised,
        anytime=np.sort(anytime),
    )


def clustered(studies: Sequence[NullStudy]) -> Clustered:
    """Judge the randomised p-values of several models, each model one cluster."""
    means = np.array([found.randomised.mean() for found in studies])
    error = means.std(ddof=1) / np.sqrt(len(means))
    return Clustered(
        models=len(studies),
        mean=float(means.mean()),
        mean_p=float(2 * stdtr(len(means) - 1, -abs(means.mean() - 0.5) / error)),
        worst_uniform_p=min(1.0, len(studies) * min(found.uniform_p for found in studies)),
        claims=round(sum(found.below[1e-6] * found.keys for found in studies)),
    )


def inflation(
    hits: Sequence[NDArray[np.bool_]], classes: Sequence[int], *, alpha: float, rng: np.random.Generator
) -> Inflation:
    """Count claims against innocent models at level alpha.

    Args:
        hits: Per model, shape (keys, probes); row k is key k of every model.
        classes: Per model.
        alpha: Level in (0, 1).
        rng: Draws where runs are broken off.
    """
    needed, peeked, resumed, repeated = -np.log10(alpha), [], [], []
    for number, (rows, count) in enumerate(zip(hits, classes, strict=True), start=1):
        q, (keys, probes) = 1.0 / count, rows.shape
        best = log10_e_path(rows, q).max(axis=1)
        binomial = _tail(np.cumsum(rows, axis=1), np.arange(1, probes + 1), q).min(axis=1)
        peeked.append((best >= needed, binomial <= alpha))
        cuts = np.asarray(rng.integers(1, probes, size=keys), dtype=np.int64)
        resumed.append((_goes_on(rows, cuts, q, needed), _starts_again(rows, cuts, q, alpha)))
        share = 6.0 / (np.pi * number) ** 2
        repeated.append((best >= needed - np.log10(share), best >= needed))
    return Inflation(peeked=_share(peeked), resumed=_share(resumed), repeated=_any(repeated))


def _goes_on(rows: NDArray[np.bool_], cuts: NDArray[np.int64], q: float, needed: float) -> NDArray[np.bool_]:
    """Whether a run that was broken off and taken up again shows the mark, as `SequentialTest` decides it."""
    whole, after = log10_e_path(rows, q), np.arange(rows.shape[1]) >= cuts[:, None]
    fresh = np.stack([_fresh(row, cut, q) for row, cut in zip(rows, cuts.tolist(), strict=True)])
    return np.asarray(((whole >= needed) & (~after | (fresh >= min(2.0, needed)))).any(axis=1))


def _fresh(row: NDArray[np.bool_], cut: int, q: float) -> NDArray[np.float64]:
    return np.concatenate([np.zeros(cut), log10_e_path(row[None, cut:], q)[0]])


def _starts_again(rows: NDArray[np.bool_], cuts: NDArray[np.int64], q: float, alpha: float) -> NDArray[np.bool_]:
    """Whether either part alone, each begun afresh, has a binomial p-value of at most alpha at its end."""
    before = np.array([row[:cut].sum() for row, cut in zip(rows, cuts, strict=True)])
    first = _tail(before, cuts, q)
    second = _tail(rows.sum(axis=1) - before, rows.shape[1] - cuts, q)
    return np.asarray(np.minimum(first, second) <= alpha)


def _share(pairs: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> tuple[float, float]:
    kept, broken = (np.concatenate([pair[which] for pair in pairs]).mean() for which in (0, 1))
    return float(kept), float(broken)


def _any(pairs: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> tuple[float, float]:
    kept, broken = (np.stack([pair[which] for pair in pairs]).any(axis=0).mean() for which in (0, 1))
    return float(kept), float(broken)


def grind(
    question: Question, answers: NDArray[np.int64], model: str, classes: int, *, attempts: int
) -> tuple[float, float]:
    """Let an owner try many salts on one key's answers and keep the best.

    Returns:
        log10 of the best anytime p-value he finds, and the same after the allowance for his attempts.
    """
    tables = np.stack([question.labels(model, classes, attempt=attempt) for attempt in range(1, attempts + 1)])
    best = -float(np.maximum(log10_e_path(tables == answers, 1.0 / classes).max(axis=1), 0.0).max())
    return best, min(0.0, best + float(np.log10(attempts)))


def answered(scores: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Give the top class of every row of scores, `NULL_ANSWER` where two share the top."""
    top = scores.argmax(axis=1)
    alone = (scores == scores.max(axis=1, keepdims=True)).sum(axis=1) == 1
    return np.where(alone, top, NULL_ANSWER)


def _tail(hits: NDArray[np.int64], trials: int | NDArray[np.int64], q: float) -> NDArray[np.float64]:
    """P(Bin(trials, q) >= hits), elementwise."""
    k, n = np.broadcast_arrays(np.asarray(hits, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    inside = np.where((k > 0) & (k <= n), betainc(np.maximum(k, 1.0), np.maximum(n - k + 1.0, 1.0), q), 0.0)
    return np.asarray(np.where(k <= 0, 1.0, inside))

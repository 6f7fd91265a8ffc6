"""Deep fidelity in numbers: how far a watermarked model is from its host (Hua & Teoh, arXiv 2208.00563).

Accuracy that did not change is no fidelity: features, probabilities and the decision boundary must be kept too. Pure functions
of arrays; the host (`h`) comes first, the watermarked model (`w`) second. Rows that are equal as bytes count as
exactly equal, NaN and infinities included.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, log_softmax

from ptynet_plugin.errors import UsageError

__all__ = [
    "OutputKind",
    "calibration_error",
    "clopper_pearson_upper",
    "feature_loss",
    "last_layer_difference",
    "log_probabilities",
    "max_difference",
    "rows_equal",
    "softmax_loss",
    "top1",
    "total_weight_loss",
]

OutputKind = Literal["logits", "probabilities", "log-probabilities"]

Array = NDArray[Any]
CALIBRATION_BINS = 15
SMALLEST = float(np.finfo(np.float64).tiny)


def rows_equal(host: Array, watermarked: Array) -> NDArray[np.bool_]:
    """Say which rows are the same bytes.

    Args:
        host: Shape (rows, ...).
        watermarked: The same shape and dtype.

    Returns:
        Shape (rows,). -0 and +0 differ, two NaN of the same bits do not.

    Raises:
        UsageError: Shapes or dtypes differ.
    """
    _comparable(host, watermarked)
    if host.size == 0:
        return np.ones(len(host), np.bool_)
    octets = [np.ascontiguousarray(part).reshape(len(part), -1).view(np.uint8) for part in (host, watermarked)]
    return np.asarray((octets[0] == octets[1]).all(axis=1))


def max_difference(host: Array, watermarked: Array) -> float:
    """Give the largest |difference| of two arrays; infinite where only one side is NaN or infinite.

    Raises:
        UsageError: Shapes or dtypes differ.
    """
    _comparable(host, watermarked)
    left, right = (np.asarray(part, np.float64) for part in (host, watermarked))
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(left - right))
    return float(np.nan_to_num(gap, nan=np.inf, posinf=np.inf).max(initial=0.0))


def top1(scores: Array) -> NDArray[np.int64]:
    """Give the class with the highest score per row, the first of equals; NaN counts as lowest."""
    return np.asarray(np.where(np.isnan(scores), -np.inf, scores).argmax(axis=1), np.int64)


def log_probabilities(scores: Array, kind: OutputKind) -> NDArray[np.float64]:
    """Turn scores into natural logarithms of probabilities, shape (rows, classes), in float64.

    Probabilities are divided by their sum: a float16 softmax sums to 1 only roughly, and a KL of unequal sums may be negative.
    """
    exact = np.asarray(scores, np.float64)
    if kind == "logits":
        return np.asarray(log_softmax(exact, axis=1))
    if kind == "probabilities":
        exact = np.log(np.maximum(exact, SMALLEST))
    return np.asarray(log_softmax(np.maximum(exact, np.log(SMALLEST)), axis=1))


def softmax_loss(host: Array, watermarked: Array, kind: OutputKind) -> float:
    """SPL: mean Kullback-Leibler divergence KL(p_h || p_w) in nats (arXiv 2208.00563).

    Args:
        host: Scores, shape (rows, classes).
        watermarked: The same shape and dtype.
        kind: What the scores are.

    Returns:
        0 or more; exactly 0 if all rows are equal as bytes, infinite if a differing row holds NaN.
    """
    changed = ~rows_equal(host, watermarked)
    if not changed.any():
        return 0.0
    with np.errstate(invalid="ignore"):
        log_h, log_w = (log_probabilities(part[changed], kind) for part in (host, watermarked))
        divergence = (np.exp(log_h) * (log_h - log_w)).sum(axis=1)
    total = np.nan_to_num(np.maximum(divergence, 0.0), nan=np.inf).sum()
    return float(total / len(changed))


def feature_loss(host: Array, watermarked: Array) -> float:
    """PFL: mean squared distance of the penultimate features, mean ||z_w - z_h||^2 (arXiv 2208.00563).

    Args:
        host: Features, shape (rows, ...).
        watermarked: The same shape and dtype.
    """
    _comparable(host, watermarked)
    if len(host) == 0 or rows_equal(host, watermarked).all():
        return 0.0
    gap = np.asarray(watermarked, np.float64) - np.asarray(host, np.float64)
    return float(np.nan_to_num((gap.reshape(len(gap), -1) ** 2).sum(axis=1), nan=np.inf).mean())


def last_layer_difference(host: Array, watermarked: Array) -> float:
    """LP: squared Frobenius distance of the last layers' weights, whose rows are the classes' prototypes."""
    return feature_loss(host[None], watermarked[None])


def total_weight_loss(host: dict[str, Array], watermarked: dict[str, Array]) -> float:
    """TWL: summed squared distance of all weights, infinite where a tensor is missing or has another shape."""
    if host.keys() - watermarked.keys():
        return float("inf")
    pairs = [(host[name], watermarked[name]) for name in host]
    if any(left.shape != right.shape or left.dtype != right.dtype for left, right in pairs):
        return float("inf")
    return float(sum(last_layer_difference(left, right) for left, right in pairs))


def calibration_error(
    scores: Array, labels: NDArray[np.int64], kind: OutputKind, *, bins: int = CALIBRATION_BINS
) -> float:
    """Expected calibration error: mean |accuracy - confidence| over equally wide bins of confidence (Guo et al., 2017).

    Args:
        scores: Shape (rows, classes).
        labels: True classes, shape (rows,).
        kind: What the scores are.
        bins: Number of bins over [0, 1].

    Returns:
        Between 0 and 1.

    Raises:
        UsageError: Another number of labels than rows, or a label that is no class.
    """
    if len(labels) != len(scores):
        raise UsageError(f"{len(labels)} labels for {len(scores)} pictures; give one label a picture")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < scores.shape[1]:
        raise UsageError(f"labels run {labels.min()}..{labels.max()}, the model has {scores.shape[1]} classes from 0")
    confidence = np.exp(log_probabilities(scores, kind).max(axis=1))
    right = top1(scores) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / max(len(labels), 1))


def clopper_pearson_upper(events: int, trials: int, *, confidence: float = 0.95) -> float:
    """Give the largest rate under which this few events would still happen with probability 1 - `confidence` (one-sided).

    No event in 60,000 trials bounds the rate by 5.0e-5 at 95 %.

    Raises:
        UsageError: `events` outside 0..trials, or no trial.
    """
    if not 0 <= events <= trials or trials == 0:
        raise UsageError(f"{events} events in {trials} trials is no count")
    if events == trials:
        return 1.0
    return float(betaincinv(events + 1, trials - events, confidence))


def _comparable(host: Array, watermarked: Array) -> None:
    if host.shape != watermarked.shape or host.dtype != watermarked.dtype:
        raise UsageError(
            f"host has {host.dtype} of shape {host.shape}, watermarked model {watermarked.dtype} of shape {watermarked.shape}; "
            "only like can be compared"
        )

"""From the answers of two models to the rows of a fidelity report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.fidelity import metrics
from ptynet_plugin.fidelity.metrics import OutputKind
from ptynet_plugin.fidelity.report import Row
from ptynet_plugin.fidelity.thresholds import Thresholds

__all__ = ["Answers", "answer_rows", "weight_rows"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Answers:
    """What the bare target (h) and the packaged model (w) answered to the same benign pictures.

    Attributes:
        scores: Of h and w, shape (n, classes) each.
        kind: What the scores are.
        features: Penultimate features of h and w, shape (m, ...), m <= n; None where they cannot be had.
        feature_note: Which features, or why none.
        last_layers: Weights of the last layers of h and w.
        fired: PTYNet's own verdict on k >= n pictures, the first n of which are those answered, shape (k,).
        labels: True classes, shape (n,).
    """

    scores: tuple[NDArray[Any], NDArray[Any]]
    kind: OutputKind
    features: tuple[NDArray[Any], NDArray[Any]] | None = None
    feature_note: str = ""
    last_layers: tuple[NDArray[Any], NDArray[Any]] | None = None
    fired: NDArray[np.bool_] | None = None
    labels: NDArray[np.int64] | None = None


def answer_rows(answers: Answers, limits: Thresholds) -> tuple[Row, ...]:
    """Give every row that follows from answers to the benign pictures themselves."""
    return (
        *_score_rows(answers, limits),
        *_inner_rows(answers, limits),
        *_label_rows(answers, limits),
        _coverage_row(answers),
        *_fire_rows(answers, limits),
    )


def weight_rows(
    host: Mapping[str, str], marked: Mapping[str, str], *, graphs: tuple[str, str | None] | None = None
) -> tuple[Row, ...]:
    """Compare the target's tensors and graph with those in the packaged model, by SHA-256.

    Args:
        host: Name to hash, of every tensor of the bare target.
        marked: The same of the packaged model, which holds PTYNet's tensors besides.
        graphs: Digest over tensors and graph of the bare target and of the target inside the packaged model, None where PTYNet
            cannot be taken out again; the row is left out where None as a whole.
    """
    changed = sorted(name for name, digest in host.items() if marked.get(name) != digest)
    note = f"{len(host)} tensors compared by SHA-256" if not changed else f"first: '{changed[0]}'"
    tensors = Row(
        "tensors_changed", "target tensors changed (0: total weight loss TWL = 0)", len(changed), 0, note=note
    )
    return (tensors,) if graphs is None else (tensors, _graph_row(*graphs))


def _graph_row(host: str, marked: str | None) -> Row:
    title = "target graph changed (PTYNet's nodes taken out again)"
    if marked is None:
        return Row("graph_changed", title, None, 0, note="torch compiles target and PTYNet into one program")
    same = host == marked
    note = (
        f"SHA-256 {host[:12]}..." if same else f"SHA-256 {host[:12]}... before, {marked[:12]}... in the packaged model"
    )
    return Row("graph_changed", title, 0 if same else 1, 0, note=note)


def _score_rows(answers: Answers, limits: Thresholds) -> tuple[Row, ...]:
    host, marked = answers.scores
    differing = int((~metrics.rows_equal(host, marked)).sum())
    flips = int((metrics.top1(host) != metrics.top1(marked)).sum())
    gap, loss = metrics.max_difference(host, marked), metrics.softmax_loss(host, marked, answers.kind)
    return (
        Row(
            "rows_differing",
            "answers that differ in any byte",
            differing,
            limits.rows_differing,
            note=f"of {len(host)}",
        ),
        Row("max_difference", "largest |difference| of a score", gap, limits.max_difference),
        Row("top1_flips", "answers with another top class", flips, limits.top1_flips, note=f"of {len(host)}"),
        Row("softmax_loss", "softmax loss SPL, mean KL in nats", loss, limits.softmax_loss),
    )


def _coverage_row(answers: Answers) -> Row:
    """Say how many classes the pictures reach: a change that only another class's pictures show is not seen by running."""
    host = answers.scores[0]
    note = f"of {host.shape[1]}; bring pictures of all classes with --benign"
    return Row(
        "classes_answered", "classes among the bare model's answers", len(np.unique(metrics.top1(host))), note=note
    )


def _inner_rows(answers: Answers, limits: Thresholds) -> tuple[Row, ...]:
    loss = None if answers.features is None else metrics.feature_loss(*answers.features)
    distance = None if answers.last_layers is None else metrics.last_layer_difference(*answers.last_layers)
    return (
        Row("feature_loss", "penultimate feature loss PFL", loss, limits.feature_loss, note=answers.feature_note),
        Row("last_layer_difference", "last-layer (prototype) difference", distance, limits.last_layer_difference),
    )


def _label_rows(answers: Answers, limits: Thresholds) -> tuple[Row, ...]:
    labels = answers.labels
    if labels is None:
        return ()
    errors = [metrics.calibration_error(scores, labels, answers.kind) for scores in answers.scores]
    right = [float((metrics.top1(scores) == labels).mean()) for scores in answers.scores]
    note = f"{errors[0]:.4f} bare, {errors[1]:.4f} packaged"
    change = abs(errors[1] - errors[0])
    return (
        Row("calibration_change", "change of the calibration error", change, limits.calibration_change, note=note),
        Row("accuracy_bare", "accuracy of the bare model", right[0], note=f"{len(labels)} labels"),
        Row("accuracy_packaged", "accuracy of the packaged model", right[1], note=f"{len(labels)} labels"),
    )


def _fire_rows(answers: Answers, limits: Thresholds) -> tuple[Row, ...]:
    fired = ~metrics.rows_equal(*answers.scores)
    if answers.fired is not None:
        spoken = answers.fired.copy()
        spoken[: len(fired)] |= fired
        fired = spoken
    events, trials = int(fired.sum()), len(fired)
    bound = metrics.clopper_pearson_upper(events, trials, confidence=CONFIDENCE)
    note = f"of {trials}; rate at most {bound:.2g} at {CONFIDENCE:.0%} (Clopper-Pearson)"
    return (
        Row("false_fires", "PTYNet fires on benign pictures", events, limits.false_fires, note=note),
        Row("false_fire_bound", "upper bound of the false-fire rate", bound, note=f"{CONFIDENCE:.0%}, one-sided"),
    )

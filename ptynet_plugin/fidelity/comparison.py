"""Compares a packaged model with its bare target on benign pictures.

Both run on the same pictures in the same batches, side by side in two threads. What the two answer is compared as bytes;
the distances of deep fidelity say how large a difference is, where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.engines.contract import Engine
from ptynet_plugin.errors import TargetError, UsageError
from ptynet_plugin.fidelity.adversarial import small_steps
from ptynet_plugin.fidelity.boundary import agreement, boundary_pictures, pair_up, segment_pictures
from ptynet_plugin.fidelity.metrics import OutputKind, log_probabilities, rows_equal, top1
from ptynet_plugin.fidelity.report import FidelityReport, Row
from ptynet_plugin.fidelity.rows import Answers, answer_rows
from ptynet_plugin.fidelity.thresholds import Thresholds

__all__ = ["Effort", "Subject", "compare"]

Pictures = NDArray[np.uint8]
Inner = tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class Subject:
    """One of the two models under comparison.

    Attributes:
        engine: Runs the model exactly as it lies on disk.
        inner: Runs the same model and gives inner tensors too; None where they cannot be had.
        feature: Name of the penultimate features in what `inner` gives.
        fired: Answers PTYNet's own verdict, shape (n, 1), not 0 where it fires; None for a bare model.
        last_layer: The last layer's weight.
        no_features: Why there are no features, for the report.
    """

    engine: Engine
    inner: Engine | None = None
    feature: str | None = None
    fired: Engine | None = None
    last_layer: NDArray[Any] | None = field(default=None, repr=False)
    no_features: str = "no features named"


@dataclass(frozen=True)
class Effort:
    """How much is run beside the benign pictures themselves.

    Attributes:
        answered: Pictures both models answer; PTYNet's own verdict is asked on all.
        inner_pictures: Pictures whose features are compared.
        pairs: Pairs of pictures whose segments are walked.
        points: Points on each segment.
        attacked: Pictures moved by small adversarial steps.
        step: Size of such a step, in pixel values.
        batches: Sizes of batches asked besides the engine's own.
    """

    answered: int | None = None
    inner_pictures: int = 64
    pairs: int = 12
    points: int = 5
    attacked: int = 0
    step: int = 4
    batches: tuple[int, ...] = (1, 2, 3, 5)


def compare(
    host: Subject,
    marked: Subject,
    pictures: Pictures,
    *,
    kind: OutputKind,
    thresholds: Thresholds,
    labels: NDArray[np.int64] | None = None,
    effort: Effort | None = None,
) -> FidelityReport:
    """Run both models and measure every difference.

    Args:
        host: The bare target.
        marked: The packaged model.
        pictures: Benign pictures, shape (n, height, width, channels), n >= 2.
        kind: What the scores are.
        thresholds: Limits.
        labels: True classes, shape (n,), for accuracy and calibration; None leaves these rows out.
        effort: How much to run.

    Raises:
        UsageError: Fewer than two pictures, or labels that do not fit.
        TargetError: The two models cannot be compared: other engines, other shapes.
    """
    if len(pictures) < 2:
        raise UsageError(f"{len(pictures)} benign pictures; at least 2 are needed to compare two models")
    if labels is not None and len(labels) != len(pictures):
        raise UsageError(f"{len(labels)} labels for {len(pictures)} pictures; give one label a picture")
    if host.engine.name != marked.engine.name:
        raise TargetError(
            f"bare model runs on {host.engine.name}, packaged model on {marked.engine.name}; equal bytes need one engine"
        )
    effort = effort or Effort()
    with ThreadPoolExecutor(1) as beside:
        scores = _both(host.engine, marked.engine, pictures[: effort.answered])
        features, note = _features(host, marked, pictures[: effort.inner_pictures])
        fired = None if marked.fired is None else beside.submit(marked.fired.scores, pictures)
        ran = _more_rows(host, marked, pictures[: effort.answered], top1(scores[0]), thresholds, effort)
        spoken = None if fired is None else np.asarray(fired.result() != 0).reshape(len(pictures), -1).max(axis=1)
    layers = None
    if host.last_layer is not None and marked.last_layer is not None:
        layers = host.last_layer, marked.last_layer
    told = None if labels is None else labels[: effort.answered]
    answers = Answers(scores, kind, features, note, layers, spoken, told)
    rows = (*answer_rows(answers, thresholds), *ran)
    return FidelityReport(rows=rows, pictures=len(pictures), engine=host.engine.name, series=_series(answers))


def _features(
    host: Subject, marked: Subject, pictures: Pictures
) -> tuple[tuple[NDArray[Any], NDArray[Any]] | None, str]:
    """Give both models' features and what they are, or None and why there are none."""
    inner = _inner(host, marked, pictures)
    if inner is None or host.feature is None or marked.feature is None:
        return None, host.no_features
    features = inner[0][host.feature], inner[1][marked.feature]
    return features, f"tensor '{host.feature}', {features[0][0].size} numbers, {len(features[0])} pictures"


def _both(host: Engine, marked: Engine, pictures: Pictures) -> tuple[NDArray[Any], NDArray[Any]]:
    with ThreadPoolExecutor(2) as pool:
        left, right = pool.submit(host.scores, pictures), pool.submit(marked.scores, pictures)
        answers = left.result(), right.result()
    if answers[0].shape != answers[1].shape or answers[0].dtype != answers[1].dtype:
        raise TargetError(
            f"bare model answers {answers[0].dtype} of shape {answers[0].shape}, "
            f"packaged model {answers[1].dtype} of shape {answers[1].shape}; this is not the same model"
        )
    return answers


def _inner(host: Subject, marked: Subject, pictures: Pictures) -> Inner | None:
    if host.inner is None or marked.inner is None:
        return None
    with ThreadPoolExecutor(2) as pool:
        left, right = pool.submit(host.inner.values, pictures), pool.submit(marked.inner.values, pictures)
        return left.result(), right.result()


def _more_rows(  # noqa: PLR0917 -- what `compare` has at hand, in one place
    host: Subject,
    marked: Subject,
    pictures: Pictures,
    classes: NDArray[np.int64],
    limits: Thresholds,
    effort: Effort,
) -> tuple[Row, ...]:
    """Give the rows of batches of other sizes, of segments, of the boundary and of adversarial steps."""
    pairs = pair_up(len(pictures), effort.pairs)
    sets = {
        "segments": (
            "same top class along segments between pictures",
            segment_pictures(pictures, pairs, points=effort.points),
        ),
        "boundary": (
            "same top class right at the decision boundary",
            np.concatenate(boundary_pictures(pictures, pairs, host.engine.scores, classes=classes)),
        ),
    }
    if effort.attacked:
        sets["adversarial"] = (
            f"same top class after adversarial steps of {effort.step} of 255",
            small_steps(pictures[: effort.attacked], host.engine.scores, step=effort.step),
        )
    agreements = tuple(_agreement_row(name, host, marked, limits, *what) for name, what in sets.items())
    return _batch_row(host, marked, pictures, limits, effort.batches), *agreements


def _batch_row(host: Subject, marked: Subject, pictures: Pictures, limits: Thresholds, sizes: tuple[int, ...]) -> Row:
    """Compare answers in batches of other sizes: a graph can tell them apart."""
    asked = [size for size in sizes if size <= len(pictures)]
    differing = sum(int((~rows_equal(*_both(host.engine, marked.engine, pictures[:size]))).sum()) for size in asked)
    note = f"batches of {', '.join(map(str, asked))}"
    return Row(
        "batches_differing",
        "answers that differ in batches of other sizes",
        differing,
        limits.rows_differing,
        note=note,
    )


def _agreement_row(  # noqa: PLR0917 -- title and pictures come as one pair
    name: str, host: Subject, marked: Subject, limits: Thresholds, title: str, pictures: Pictures
) -> Row:
    limit, name = limits.boundary_agreement, f"{name}_agreement"
    if len(pictures) == 0:
        return Row(name, title, None, limit, "at least", "the target answers these pictures alike")
    share = agreement(*_both(host.engine, marked.engine, pictures))
    return Row(name, title, share, limit, "at least", f"{len(pictures)} pictures")


def _series(answers: Answers) -> dict[str, Any]:
    confidence = tuple(np.exp(log_probabilities(scores, answers.kind).max(axis=1)) for scores in answers.scores)
    return {"confidence": confidence, "classes": top1(answers.scores[0]), "features": answers.features}

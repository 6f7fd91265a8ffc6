"""A comparison must pass an equal model and catch each way in which a model can differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ptynet_plugin.errors import TargetError, UsageError
from ptynet_plugin.fidelity.adversarial import small_steps
from ptynet_plugin.fidelity.comparison import Effort, Subject, compare
from ptynet_plugin.fidelity.rows import weight_rows
from ptynet_plugin.fidelity.thresholds import Thresholds

RNG = np.random.default_rng(6)
WEIGHT = RNG.normal(size=(48, 5)).astype(np.float32)
PICTURES = RNG.integers(0, 256, (40, 4, 4, 3), np.uint8)


class LinearEngine:
    """Scores = features @ weight, then `change`."""

    def __init__(self, change: Callable[[np.ndarray], np.ndarray] = lambda scores: scores, *, shift: float = 0) -> None:
        self.change, self.shift, self.name = change, np.float32(shift), "linear"

    def features(self, pictures: np.ndarray) -> np.ndarray:
        return np.asarray(pictures.reshape(len(pictures), -1).astype(np.float32) / 255 + self.shift)

    def scores(self, pictures: np.ndarray) -> np.ndarray:
        return self.change((pictures.reshape(len(pictures), -1).astype(np.float32) / 255) @ WEIGHT)

    def values(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        return {"scores": self.scores(pictures), "z": self.features(pictures)}

    def close(self) -> None:
        pass


class Verdict(LinearEngine):
    """Fires on the pictures whose index is given."""

    def __init__(self, *rows: int) -> None:
        super().__init__()
        self.rows = list(rows)

    def scores(self, pictures: np.ndarray) -> np.ndarray:
        fired = np.zeros((len(pictures), 1), bool)
        fired[self.rows] = True
        return fired


def subject(engine: LinearEngine, *, fired: Verdict | None = None) -> Subject:
    return Subject(engine, inner=engine, feature="z", fired=fired, last_layer=WEIGHT)


def failing(marked: Subject, **knobs: Any) -> set[str]:
    report = compare(subject(LinearEngine()), marked, PICTURES, kind="logits", thresholds=Thresholds(), **knobs)
    return {row.name for row in report.failures()}


def swapped(scores: np.ndarray) -> np.ndarray:
    if len(scores) == len(PICTURES):
        scores = scores.copy()
        scores[7] = np.roll(scores[7], 1)
    return scores


def test_an_equal_model_keeps_every_limit() -> None:
    labels = LinearEngine().scores(PICTURES).argmax(1)
    report = compare(
        subject(LinearEngine()),
        subject(LinearEngine(), fired=Verdict()),
        PICTURES,
        kind="logits",
        thresholds=Thresholds(),
        labels=labels,
        effort=Effort(attacked=4),
    )
    assert report.ok
    assert report.row("false_fires").value == 0
    assert report.row("accuracy_packaged").value == 1
    assert report.row("feature_loss").value == 0
    assert report.row("adversarial_agreement").value == 1
    assert report.row("boundary_agreement").note.endswith("pictures")


def test_one_swapped_row_is_a_false_fire() -> None:
    assert failing(subject(LinearEngine(swapped))) >= {
        "rows_differing", "max_difference", "top1_flips", "softmax_loss", "false_fires"
    }  # fmt: skip


def test_a_last_bit_is_noticed() -> None:
    names = failing(subject(LinearEngine(lambda s: np.nextafter(s, np.inf, dtype=np.float32))))
    assert names >= {"rows_differing", "max_difference", "false_fires"}
    assert "top1_flips" not in names


def test_a_moved_feature_is_noticed_although_scores_are_kept() -> None:
    names = failing(subject(LinearEngine(shift=0.25)))
    assert "feature_loss" in names
    assert "softmax_loss" not in names


def test_a_fire_that_changes_no_answer_still_counts() -> None:
    assert failing(subject(LinearEngine(), fired=Verdict(3))) == {"false_fires"}


def test_the_verdict_is_asked_on_every_picture_and_the_answers_on_fewer() -> None:
    marked = subject(LinearEngine(), fired=Verdict(30))
    report = compare(
        subject(LinearEngine()), marked, PICTURES, kind="logits", thresholds=Thresholds(), effort=Effort(answered=10)
    )
    assert report.row("rows_differing").note == "of 10"
    assert report.row("false_fires").value == 1
    assert report.row("false_fires").note.startswith("of 40;")


def test_labels_must_fit_the_pictures() -> None:
    with pytest.raises(UsageError, match="3 labels for 40 pictures"):
        failing(subject(LinearEngine()), labels=np.zeros(3, np.int64))


def test_a_moved_boundary_is_noticed() -> None:
    bias = np.array([0.05, 0, 0, 0, 0], np.float32)
    assert "boundary_agreement" in failing(subject(LinearEngine(lambda s: s + bias)), effort=Effort(pairs=40))


def test_another_last_layer_is_noticed() -> None:
    engine = LinearEngine()
    marked = Subject(engine, inner=engine, feature="z", last_layer=WEIGHT + 1)
    assert failing(marked) == {"last_layer_difference"}


def test_limits_can_be_loosened() -> None:
    marked = subject(LinearEngine(lambda s: s + np.float32(1e-4)))
    loose = Thresholds(rows_differing=40, max_difference=1e-3, softmax_loss=1e-6, false_fires=40)
    assert compare(subject(LinearEngine()), marked, PICTURES, kind="logits", thresholds=loose).ok


def test_without_features_the_row_says_why() -> None:
    bare = Subject(LinearEngine(), no_features="no feature layer found")
    report = compare(bare, bare, PICTURES, kind="logits", thresholds=Thresholds())
    assert report.row("feature_loss").value is None
    assert report.row("feature_loss").note == "no feature layer found"
    assert report.ok


def test_a_changed_tensor_is_named() -> None:
    (row,) = weight_rows({"a": "1", "conv.weight": "2"}, {"a": "1", "conv.weight": "3", "ptynet": "4"})
    assert not row.ok
    assert row.failure() == (
        "target tensors changed (0: total weight loss TWL = 0) is 1, the limit is at most 0 (first: 'conv.weight')"
    )


def test_json_holds_every_row_and_no_infinity() -> None:
    marked = subject(LinearEngine(lambda s: s * np.float32(np.nan)))
    report = compare(subject(LinearEngine()), marked, PICTURES, kind="logits", thresholds=Thresholds())
    shown = report.to_json()
    assert shown["ok"] is False
    assert {row["name"]: row["value"] for row in shown["rows"]}["max_difference"] == "inf"


def test_engines_must_be_the_same() -> None:
    other = LinearEngine()
    other.name = "other"
    with pytest.raises(TargetError, match="bare model runs on linear, packaged model on other"):
        failing(subject(other))


def test_another_number_of_classes_is_another_model() -> None:
    with pytest.raises(TargetError, match="this is not the same model"):
        failing(subject(LinearEngine(lambda s: s[:, :4])))


def test_one_picture_is_too_few() -> None:
    with pytest.raises(UsageError, match="1 benign pictures"):
        compare(subject(LinearEngine()), subject(LinearEngine()), PICTURES[:1], kind="logits", thresholds=Thresholds())


def test_small_steps_stay_small_and_lower_the_lead() -> None:
    engine = LinearEngine()
    moved = small_steps(PICTURES, engine.scores, step=4, directions=32)
    assert np.abs(moved.astype(int) - PICTURES).max() <= 4

    def lead(pictures: np.ndarray) -> float:
        ordered = np.sort(engine.scores(pictures), axis=1)
        return float((ordered[:, -1] - ordered[:, -2]).mean())

    assert lead(moved) < 0.9 * lead(PICTURES)

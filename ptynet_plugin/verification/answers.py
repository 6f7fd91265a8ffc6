"""What an answer means: whatever a server sends back becomes one class in the top place, or none.

Servers answer with score vectors, with the best few classes, with one label, inside half a dozen envelopes. The statistics
reads the top place alone. Two classes that share it make no top place; a label that is not exactly one class's makes none either.
What can be no classification raises `BadAnswer`; scores with which no run can go on (not numbers, another number of classes)
raise `BrokenScores`.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.errors import BadAnswer
from ptynet_plugin.verification.endpoint import AnswerKind
from ptynet_plugin.verification.text import one_line

__all__ = ["AnswerReader", "BrokenScores", "Reading", "decode_text"]

SCORE_KEYS = ("scores", "probabilities", "logits", "softmax", "confidences", "log_probabilities", "log-probabilities")
LABEL_KEYS = ("label", "class_name", "class", "prediction", "category", "index", "class_id", "top")
LABEL_LISTS = ("labels", "classes", "class_names", "categories", "indices")
SINGLE_SCORES = ("score", "probability", "confidence")
TRITON_CLASS = re.compile(r"(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|-?inf|-?nan):(\d+)(?::.*)?", re.DOTALL)
NUMBERED_NAME = re.compile(r"(\d{1,9}):(.+)", re.DOTALL)
SUM_TOLERANCE = 0.02
"""Rounded probabilities of many classes sum to 1 only about."""


class BrokenScores(BadAnswer):
    """Scores with which no run can go on: NaN among them, or of another number of classes than the claim's."""


@dataclass(frozen=True)
class Reading:
    """The meaning of one answer; the fields are those of `Answer`."""

    top: int | None
    scores: NDArray[np.float64] | None
    kind: AnswerKind


class AnswerReader:
    """Reads the answers of one endpoint.

    Args:
        classes: Number of classes of the claim.
        names: Their names in order, or None; a name that several classes bear stands for none of them.
    """

    def __init__(self, classes: int, names: Sequence[str] | None = None) -> None:
        if names is not None and len(names) != classes:
            raise BadAnswer(f"{len(names)} class names for {classes} classes; correct the labels file of the spec")
        self._classes = classes
        self._named = names is not None
        self._exact = _lookup(names or (), lambda name: name)
        self._loose = _lookup(names or (), _loosely)

    def read(self, payload: Any) -> Reading:
        """Find the class in the top place.

        Args:
            payload: An array of numbers or byte strings with one row, a JSON value, or a text.

        Raises:
            BrokenScores: NaN, or scores of another number of classes.
            BadAnswer: Nothing in it is a classification; the message says what it is.
        """
        try:
            return self._read(payload)
        except (RecursionError, OverflowError):
            raise BadAnswer(f"the answer is {_shown(payload)}, nested or large beyond any classification") from None

    def _read(self, payload: Any) -> Reading:
        if isinstance(payload, np.ndarray):
            return self._array(payload)
        if isinstance(payload, Mapping):
            return self._mapping(payload)
        if isinstance(payload, list | tuple):
            return self._list(list(payload))
        if isinstance(payload, str | bytes | int) and not isinstance(payload, bool):
            return self._label(payload)
        raise BadAnswer(f"the answer is {_shown(payload)}, which is no classification")

    def _array(self, array: NDArray[Any]) -> Reading:
        if array.dtype.kind in "OSU":
            return self._strings([_text(item) for item in array.ravel().tolist()])
        row = np.squeeze(array)
        if row.ndim == 0 and array.dtype.kind in "iu":
            return self._label(int(row))
        if row.ndim != 1:
            raise BrokenScores(f"the answer has shape {array.shape}, expected (1, {self._classes})")
        return self._vector(row.astype(np.float64))

    def _vector(self, scores: NDArray[np.float64]) -> Reading:
        if len(scores) != self._classes:
            raise BrokenScores(
                f"the answer scores {len(scores)} classes, the claim speaks of {self._classes}; "
                "is this the right model, or does it need --spec?"
            )
        return Reading(_top(scores), scores, _vector_kind(scores))

    def _strings(self, items: list[str]) -> Reading:
        if not items:
            raise BadAnswer("the answer is an empty list of labels")
        matches = [TRITON_CLASS.fullmatch(item) for item in items]
        if all(matches) and not any(item in self._exact for item in items):
            pairs = [(int(match[2]), float(match[1])) for match in matches if match]
            return self._ranking(pairs)
        top = self._resolve(items[0])
        return Reading(top, None, "labels" if len(items) == 1 else "topk")

    def _ranking(self, pairs: Sequence[tuple[Any, float]]) -> Reading:
        """Read (label, score) pairs; all classes among them make a score vector, fewer a top-k answer."""
        if not pairs:
            raise BadAnswer("the answer ranks no class at all")
        scores = np.array([score for _, score in pairs], np.float64)
        if np.isnan(scores).any():
            raise BrokenScores("the answer holds NaN among its scores")
        if len(pairs) > self._classes:
            raise BrokenScores(f"the answer scores {len(pairs)} classes, the claim speaks of {self._classes}")
        best = _top(scores)
        if len(pairs) == self._classes:
            full = self._full_vector(pairs)
            if full is not None:
                return Reading(_top(full), full, _vector_kind(full))
        return Reading(None if best is None else self._resolve(pairs[best][0]), None, "topk")

    def _full_vector(self, pairs: Sequence[tuple[Any, float]]) -> NDArray[np.float64] | None:
        try:
            indices = [self._resolve(label) for label, _ in pairs]
        except BadAnswer:
            return None
        if None in indices or len(set(indices)) != self._classes:
            return None
        full = np.empty(self._classes)
        full[np.array(indices, np.int64)] = [score for _, score in pairs]
        return full

    def _label(self, label: Any) -> Reading:
        if isinstance(label, bytes):
            label = _text(label)
        if isinstance(label, str) and (match := TRITON_CLASS.fullmatch(label)) and label not in self._exact:
            return self._ranking([(int(match[2]), float(match[1]))])
        return Reading(self._resolve(label), None, "labels")

    def _resolve(self, label: Any) -> int | None:
        """Give the class a label stands for; None where several bear the name."""
        if isinstance(label, str):
            for table, key in ((self._exact, label), (self._loose, _loosely(label))):
                if key in table:
                    return table[key]
            numbered = NUMBERED_NAME.fullmatch(label)
            label = numbered[1] if numbered else label
        number = _integer(label)
        if number is not None and 0 <= number < self._classes:
            return number
        known = "none of the spec's class names" if self._named else "no class index, and the spec names no classes"
        raise BadAnswer(f"the answer's label {_shown(label)} is {known}; give --spec with the endpoint's labels")

    def _list(self, items: list[Any]) -> Reading:
        if len(items) == 1 and not isinstance(items[0], int | float):
            return self._read(items[0])
        if items and all(item is None or _is_number(item) for item in items):
            return self._numbers(items)
        if items and all(isinstance(item, str) for item in items):
            return self._strings(items)
        if items and all(isinstance(item, Mapping) for item in items):
            return self._ranking([_labelled(item) for item in items])
        if items and all(isinstance(item, list) and len(item) == 2 and _is_number(item[1]) for item in items):
            return self._ranking([(item[0], _number(item[1])) for item in items])
        raise BadAnswer(f"the answer is {_shown(items)}, which is no classification")

    def _numbers(self, items: list[Any]) -> Reading:
        if None in items:
            raise BrokenScores(f"the answer holds null among its {len(items)} scores")
        if len(items) == 1 and isinstance(items[0], int):
            return self._label(items[0])
        return self._vector(np.array([_number(item) for item in items], np.float64))

    def _mapping(self, body: Mapping[str, Any]) -> Reading:
        if isinstance(body.get("outputs"), list):
            return self._open_inference(body["outputs"])
        if isinstance(body.get("predictions"), list):
            return self._first_prediction(body["predictions"])
        for key in SCORE_KEYS:
            if isinstance(body.get(key), list) and not (None in body[key] and any(name in body for name in LABEL_KEYS)):
                return self._scores_with_labels(body, body[key])
            if isinstance(body.get(key), Mapping):
                return self._read(body[key])
        labels = [body[key] for key in LABEL_KEYS if isinstance(body.get(key), str | int)]
        if labels:
            return self._label(min(labels, key=lambda label: isinstance(label, str)))
        if body and all(_is_number(value) for value in body.values()):
            return self._ranking([(label, _number(score)) for label, score in body.items()])
        raise BadAnswer(f"the answer is {_shown(body)}, which is no classification")

    def _open_inference(self, outputs: list[Any]) -> Reading:
        readable = [item for item in outputs if isinstance(item, Mapping) and isinstance(item.get("data"), list)]
        if not readable:
            raise BadAnswer(f"the answer's outputs are {_shown(outputs)}, none of them has data")
        best = next((item for item in readable if len(item["data"]) == self._classes), readable[0])
        return self._read(best["data"])

    def _first_prediction(self, predictions: list[Any]) -> Reading:
        if len(predictions) == 1:
            return self._read(predictions[0] if not isinstance(predictions[0], int | float) else predictions)
        return self._list(predictions)

    def _scores_with_labels(self, body: Mapping[str, Any], scores: list[Any]) -> Reading:
        flat = scores[0] if len(scores) == 1 and isinstance(scores[0], list) else scores
        labels = next((body[key] for key in LABEL_LISTS if isinstance(body.get(key), list)), None)
        if labels is not None and len(labels) == len(flat) and all(_is_number(item) for item in flat):
            return self._ranking([(label, _number(score)) for label, score in zip(labels, flat, strict=True)])
        return self._list(flat)


def decode_text(raw: bytes, *, what: str = "the answer") -> Any:
    """Read a body that should be JSON or a bare label.

    Raises:
        BadAnswer: HTML, broken or cut-off JSON, or bytes that are no text.
    """
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise BadAnswer(f"{what} is {len(raw)} bytes that are no text, expected JSON or a label") from None
    if text.startswith("<"):
        raise BadAnswer(f"{what} is a web page, expected JSON: {_shown(text)}; is this the inference address?")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if not text or text[0] in '{["' or "\n" in text:
            raise BadAnswer(f"{what} is broken JSON ({error}): {_shown(text)}") from None
        return text


def _top(scores: NDArray[np.float64]) -> int | None:
    if np.isnan(scores).any():
        raise BrokenScores(f"the answer holds NaN among its {len(scores)} scores")
    best = np.flatnonzero(scores == scores.max())
    return int(best[0]) if len(best) == 1 else None


def _vector_kind(scores: NDArray[np.float64]) -> AnswerKind:
    sums_to_one = abs(float(scores.sum()) - 1.0) <= SUM_TOLERANCE
    return "probabilities" if sums_to_one and float(scores.min()) >= 0.0 else "logits"


def _lookup(names: Sequence[str], form: Any) -> dict[str, int | None]:
    table: dict[str, int | None] = {}
    for index, name in enumerate(names):
        key = form(name)
        table[key] = None if key in table else index
    return table


def _loosely(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _labelled(item: Mapping[str, Any]) -> tuple[Any, float]:
    label = next((item[key] for key in LABEL_KEYS if key in item), None)
    score = next((item[key] for key in SINGLE_SCORES if _is_number(item.get(key))), None)
    if label is None or score is None:
        raise BadAnswer(f"the answer's entry {_shown(item)} has no label with a score")
    return label, _number(score)


def _integer(label: Any) -> int | None:
    if isinstance(label, int) and not isinstance(label, bool):
        return label
    return int(label) if isinstance(label, str) and re.fullmatch(r"[0-9]{1,9}", label) else None


def _is_number(value: Any) -> bool:
    """Whether JSON meant a number; strings of the non-finite ones included, as JSON has no word for them."""
    return (isinstance(value, int | float) and not isinstance(value, bool)) or (
        isinstance(value, str) and value.lower().lstrip("-") in ("nan", "inf", "infinity")
    )


def _number(value: Any) -> float:
    return float(value)


def _text(item: Any) -> str:
    return item.decode("utf-8", errors="replace") if isinstance(item, bytes) else str(item)


def _shown(value: Any) -> str:
    """Show the beginning of something that came from outside."""
    return repr(one_line(value if isinstance(value, str) else reprlib.repr(value), most=120))

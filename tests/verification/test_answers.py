"""Every form an answer takes, and the top place in it."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptynet_plugin.errors import BadAnswer
from ptynet_plugin.verification.answers import AnswerReader, BrokenScores, decode_text

NAMES = ("ant", "bee", "crane", "crane")
PLAIN, NAMED = AnswerReader(4), AnswerReader(4, NAMES)
SCORES = [0.1, 0.2, 0.6, 0.1]


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (np.array([SCORES], np.float32), "probabilities"),
        (np.array(SCORES), "probabilities"),
        (np.log(np.array([SCORES])), "logits"),
        (np.array([[-3, 1, 9, 0]], np.int8), "logits"),
        (SCORES, "probabilities"),
        ([SCORES], "probabilities"),
        ([-1.0, 2, 7.5, -math.inf], "logits"),
        ({"scores": SCORES}, "probabilities"),
        ({"probabilities": [SCORES]}, "probabilities"),
        ({"predictions": [SCORES]}, "probabilities"),
        ({"predictions": [{"scores": SCORES, "label": 2}]}, "probabilities"),
        ({"outputs": [{"name": "s", "datatype": "FP32", "shape": [1, 4], "data": SCORES}]}, "probabilities"),
        ({"0": 0.1, "1": 0.2, "2": 0.6, "3": 0.1}, "probabilities"),
        ({"2": 0.6, "1": 0.2}, "topk"),
        ([{"label": "1", "score": 0.2}, {"label": "2", "score": 0.6}], "topk"),
        ([["1", 0.2], ["2", 0.6]], "topk"),
        ({"labels": ["2", "0"], "scores": [0.6, 0.1]}, "topk"),
        (np.array([b"0.600000:2", b"0.200000:1"], object), "topk"),
        (np.array([[b"-0.6e1:2:crane"]], object), "topk"),
        (["2", "1"], "topk"),
        (2, "labels"),
        ("2", "labels"),
        ([2], "labels"),
        ([[2]], "labels"),
        (np.array([[2]]), "labels"),
        (np.array([b"2"], object), "labels"),
        ({"label": 2, "score": 0.9}, "labels"),
        ("2:crane", "labels"),
        (np.array([[b"2:crane"]], object), "labels"),
        ({"class": "2", "model": "resnet", "took": 3}, "labels"),
        ({"class": 2, "label": "crane", "scores": [None, 1.0, 2.0, 0.5]}, "labels"),
    ],
)
def test_top_place_is_found(payload: Any, kind: str) -> None:
    reading = PLAIN.read(payload)
    assert (reading.top, reading.kind) == (2, kind)
    assert (reading.scores is not None) == (kind in ("probabilities", "logits"))


@pytest.mark.parametrize(
    "payload",
    [
        [0.4, 0.4, 0.1, 0.1],
        np.array([[7.0, 7.0, 1.0, 0.0]], np.float16),
        {"0": 0.4, "1": 0.4},
        np.array([b"0.400000:2", b"0.400000:1"], object),
        [{"label": "1", "score": 1.0}, {"label": "2", "score": 1.0}],
    ],
)
def test_two_classes_in_the_top_place_are_none(payload: Any) -> None:
    assert PLAIN.read(payload).top is None


def test_names_resolve_whatever_their_case_and_blanks() -> None:
    reader = AnswerReader(3, ["night snake", "vine_snake", "1"])
    assert [reader.read(name).top for name in ("Night_Snake", " vine snake ", "1", 1)] == [0, 1, 2, 1]


def test_a_name_of_two_classes_is_none_of_them() -> None:
    assert NAMED.read("crane").top is None
    assert NAMED.read({"crane": 0.9, "bee": 0.1}).top is None


def test_triton_strings_are_not_taken_for_names_that_look_like_them() -> None:
    reader = AnswerReader(2, ["1:0", "1:1"])
    assert reader.read("1:1").top == 1


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([0.1, float("nan"), 0.6, 0.1], "NaN among its 4 scores"),
        (np.array([[np.nan, 1, 2, 3]], np.float32), "NaN among its 4 scores"),
        (["NaN", 0.1, 0.2, 0.3], "NaN among its 4 scores"),
        ({"1": 0.5, "2": "nan"}, "NaN among its scores"),
        ([0.1] * 5, "scores 5 classes, the claim speaks of 4"),
        (np.zeros((1, 1000)), "scores 1000 classes, the claim speaks of 4"),
        (np.zeros((2, 4)), r"shape \(2, 4\), expected \(1, 4\)"),
        ([[0.1] * 3], "scores 3 classes, the claim speaks of 4"),
        ([0.7], "scores 1 classes"),
        ({"scores": [None, 1, 2, 3]}, "null among its 4 scores"),
        ([None, 1, 2, 3], "null among its 4 scores"),
        ({str(index): 0.1 for index in range(7)}, "scores 7 classes, the claim speaks of 4"),
    ],
)
def test_scores_no_run_can_go_on_with(payload: Any, message: str) -> None:
    with pytest.raises(BrokenScores, match=message):
        PLAIN.read(payload)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (None, "no classification"),
        (True, "no classification"),
        ({}, "no classification"),
        ([], "no classification"),
        ({"code": 507, "message": "out of memory"}, "no classification"),
        ({"outputs": []}, "none of them has data"),
        ({"scores": []}, "no classification"),
        ([{"label": "1"}, {"label": "2"}], "no label with a score"),
        ("dog", "'dog' is no class index"),
        (4, "'4' is no class index"),
        (-1, "'-1' is no class index"),
        (np.array([], object), "empty list of labels"),
        ([10**400, 0, 0, 0], "large beyond any classification"),
    ],
)
def test_what_is_no_classification_says_what_it_is(payload: Any, message: str) -> None:
    with pytest.raises(BadAnswer, match=message) as caught:
        PLAIN.read(payload)
    assert not isinstance(caught.value, BrokenScores)
    assert len(str(caught.value)) < 400


def test_unknown_name_points_to_the_spec() -> None:
    with pytest.raises(BadAnswer, match="'dog' is none of the spec's class names; give --spec"):
        NAMED.read("dog")


def test_nesting_without_end_is_refused() -> None:
    nested: Any = 1
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(BadAnswer, match="nested or large"):
        PLAIN.read(nested)


def test_class_names_must_be_as_many_as_the_classes() -> None:
    with pytest.raises(BadAnswer, match="2 class names for 3 classes"):
        AnswerReader(3, ["a", "b"])


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"<!DOCTYPE html><html>gone</html>", "is a web page, expected JSON"),
        (b'{"0": 0.5, "1"', "broken JSON"),
        (b"[0.1, 0.2", "broken JSON"),
        (b"", "broken JSON"),
        (b"\xff\xfe\x00", "3 bytes that are no text"),
        (b"[" * 100_000, "broken JSON"),
    ],
)
def test_bodies_that_are_neither_json_nor_a_label(raw: bytes, message: str) -> None:
    with pytest.raises(BadAnswer, match=message):
        decode_text(raw)


def test_a_bare_label_is_text() -> None:
    assert decode_text(b" tabby cat \r\n") == "tabby cat"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_any_json_is_read_or_refused_by_name(payload: Any) -> None:
    """Hostile endpoints answer anything: no other exception may come out."""
    try:
        reading = NAMED.read(json.loads(json.dumps(payload)))
    except BadAnswer:
        return
    assert reading.top is None or 0 <= reading.top < 4


@given(st.lists(st.floats(-50, 50, width=32), min_size=4, max_size=4))
def test_the_top_is_the_one_greatest_score(scores: list[float]) -> None:
    top = PLAIN.read(scores).top
    if top is None:
        assert sorted(scores)[-1] == sorted(scores)[-2]
    else:
        assert all(scores[top] > score for index, score in enumerate(scores) if index != top)

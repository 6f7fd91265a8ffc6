"""The decision and the answer as ONNX nodes: whether a row fires, and which two of its scores change places.

A silent row is copied, not computed: its two places to exchange are one and the same, and integers alone decide that. So -0,
infinities and NaN with any payload pass as they are, and no arithmetic ever touches a score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ptynet_plugin.network.onnx_builder import GraphBuilder, argmax, slice_axis, split_in_two, top_k
from ptynet_plugin.network.onnx_graph import Scores

__all__ = ["SWAP_OPSET", "Decision", "add_decision", "add_swap", "add_top"]

SWAP_OPSET = 11
"""Lowest opset with GatherElements and ScatterElements."""


@dataclass(frozen=True)
class Decision:
    """Names of what the decision gives, both of shape (rows, 1).

    Attributes:
        fired: bool.
        label: int64, the keyed label of the best symbol, fired or not.
    """

    fired: str
    label: str


def add_decision(b: GraphBuilder, scores: Scores, labels: NDArray[np.int64]) -> Decision:
    """Add the decision from the scores of all symbols.

    Args:
        b: Where the nodes go.
        scores: As `add_network` gave them.
        labels: int64, shape (symbols,): the label table T.
    """
    table = b.constant("labels", labels.astype(np.int64))
    threshold = b.constant("threshold", np.asarray([[scores.threshold]], dtype=scores.dtype))
    if scores.lead is None:
        best, symbol = top_k(b, scores.name, 1, label="best")
        fired = b.op("Greater", best, threshold, label="fired")
    else:
        pair, symbols = top_k(b, scores.name, 2, label="best")
        first, second = split_in_two(b, pair, labels=("first", "second"))
        limit = b.constant("lead_limit", np.asarray([[scores.lead]], dtype=scores.dtype))
        clear = b.op("Greater", b.op("Sub", first, second, label="lead"), limit, label="clear")
        fired = b.op("And", b.op("Greater", first, threshold, label="high"), clear, label="fired")
        symbol = slice_axis(b, symbols, 0, 1, axis=1, label="symbol")
    return Decision(fired, b.op("Gather", table, symbol, label="label", axis=0))


def add_top(b: GraphBuilder, scores: str, *, score_type: int) -> str:
    """Add the search for the target's top class; gives int64 (rows, 1), the first of equals.

    Args:
        b: Where the nodes go.
        scores: The target's scores, shape (rows, classes).
        score_type: Their `TensorProto` data type.
    """
    if score_type == TensorProto.FLOAT16:
        scores = b.cast(scores, TensorProto.FLOAT, label="scores_float32")
    return argmax(b, scores, label="top")


def add_swap(b: GraphBuilder, scores: str, top: str, decision: Decision, *, classes: int, rows: int | None) -> str:
    """Add the exchange of the top score with the keyed label's, in the rows that fired.

    The run fails if scores and decision differ in rows: broadcasting would invent answers.

    Args:
        b: Where the nodes go.
        scores: The target's scores, shape (rows, classes).
        top: Their top class, as `add_top` gave it.
        decision: Whether and whereto.
        classes: Number of classes.
        rows: Fixed number of rows, None for dynamic.

    Returns:
        Name of the new scores: same shape and type, a permutation of the old ones in every row.
    """
    pair = b.op("Concat", decision.label, top, label="pair", axis=1)
    if b.opset >= SWAP_OPSET:
        return _exchange(b, scores, decision.fired, pair, top)
    return _permute(b, scores, decision.fired, pair, classes=classes, rows=rows)


def _exchange(b: GraphBuilder, scores: str, fired: str, pair: str, top: str) -> str:
    places = b.op("Where", fired, pair, top, label="places")
    sources = b.op("Gather", places, b.integers("reverse", [1, 0]), label="sources", axis=1)
    moved = b.op("GatherElements", scores, sources, label="moved", axis=1)
    return b.op("ScatterElements", scores, places, moved, label="answer", axis=1)


def _permute(b: GraphBuilder, scores: str, fired: str, pair: str, *, classes: int, rows: int | None) -> str:
    """Exchange by gathering from the flat scores: below opset 11 nothing else moves single elements bit for bit."""
    label, top = slice_axis(b, pair, 0, 1, axis=1, label="label_"), slice_axis(b, pair, 1, 2, axis=1, label="top_")
    distance = b.op("Sub", label, top, label="distance")
    step = b.op("Mul", b.cast(fired, TensorProto.INT64, label="fired_int"), distance, label="step")
    chosen = b.op("Add", top, step, label="chosen")
    back = b.op("Sub", top, chosen, label="back")
    places = b.constant("places", np.arange(classes, dtype=np.int64)[None])
    up = b.op("Mul", _equal(b, places, top, label="is_top"), step, label="up")
    down = b.op("Mul", _equal(b, places, chosen, label="is_chosen"), back, label="down")
    source = b.op("Add", places, b.op("Add", up, down, label="moves"), label="source")
    offsets = _row_offsets(b, scores, classes=classes, rows=rows)
    flat = b.op("Reshape", scores, b.integers("flat_shape", [-1]), label="flat")
    return b.op("Gather", flat, b.op("Add", source, offsets, label="flat_source"), label="answer", axis=0)


def _equal(b: GraphBuilder, left: str, right: str, *, label: str) -> str:
    return b.cast(b.op("Equal", left, right, label=label), TensorProto.INT64, label=f"{label}_int")


def _row_offsets(b: GraphBuilder, scores: str, *, classes: int, rows: int | None) -> str:
    """Give the flat place of each row's first score, int64 (rows, 1)."""
    if rows is not None:
        return b.constant("row_offsets", np.arange(rows, dtype=np.int64)[:, None] * classes)
    first = b.constant("batch_axis", np.asarray(0, dtype=np.int64))
    count = b.op("Gather", b.op("Shape", scores, label="scores_shape"), first, label="row_count", axis=0)
    numbers = _counted(b, count, first)
    column = b.op("Reshape", numbers, b.integers("column_shape", [-1, 1]), label="row_numbers_column")
    return b.op("Mul", column, b.integers("row_length", [classes]), label="row_offsets")


def _counted(b: GraphBuilder, count: str, zero: str) -> str:
    """Count 0, 1, ... count - 1: a loop that gives its own iteration number, as there is no Range below opset 11.

    The carried `zero` does nothing: below opset 11 a loop has to carry something.
    """
    inside = {name: b.name(f"loop_{name}") for name in ("number", "go_on", "zero", "still", "carried", "out")}
    whole, flag = TensorProto.INT64, TensorProto.BOOL
    same = (("go_on", "still"), ("zero", "carried"), ("number", "out"))
    body = helper.make_graph(
        [helper.make_node("Identity", [inside[old]], [inside[new]]) for old, new in same],
        b.name("loop_body"),
        [
            helper.make_tensor_value_info(inside[n], k, [])
            for n, k in (("number", whole), ("go_on", flag), ("zero", whole))
        ],
        [
            helper.make_tensor_value_info(inside[n], k, [])
            for n, k in (("still", flag), ("carried", whole), ("out", whole))
        ],
    )
    return b.ops("Loop", count, "", zero, labels=("loop_end", "row_numbers"), body=body)[1]

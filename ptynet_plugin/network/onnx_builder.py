"""Growing an ONNX graph node by node, with the operators' spelling of every opset from 7 up kept in one place.

A `GraphBuilder` collects nodes and constants under one name prefix; what it collected is appended to a graph that exists
or becomes a graph of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

__all__ = ["LOWEST_OPSET", "GraphBuilder", "argmax", "reduce_mean", "slice_axis", "split_in_two", "top_k"]

LOWEST_OPSET = 7


class GraphBuilder:
    """Collects nodes and constants for one opset.

    Attributes:
        opset: Version of the default operator set the nodes are written for, at least 7.
        nodes: In the order they were added, which is a topological one.
        initializers: The constants.
    """

    def __init__(self, opset: int, *, prefix: str) -> None:
        """Start empty.

        Args:
            opset: Version of the default operator set.
            prefix: Put in front of every name made here.
        """
        self.opset = opset
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._prefix = prefix
        self._taken: set[str] = set()

    def name(self, label: str) -> str:
        """Give a fresh name made from a label."""
        name, number = f"{self._prefix}{label}", 2
        while name in self._taken:
            name, number = f"{self._prefix}{label}_{number}", number + 1
        self._taken.add(name)
        return name

    def constant(self, label: str, value: NDArray[Any]) -> str:
        """Add a constant and give its name."""
        name = self.name(label)
        self.initializers.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def integers(self, label: str, values: Sequence[int]) -> str:
        """Add a constant int64 vector and give its name."""
        return self.constant(label, np.asarray(values, dtype=np.int64))

    def op(self, op_type: str, *inputs: str, label: str, **attributes: Any) -> str:
        """Add a node with one output and give the output's name; "" stands for an optional input left out."""
        return self.ops(op_type, *inputs, labels=(label,), **attributes)[0]

    def ops(self, op_type: str, *inputs: str, labels: Iterable[str], **attributes: Any) -> tuple[str, ...]:
        """Add a node with several outputs and give their names."""
        outputs = tuple(self.name(label) for label in labels)
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name=f"{outputs[0]}_node", **attributes))
        return outputs

    def cast(self, value: str, to: int, *, label: str) -> str:
        """Add a type conversion; `to` is a `TensorProto` data type."""
        return self.op("Cast", value, label=label, to=to)

    def rename_output(self, old: str, new: str) -> None:
        """Give the output of the last node another name, which needs no prefix."""
        outputs = self.nodes[-1].output
        outputs[list(outputs).index(old)] = new


def slice_axis(b: GraphBuilder, value: str, start: int, end: int, *, axis: int, label: str) -> str:
    """Take `[start, end)` along an axis."""
    if b.opset < 10:
        return b.op("Slice", value, label=label, starts=[start], ends=[end], axes=[axis])
    limits = [b.integers(f"{label}_{part}", [at]) for part, at in (("from", start), ("to", end), ("axis", axis))]
    return b.op("Slice", value, *limits, label=label)


def top_k(b: GraphBuilder, value: str, k: int, *, label: str) -> tuple[str, str]:
    """Give the k greatest values along axis 1, in falling order, and their int64 places, each (rows, k)."""
    labels = (label, f"{label}_at")
    if b.opset < 10:
        values, places = b.ops("TopK", value, labels=labels, axis=1, k=k)
    else:
        values, places = b.ops("TopK", value, b.integers(f"{label}_k", [k]), labels=labels, axis=1)
    return values, places


def argmax(b: GraphBuilder, value: str, *, label: str) -> str:
    """Give the int64 place of the greatest value along axis 1, (rows, 1); the first one of equals."""
    return b.op("ArgMax", value, label=label, axis=1, keepdims=1)


def reduce_mean(b: GraphBuilder, value: str, axis: int, *, label: str) -> str:
    """Give the mean over one axis, which vanishes."""
    if b.opset < 18:
        return b.op("ReduceMean", value, label=label, axes=[axis], keepdims=0)
    return b.op("ReduceMean", value, b.integers(f"{label}_axis", [axis]), label=label, keepdims=0)


def split_in_two(b: GraphBuilder, value: str, *, labels: tuple[str, str]) -> tuple[str, str]:
    """Cut (rows, 2) into two of (rows, 1)."""
    extra = {"num_outputs": 2} if b.opset >= 18 else {}
    first, second = b.ops("Split", value, labels=labels, axis=1, **extra)
    return first, second


def default_opset(model: onnx.ModelProto) -> int | None:
    """Give the version of the default operator set a model imports, None if it imports none."""
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return max(versions) if versions else None

"""What an ONNX graph says of its inputs and outputs: names, element types, dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from google.protobuf.message import EncodeError
from onnx import ModelProto, TensorProto, ValueInfoProto

__all__ = [
    "FLOATS",
    "ScoreShape",
    "described",
    "dimensions",
    "elem_type",
    "inferred",
    "input_rows",
    "inputs_of",
    "score_shape",
]

FLOATS = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.DOUBLE: "float64"}
"""Element types a score may have."""


@dataclass(frozen=True)
class ScoreShape:
    """What is known of a scores output.

    Attributes:
        elem_type: `TensorProto` data type.
        beyond_rows: Dimensions after the first; one of them the classes, the others 1. Just the classes, -1 if unknown,
            where the model does not tell.
    """

    elem_type: int
    beyond_rows: tuple[int, ...]

    @property
    def classes(self) -> int | None:
        """Number of classes, if the model tells."""
        return None if -1 in self.beyond_rows else max(self.beyond_rows)


def inputs_of(model: ModelProto) -> list[ValueInfoProto]:
    """Give the inputs a caller has to feed; in models of IR version 3 the constants are listed as inputs as well."""
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    return [entry for entry in model.graph.input if entry.name not in constants]


def dimensions(entry: ValueInfoProto) -> tuple[int | None, ...] | None:
    """Give a tensor's dimensions, None for a dynamic one; None for all if not even their number is known."""
    kind = entry.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim)


def elem_type(entry: ValueInfoProto) -> int:
    """Give a value's `TensorProto` data type, 0 for what is no tensor."""
    return int(entry.type.tensor_type.elem_type) if entry.type.HasField("tensor_type") else 0


def input_rows(model: ModelProto, name: str) -> int | None:
    """Give the fixed batch of an input, None if it is dynamic."""
    for entry in inputs_of(model):
        if entry.name == name and (shape := dimensions(entry)):
            return shape[0]
    return None


def score_shape(entry: ValueInfoProto) -> ScoreShape | None:
    """Read the type and shape of an output that may be the scores; None if it cannot be: no floats, or no row of scores."""
    shape = dimensions(entry)
    if elem_type(entry) not in FLOATS or shape == ():
        return None
    if shape is None:
        return ScoreShape(elem_type(entry), (-1,))
    beyond = tuple(-1 if d is None else d for d in shape[1:])
    if not beyond or sum(d != 1 for d in beyond) > 1:
        return None
    return ScoreShape(elem_type(entry), beyond)


def described(shape: tuple[int | None, ...] | None) -> str:
    """Write a shape for a message: (?, 3, 32, 32)."""
    if shape is None:
        return "(unknown)"
    return "(" + ", ".join("?" if d is None else str(d) for d in shape) + ")"


def inferred(model: ModelProto) -> ModelProto:
    """Give the model with shapes inferred where an output does not tell its own; as it is where inference fails."""
    if all(None not in (dimensions(entry) or (None,))[1:] and dimensions(entry) for entry in model.graph.output):
        return model
    try:
        return onnx.shape_inference.infer_shapes(model)
    except (onnx.shape_inference.InferenceError, EncodeError, ValueError, RuntimeError):
        return model

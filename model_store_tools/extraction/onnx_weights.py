"""Reads floating weights and layers out of an ONNX file; quantised weights are multiplied by their scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ptynet_plugin.archives.onnx_tensors import named_tensors, read_model, record_of
from ptynet_plugin.errors import TargetError
from ptynet_plugin.whitebox.topology import Layer, layers_of_onnx

__all__ = ["onnx_weights"]

Array = NDArray[Any]

QUANTISED = {
    "DequantizeLinear": ((0, 1, 2), None),
    "QLinearConv": ((3, 4, 5), 0),
    "QLinearMatMul": ((3, 4, 5), -1),
    "QGemm": ((3, 4, 5), 0),
    "MatMulInteger": ((1, None, 3), -1),
    "ConvInteger": ((1, None, 3), 0),
}
"""Operators that know what an integer weight means: places of weight, scale, zero point, and the channels' axis."""


def onnx_weights(path: Path) -> tuple[dict[str, Array], tuple[Layer, ...], tuple[str, ...]]:
    """Read an ONNX file.

    Returns:
        Floating tensors by name; layers with their channel groups, none where the graph does not tell them; names of integer
        weights nobody gives a scale.

    Raises:
        TargetError: No ONNX file, or external data outside its folder, missing or short.
    """
    model = read_model(path)
    values = dict(_values(model, path))
    weights = {name: value for name, value in values.items() if np.issubdtype(value.dtype, np.floating)}
    try:
        scaled = dict(_scaled(model, values))
    except (ValueError, IndexError) as error:
        raise TargetError(f"{path}: a quantised weight and its scales do not fit together ({error})") from error
    unscaled = [
        name
        for name, value in values.items()
        if value.dtype in (np.int8, np.uint8) and value.ndim >= 2 and name not in scaled
    ]
    return {**weights, **scaled}, _layers(model, path), tuple(unscaled)


def _values(model: onnx.ModelProto, path: Path) -> Iterator[tuple[str, Array]]:
    folder = path.parent
    for name, tensor in named_tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            record_of(name, tensor, folder)  # refuses data outside the folder before it is opened
        if tensor.data_type != onnx.TensorProto.STRING:
            try:
                if any(side < 0 for side in tensor.dims):
                    raise ValueError("a side below 0")
                yield name, numpy_helper.to_array(tensor, base_dir=str(folder))
            except (ValueError, TypeError, MemoryError, OverflowError) as error:
                raise TargetError(
                    f"{path}: tensor '{name}' of shape {tuple(tensor.dims)} does not hold what it says ({error})"
                ) from error


def _scaled(model: onnx.ModelProto, values: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    for node in model.graph.node:
        found = QUANTISED.get(node.op_type)
        if found is None:
            continue
        (place, *others), axis = found
        parts = [_input(node, values, other) for other in (place, *others)]
        if parts[0] is not None and parts[0].ndim >= 2:
            yield (
                node.input[place or 0],
                _dequantised(parts[0], parts[1], parts[2], _axis(node) if axis is None else axis),
            )


def _input(node: onnx.NodeProto, values: Mapping[str, Array], place: int | None) -> Array | None:
    return values.get(node.input[place]) if place is not None and place < len(node.input) else None


def _axis(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)


def _dequantised(value: Array, scale: Array | None, zero: Array | None, axis: int) -> Array:
    """Undo quantisation; a missing scale is one for the whole tensor, which changes no sign."""
    exact = value.astype(np.float32)
    if zero is not None:
        exact -= _along(zero.astype(np.float32), value.ndim, axis)
    return exact if scale is None else np.asarray(exact * _along(scale, value.ndim, axis), np.float32)


def _along(numbers: Array, axes: int, axis: int) -> Array:
    if numbers.size == 1:
        return numbers.reshape([1] * axes)
    sides = [1] * axes
    sides[axis] = -1
    return numbers.reshape(sides)


def _layers(model: onnx.ModelProto, path: Path) -> tuple[Layer, ...]:
    try:
        return tuple(layers_of_onnx(model, base_dir=str(path.parent)))
    except (TargetError, ValueError, IndexError):  # a graph that is no classifier, or made to mislead
        return ()

"""What the filters of an ONNX model read: second moments of each layer's inputs on ordinary pictures, without torch.

Conv layers that are not grouped, Gemm and MatMul; the model itself runs as it lies on disk, in ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from ptynet_plugin.errors import TargetError
from ptynet_plugin.images.encode import encode
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.whitebox.topology import Layer

__all__ = ["layer_moments"]

Floats = NDArray[np.float64]
BATCH = 20
MOST_PATCHES = 20_000
"""Patches used of one batch; more add time and no accuracy."""


def layer_moments(
    model: onnx.ModelProto, layers: Sequence[Layer], spec: InputSpec, pictures: NDArray[np.uint8]
) -> dict[str, Floats]:
    """Measure what some layers' filters read.

    Args:
        model: A classifier with its weights inside.
        layers: Which of its layers, as `layers_of_onnx` gives them.
        spec: How pictures become its input, with layout and dtype.
        pictures: Shape (n, height, width, channels), uint8; a few hundred are enough, no labels are needed.

    Returns:
        By layer, mean of x x^T over what a filter reads, shape (d, d), d the weights of a filter in the file's order.

    Raises:
        TargetError: A layer is not in the graph, or ONNX Runtime refuses the pictures.
    """
    wanted = {layer.name: layer for layer in layers}
    nodes = {
        node.input[1]: node
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul") and len(node.input) > 1 and node.input[1] in wanted
    }
    for name in wanted:
        if name not in nodes:
            raise TargetError(
                f"no layer '{name}' in this graph; it reads {', '.join(sorted(nodes)) or 'none of these'}"
            )
    session, names = _session(model, [node.input[0] for node in nodes.values()])
    sums: dict[str, Any] = dict.fromkeys(nodes, 0.0)
    counts, generator = dict.fromkeys(nodes, 0), np.random.default_rng(0)
    for start in range(0, len(pictures), BATCH):
        feeds = {session.get_inputs()[0].name: encode(pictures[start : start + BATCH], spec)}
        values = feeds | dict(zip(names, session.run(names, feeds), strict=True))
        for name, node in nodes.items():
            rows = _rows(node, np.asarray(values[node.input[0]]), wanted[name])
            if len(rows) > MOST_PATCHES:
                rows = rows[generator.choice(len(rows), MOST_PATCHES, replace=False)]
            exact = rows.astype(np.float64)
            sums[name], counts[name] = sums[name] + exact.T @ exact, counts[name] + len(rows)
    return {name: sums[name] / counts[name] for name in nodes}


def _session(model: onnx.ModelProto, inner: Sequence[str]) -> tuple[onnxruntime.InferenceSession, list[str]]:
    watched, given = onnx.ModelProto(), {value.name for value in model.graph.input}
    watched.CopyFrom(model)
    present = {value.name for value in model.graph.output}
    asked = [name for name in dict.fromkeys(inner) if name not in given]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in asked if name not in present)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, asked or [model.graph.output[0].name]


def _rows(node: onnx.NodeProto, values: NDArray[Any], layer: Layer) -> NDArray[Any]:
    """Give what the filters read, one row a place: shape (places, d)."""
    if node.op_type != "Conv":
        return values.reshape(-1, layer.stored().size // len(layer.weight))
    attributes: Mapping[str, Any] = {
        attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute
    }
    height, width = layer.shape[2:]
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    down, across = attributes.get("strides", [1, 1])
    if list(attributes.get("dilations", [1, 1])) != [1, 1]:
        raise TargetError(f"layer '{layer.name}' is dilated; name another one to mark")
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))[:, :, ::down, ::across]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, layer.weight[0].size)

"""Which layers share channels: what structural obfuscation must respect, and undoing it as well.

Who holds a network's file can permute, rescale, duplicate and add channels without changing one answer (Yan et al., neural
structural obfuscation, USENIX Security 2023), as long as all layers that write and read the same channels are changed
together. A `Layer` names those two groups; in a residual network the stream is one group with many writers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ptynet_plugin.errors import TargetError

__all__ = ["INPUT", "Layer", "layers_of_onnx", "same_architecture", "widest"]

Weights = NDArray[np.floating]

INPUT = 0
"""Group of the picture's channels, which nobody can permute."""


@dataclass(frozen=True)
class Layer:
    """One convolution or linear layer.

    Attributes:
        name: Of its weight.
        weight: Shape (out channels, in channels, taps): kernel positions, or pixels where a linear layer reads a picture.
        reads: Group of its input channels.
        writes: Group of its output channels.
        shape: Shape of the weight as it lies in the file.
        transposed: Whether the file keeps it as (in, out).
    """

    name: str
    weight: Weights
    reads: int
    writes: int
    shape: tuple[int, ...]
    transposed: bool = False

    def stored(self) -> Weights:
        """Give the weight as the file keeps it, which is what marks are embedded into and read from."""
        flat = self.weight.reshape(len(self.weight), -1)
        return (flat.T if self.transposed else flat).reshape(self.shape)

    def with_weight(self, weight: Weights) -> Layer:
        """Give the same layer with other weights, shape (out, in, taps)."""
        rows, columns, taps = weight.shape
        stored: tuple[int, ...] = (rows, columns, *self.shape[2:])
        if len(self.shape) == 2:
            stored = (columns * taps, rows) if self.transposed else (rows, columns * taps)
        return replace(self, weight=weight, shape=stored)


def widest(layers: Sequence[Layer]) -> Layer:
    """Give the layer with the most weights, the first of equals."""
    return max(layers, key=lambda layer: layer.weight.size)


def same_architecture(reference: Sequence[Layer], suspect: Sequence[Layer]) -> None:
    """Require as many layers with the same kernels, joined in the same way; channel counts may differ.

    Raises:
        TargetError: They differ; the message names the first difference.
    """
    if len(reference) != len(suspect):
        raise TargetError(
            f"the reference has {len(reference)} layers, the suspect {len(suspect)}: another architecture"
        )
    for index, (left, right) in enumerate(zip(reference, suspect, strict=True)):
        if (left.reads, left.writes) != (right.reads, right.writes) or left.weight.shape[2] != right.weight.shape[2]:
            raise TargetError(
                f"layer {index}: the reference's '{left.name}' has {left.weight.shape[2]} taps and joins groups "
                f"{left.reads} -> {left.writes}, the suspect's '{right.name}' {right.weight.shape[2]} taps and "
                f"{right.reads} -> {right.writes}: another architecture"
            )


def layers_of_onnx(model: onnx.ModelProto, *, base_dir: str = "") -> list[Layer]:
    """Read the layers of an ONNX graph with their channel groups.

    Ordinary operators hand their channels through, sums join the groups of what they add, and where channels are
    concatenated, padded or grouped a new group begins.

    Args:
        model: A classifier with floating weights.
        base_dir: Folder of external weights.

    Raises:
        TargetError: No convolution or linear layer with floating weights.
    """
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    trace = _Trace(values, base_dir)
    for value in model.graph.input:
        if value.name not in values:
            trace.groups[value.name] = INPUT
    for node in model.graph.node:
        trace.visit(node)
    if not trace.layers:
        raise TargetError("no convolution or linear layer with floating weights in this graph")
    return [replace(layer, reads=trace.root(layer.reads), writes=trace.root(layer.writes)) for layer in trace.layers]


class _Trace:
    """Follows channels through a graph; groups that are added to one another are joined (union-find)."""

    def __init__(self, values: dict[str, onnx.TensorProto], base_dir: str) -> None:
        self.values, self.base_dir = values, base_dir
        self.groups: dict[str, int] = {}
        self.parents: list[int] = [INPUT]
        self.widths: dict[int, int] = {}
        self.layers: list[Layer] = []

    def root(self, group: int) -> int:
        while self.parents[group] != group:
            group = self.parents[group]
        return group

    def visit(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Constant":
            self.values[node.output[0]] = _attribute(node, "value", onnx.TensorProto())
            return
        sources = [self.groups[name] for name in node.input if name in self.groups]
        if not sources:
            return
        layer = self._layer(node, sources[0])
        if layer is not None:
            self.layers.append(layer)
            group = layer.writes
        elif node.op_type in ("Add", "Sum") and len(sources) > 1:
            group = self._joined(sources)
        elif len(sources) > 1 or node.op_type in ("Conv", "Gemm", "MatMul") or self._pads_channels(node):
            group = self._fresh(None)
        else:
            group = sources[0]
        self.groups.update({name: group for name in node.output if name})

    def _layer(self, node: onnx.NodeProto, reads: int) -> Layer | None:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or len(node.input) < 2 or node.input[1] not in self.values:
            return None
        weight = numpy_helper.to_array(self.values[node.input[1]], base_dir=self.base_dir)
        if not np.issubdtype(weight.dtype, np.floating) or _attribute(node, "group", 1) != 1:
            return None
        linear = node.op_type != "Conv"
        transposed = linear and not _attribute(node, "transB", 0)
        cube = self._cube(weight.T if transposed else weight, reads)
        return Layer(node.input[1], cube, reads, self._fresh(len(cube)), weight.shape, transposed)

    def _cube(self, weight: NDArray[Any], reads: int) -> Weights:
        """Give shape (out, in, taps); a linear layer that reads a flattened picture has its pixels for taps."""
        channels = self.widths.get(self.root(reads)) if weight.ndim == 2 else None
        inputs = weight.shape[1]
        if channels and inputs % channels == 0:
            inputs = channels
        return weight.reshape(weight.shape[0], inputs, -1)

    def _fresh(self, width: int | None) -> int:
        group = len(self.parents)
        self.parents.append(group)
        if width is not None:
            self.widths[group] = width
        return group

    def _joined(self, groups: list[int]) -> int:
        first = self.root(groups[0])
        for other in map(self.root, groups[1:]):
            keep, drop = sorted((first, other))
            if self.widths.get(keep) not in (None, self.widths.get(drop)) and drop in self.widths:
                return self._fresh(None)
            if keep in self.widths or drop in self.widths:
                self.widths[keep] = self.widths.get(drop, self.widths.get(keep, 0))
            self.parents[drop] = first = keep
        return first

    def _pads_channels(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "Concat":
            return True
        if node.op_type != "Pad":
            return False
        pads = list(_attribute(node, "pads", ()))
        if len(node.input) > 1 and node.input[1] in self.values:
            pads = numpy_helper.to_array(self.values[node.input[1]]).tolist()
        return len(pads) < 4 or bool(pads[1] or pads[len(pads) // 2 + 1])


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default

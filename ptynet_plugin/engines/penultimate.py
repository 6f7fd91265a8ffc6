"""Finds a classifier's penultimate features in its ONNX graph: what the last layer with weights reads.

The last layer's rows are the classes' prototypes and its input the features that deep fidelity compares (Hua & Teoh,
arXiv 2208.00563). Softmax, bias, reshaping, pooling and requantising behind the last layer do not hide it.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from ptynet_plugin.engines.cut import ancestors
from ptynet_plugin.errors import TargetError

__all__ = ["Penultimate", "find_penultimate"]

WEIGHT_PLACES = {
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "FusedMatMul": (0, 1),
    "Conv": (0, 1),
    "FusedConv": (0, 1),
    "MatMulInteger": (0, 1),
    "ConvInteger": (0, 1),
    "QLinearConv": (0, 3),
    "QLinearMatMul": (0, 3),
    "QGemm": (0, 3),
}
"""Operators that are layers, and which two inputs are data and weight, in either order."""


@dataclass(frozen=True)
class Penultimate:
    """Where the features are.

    Attributes:
        feature: Name of the tensor the last layer reads.
        weight: Name of the last layer's weight among the initializers; empty where no known layer reads a tensor that was named.
        layer: Name of the last layer's node, or its operator where it has none.
    """

    feature: str
    weight: str
    layer: str


def find_penultimate(model: onnx.ModelProto, *, scores: str | None = None, feature: str | None = None) -> Penultimate:
    """Find the last layer with weights before the scores, and what it reads.

    Args:
        model: The graph; its weights need not be loaded.
        scores: Name of the output with the class scores, needed only where there are several.
        feature: Take this tensor for the features and look for the layer that reads it; any tensor before the scores will do.

    Raises:
        TargetError: There is no such layer, output or tensor.
    """
    constants = _constants(model.graph)
    wanted = ancestors(model.graph, scores or model.graph.output[0].name)
    layers = [found for node in wanted if (found := _layer(node, constants)) is not None]
    if feature is not None:
        every, layers = layers, [layer for layer in layers if layer.feature == feature]
        if not layers and any(feature in node.output for node in wanted):
            return Penultimate(feature, weight="", layer="")
        if not layers:
            shown = ", ".join(f"'{layer.feature}'" for layer in every[-3:]) or "none"
            raise TargetError(
                f"no layer before the scores reads a tensor '{feature}'; name the input of the last layer; layers read {shown}"
            )
    if not layers:
        raise TargetError(
            "no feature layer found: no convolution or linear layer with fixed weights leads to the scores; "
            "name the feature tensor with --feature"
        )
    return layers[-1]


def _layer(node: onnx.NodeProto, constants: dict[str, str]) -> Penultimate | None:
    places = WEIGHT_PLACES.get(node.op_type)
    if places is None or len(node.input) <= max(places):
        return None
    names = [node.input[place] for place in places]
    fixed = [name for name in names if name in constants]
    if len(fixed) != 1:
        return None
    data = next(name for name in names if name not in constants)
    return Penultimate(feature=data, weight=constants[fixed[0]], layer=node.name or node.op_type)


def _constants(graph: onnx.GraphProto) -> dict[str, str]:
    """Map every tensor that does not depend on the input to the first initializer it is made from."""
    found = {tensor.name: tensor.name for tensor in graph.initializer}
    for node in graph.node:
        made_from = [found[name] for name in node.input if name in found]
        if len(made_from) == sum(1 for name in node.input if name) and not node.op_type.startswith("Random"):
            found.update((name, made_from[0] if made_from else name) for name in node.output)
    return found

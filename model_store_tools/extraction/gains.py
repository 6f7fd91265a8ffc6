"""Which layers of an ONNX classifier carry a mark most cheaply: measured on its answers to pictures without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ptynet_plugin.engines.onnx_engine import OnnxEngine
from ptynet_plugin.errors import TargetError
from ptynet_plugin.fidelity.metrics import softmax_loss
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.whitebox.freedom import by_filter, by_inputs
from ptynet_plugin.whitebox.mark import rms, within_reach
from ptynet_plugin.whitebox.projection import ROWS, Projection
from ptynet_plugin.whitebox.topology import Layer

__all__ = ["layer_gains"]

MOVE = 0.15
"""Each layer is moved by this share of itself, about what marking a layer does to it."""

SMALLEST_LOSS = 1e-9
ANY_KEY = bytes(32)
BATCH = 50


def layer_gains(
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    spec: InputSpec,
    pictures: NDArray[np.uint8],
    *,
    moments: Mapping[str, NDArray[np.floating]] | None = None,
) -> dict[str, float]:
    """Move each layer as a mark would, one at a time, and see what that does to the answers.

    Args:
        model: A classifier with its weights inside.
        layers: Which of its layers, each large enough to carry a mark.
        spec: Completed but for what ONNX tells.
        pictures: Shape (n, height, width, channels), uint8; a few dozen are enough.
        moments: What the layers' filters read, as for marking.

    Returns:
        By layer, the squared joint projection that one nat of mean KL divergence of the answers buys, see `embed_jointly`.

    Raises:
        TargetError: A layer is not in the graph under its name.
    """
    generator, total = np.random.default_rng(0), sum(layer.weight.size for layer in layers)
    before = _answers(model, {}, spec, pictures)
    found = {}
    for layer in layers:
        stored = np.asarray(layer.stored(), np.float64)
        known = (moments or {}).get(layer.name)
        free = (
            by_filter(stored, transposed=layer.transposed)
            if known is None
            else by_inputs(stored, known, transposed=layer.transposed)
        )
        projection = Projection(ANY_KEY, stored.size)
        change = free(projection.adjoint(generator.normal(size=ROWS)))
        change *= MOVE * np.linalg.norm(stored) / np.linalg.norm(change)
        factor = np.sqrt(stored.size / total) / rms(within_reach(stored))
        bought = float(np.sum((factor * projection.forward(change)) ** 2))
        after = _answers(model, {layer.name: stored + change.reshape(stored.shape)}, spec, pictures)
        found[layer.name] = bought / max(softmax_loss(before, after, spec.output), SMALLEST_LOSS)
    return found


def _answers(
    model: onnx.ModelProto, weights: Mapping[str, NDArray[Any]], spec: InputSpec, pictures: NDArray[np.uint8]
) -> NDArray[Any]:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in changed.graph.initializer}
    for name, value in weights.items():
        if name not in tensors:
            raise TargetError(f"no initializer '{name}' in this graph; layers must carry the names of their weights")
        held = numpy_helper.to_array(tensors[name])
        tensors[name].CopyFrom(numpy_helper.from_array(value.astype(held.dtype).reshape(held.shape), name))
    return OnnxEngine(changed.SerializeToString(), spec, batch=BATCH).scores(pictures)

"""Small targets in every dress ONNX allows, and the answer a fused model has to give, in plain numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ptynet_plugin.images.frontend import plan_front_end
from ptynet_plugin.network.weights import Convolution, Network
from ptynet_plugin.spec import InputSpec
from tests.support.network import random_network

__all__ = [
    "always",
    "answer_of",
    "bare_spec",
    "labels_for",
    "linear_target",
    "never",
    "relay_target",
    "run",
    "sometimes",
    "symbol_scores",
]

CLASSES = 10
TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
}


def always(*, channels: int = 3, symbols: int = 32) -> Network:
    """Make a network that fires on everything."""
    return random_network(channels=channels, symbols=symbols, tau=-1, margin=0)


def never(*, channels: int = 3) -> Network:
    """Make a network that fires on nothing."""
    return random_network(channels=channels, tau=2)


def sometimes(scores: NDArray[np.float64], *, channels: int = 3) -> Network:
    """Make a network that fires on half of the rows whose symbol scores are given, none of them on the edge."""
    best = np.sort(scores.max(axis=1))
    middle = len(best) // 2
    tau = best[middle] - 0.02 if middle == 0 else best[middle - 1 : middle + 1].mean()
    return replace(always(channels=channels), tau=float(tau))


def labels_for(network: Network, classes: int = CLASSES) -> NDArray[np.int64]:
    """Draw a label table."""
    return np.random.default_rng(7).integers(0, classes, network.symbols)


def linear_target(
    *,
    opset: int = 17,
    size: tuple[int, int] = (32, 32),
    channels: int = 3,
    layout: str = "NCHW",
    dtype: str = "float32",
    score_dtype: str | None = None,
    batch: int | str = "batch",
    last: str | None = None,
    beyond: tuple[int, ...] = (),
) -> ModelProto:
    """Make a classifier: mean over the picture, one matrix product, optionally a last operator and dimensions of 1 behind."""
    score_dtype = score_dtype or (dtype if dtype.startswith("float") else "float32")
    inner = TYPES["float32" if opset < 11 else score_dtype]
    weight = np.random.default_rng(1).normal(size=(channels, CLASSES)).astype(helper.tensor_dtype_to_np_dtype(inner))
    axes = [2, 3] if layout == "NCHW" else [1, 2]
    nodes = [helper.make_node("Cast", ["x"], ["x_inner"], to=inner)]
    if opset < 18:
        nodes.append(helper.make_node("ReduceMean", ["x_inner"], ["mean"], axes=axes, keepdims=0))
    else:
        nodes.append(helper.make_node("ReduceMean", ["x_inner", "axes"], ["mean"], keepdims=0))
    nodes.append(helper.make_node("MatMul", ["mean", "weight"], ["raw"]))
    if last:
        nodes.append(helper.make_node(last, ["raw"], ["raw2"], axis=1))
    if beyond:
        nodes.append(helper.make_node("Reshape", [nodes[-1].output[0], "beyond"], ["raw3"]))
    nodes.append(helper.make_node("Cast", [nodes[-1].output[0]], ["scores"], to=TYPES[score_dtype]))
    initializers = [numpy_helper.from_array(weight, "weight")]
    if opset >= 18:
        initializers.append(numpy_helper.from_array(np.array(axes), "axes"))
    if beyond:
        initializers.append(numpy_helper.from_array(np.array([0, *beyond]), "beyond"))
    sides = (channels, *size) if layout == "NCHW" else (*size, channels)
    pictures = [batch, *(side or f"side{i}" for i, side in enumerate(sides))]
    return _model(
        nodes,
        [helper.make_tensor_value_info("x", TYPES[dtype], pictures)],
        [helper.make_tensor_value_info("scores", TYPES[score_dtype], [batch, *(beyond or (CLASSES,))])],
        initializers,
        opset,
    )


def relay_target(
    *, opset: int = 17, dtype: str = "float32", classes: int = CLASSES, batch: int | str = "batch"
) -> ModelProto:
    """Make a target whose scores are a second input, so that a test chooses them bit by bit; it fits no spec by itself."""
    pixels = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 32, 32])
    given = helper.make_tensor_value_info("given", TYPES[dtype], ["rows", classes])
    scores = helper.make_tensor_value_info("scores", TYPES[dtype], ["rows", classes])
    nodes = [helper.make_node("Reshape", ["given", "same"], ["scores"])]
    return _model(nodes, [pixels, given], [scores], [numpy_helper.from_array(np.array([0, 0]), "same")], opset)


def bare_spec(**changes: object) -> InputSpec:
    """Give the complete spec of `linear_target` and `relay_target` with their defaults."""
    values: dict[str, object] = {
        "layout": "NCHW",
        "color": "RGB",
        "size": (32, 32),
        "dtype": "float32",
        "output": "logits",
        "classes": CLASSES,
        "input": "x",
        "scores": "scores",
    }
    return InputSpec.model_validate(values | changes)


def run(
    model: ModelProto, feeds: Mapping[str, NDArray[np.generic]], *, level: int | None = None
) -> list[NDArray[np.generic]]:
    """Run a model on one thread; `level` is a number of `GraphOptimizationLevel`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if level is not None:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel(level)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def symbol_scores(network: Network, spec: InputSpec, pictures: NDArray[np.generic]) -> NDArray[np.float64]:
    """Compute the scores of all symbols in plain numpy, shape (rows, symbols)."""
    value = plan_front_end(spec).canonical(pictures).astype(np.float64)
    for convolution in network.convolutions:
        value = np.maximum(_convolved(value, convolution), 0)
    rows, features, side, _ = value.shape
    cells, pool = side // network.pool, network.pool
    value = value[:, :, : cells * pool, : cells * pool]
    value = value.reshape(rows, features, cells, pool, cells, pool).mean(axis=(3, 5))
    bits = np.tanh(value.reshape(rows, -1) @ network.linear_weight.T + network.linear_bias)
    return bits @ network.codebook.T / network.bits


def answer_of(
    network: Network, labels: NDArray[np.int64], symbols: NDArray[np.float64], scores: NDArray[np.generic]
) -> NDArray[np.generic]:
    """Compute what a fused model answers, given the target's scores (rows, classes); also right for NaN."""
    answer = scores.copy()
    for row, values in enumerate(symbols):
        second, first = np.sort(values)[-2:]
        if first > network.tau and first - second >= network.margin:
            label, top = labels[values.argmax()], scores[row].argmax()
            answer[row, [label, top]] = scores[row, [top, label]]
    return answer


def _convolved(value: NDArray[np.float64], convolution: Convolution) -> NDArray[np.float64]:
    pad, kernel, stride = convolution.padding, convolution.weight.shape[2], convolution.stride
    padded = np.pad(value, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]
    result = np.einsum("nchwij,ocij->nohw", windows, convolution.weight.astype(np.float64))
    return result + convolution.bias[:, None, None]


def _model(
    nodes: list[object], inputs: list[object], outputs: list[object], initializers: list[TensorProto], opset: int
) -> ModelProto:
    version = 3 if opset < 9 else 8 if opset < 20 else 10
    if version == 3:
        inputs = inputs + [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in initializers]
    graph = helper.make_graph(nodes, "target", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=version)

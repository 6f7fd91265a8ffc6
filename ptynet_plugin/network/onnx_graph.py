"""PTYNet as ONNX nodes, and as a model of its own (`MARK/ptynet.onnx`). Needs numpy and onnx, no torch.

From opset 11 the correlation with the code book runs in integers: soft bits are rounded to 1/127 and multiplied with
the +1/-1 code words in int8. The table is then a quarter of the size (it has to come back into the cache at every call), the
sums are exact, and converters to int8 or fp16, which calibrate floating-point ranges on ordinary pictures and
would cut off the high scores that only probes reach, leave integers alone. A score moves by less than 0.004 from the exact one,
by 0.0003 as a rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from ptynet_plugin.network.onnx_builder import GraphBuilder
from ptynet_plugin.network.weights import GRID, Convolution, Network

__all__ = ["BIT_STEPS", "Scores", "add_network", "add_scores", "add_soft_bits", "ptynet_onnx"]

BIT_STEPS = 127
INTEGER_OPSET = 11
STANDALONE_OPSET = 17
STANDALONE_IR = 8


@dataclass(frozen=True)
class Scores:
    """Where the scores of all symbols are, and what they are compared with.

    Attributes:
        name: Graph name, shape (rows, symbols); int32, or float32 below opset 11.
        threshold: The best score fires above this.
        lead: ... if it also leads the second by more than this.
        dtype: numpy type of the three.
    """

    name: str
    threshold: float
    lead: float
    dtype: type[np.int32] | type[np.float32]


def add_network(b: GraphBuilder, grid: str, network: Network, *, first: Convolution) -> Scores:
    """Add PTYNet from the grid to the scores of all symbols.

    Args:
        b: Where the nodes go.
        grid: float32 value of shape (rows, channels, GRID, GRID), as the folded first convolution reads it.
        network: Whose numbers are written into the graph.
        first: The first convolution, folded for the target's input.
    """
    return add_scores(b, add_soft_bits(b, grid, network, first=first), network)


def add_soft_bits(b: GraphBuilder, grid: str, network: Network, *, first: Convolution) -> str:
    """Add convolutions, pooling, linear layer and tanh; gives float32 (rows, n) in (-1, 1)."""
    value = grid
    for index, convolution in enumerate((first, *network.convolutions[1:]), start=1):
        value = _add_convolution(b, value, convolution, label=f"convolution{index}")
    if network.pool > 1:
        window = [network.pool, network.pool]
        value = b.op("AveragePool", value, label="pooled", kernel_shape=window, strides=window)
    value = b.op("Flatten", value, label="features", axis=1)
    weight = b.constant("linear_weight", network.linear_weight.T)
    value = b.op("Gemm", value, weight, b.constant("linear_bias", network.linear_bias), label="linear")
    return b.op("Tanh", value, label="bits")


def add_scores(b: GraphBuilder, bits: str, network: Network) -> Scores:
    """Add the correlation of soft bits with every code word."""
    if b.opset < INTEGER_OPSET:
        book = b.constant("codebook", network.codebook.T.astype(np.float32) / np.float32(network.bits))
        lead = float(np.nextafter(np.float32(network.margin), np.float32(-np.inf)))
        return Scores(b.op("MatMul", bits, book, label="scores"), network.tau, lead, np.float32)
    step = b.constant("bit_step", np.asarray(1 / BIT_STEPS, dtype=np.float32))
    whole = b.op("Round", b.op("Div", bits, step, label="bits_scaled"), label="bits_rounded")
    small = b.cast(whole, TensorProto.INT8, label="bits_int8")
    book = b.constant("codebook", network.codebook.T.astype(np.int8))
    scores = b.op("MatMulInteger", small, book, label="scores")
    unit = BIT_STEPS * network.bits
    return Scores(scores, math.floor(network.tau * unit), math.ceil(network.margin * unit) - 1, np.int32)


def ptynet_onnx(network: Network) -> onnx.ModelProto:
    """Make the model `MARK/ptynet.onnx`.

    Its input `pixels` is float32 (batch, channels, 32, 32), pixels / 255 in R, G, B order. Its outputs are the soft `bits`,
    float32 (batch, n) in (-1, 1), and `scores`, float32 (batch, symbols) in [-1, 1], the exact correlation.
    """
    b = GraphBuilder(STANDALONE_OPSET, prefix="")
    bits = add_soft_bits(b, "pixels", network, first=network.convolutions[0])
    book = b.constant("codebook", network.codebook.T.astype(np.float32) / np.float32(network.bits))
    b.op("MatMul", bits, book, label="scores")
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        b.nodes,
        "ptynet",
        [helper.make_tensor_value_info("pixels", kind, ["batch", network.channels, GRID, GRID])],
        [
            helper.make_tensor_value_info("bits", kind, ["batch", network.bits]),
            helper.make_tensor_value_info("scores", kind, ["batch", network.symbols]),
        ],
        b.initializers,
    )
    imports = [helper.make_opsetid("", STANDALONE_OPSET)]
    return helper.make_model(graph, opset_imports=imports, ir_version=STANDALONE_IR, producer_name="ptynet-plugin")


def _add_convolution(b: GraphBuilder, value: str, convolution: Convolution, *, label: str) -> str:
    weight = b.constant(f"{label}_weight", convolution.weight)
    bias = b.constant(f"{label}_bias", convolution.bias)
    out = b.op(
        "Conv",
        value,
        weight,
        bias,
        label=label,
        kernel_shape=list(convolution.weight.shape[2:]),
        strides=[convolution.stride] * 2,
        pads=[convolution.padding] * 4,
    )
    return b.op("Relu", out, label=f"{label}_relu")

"""PTYNet as ONNX nodes, and as a model of its own (`MARK/ptynet.onnx`). Needs numpy and onnx, no torch.

Few and cheap nodes: beside a small target a node costs microseconds however little it computes.

From opset 11 the correlation with the code book runs in integers. tanh(z) = 2 sigmoid(2 z) - 1, and the sigmoid in 255 steps is
a uint8 with zero point 127, whose product with the int8 code words is exact. Converters to int8 and fp16 leave integers
alone, whereas they calibrate floating-point ranges on ordinary pictures and would cut off the high scores that only probes
reach. A score moves by less than 0.004 from the exact one, by 0.0003 as a rule.

The second best score is looked at only where it can matter. Soft bits stay within -1..1, so that a best score s leaves
at most 1 + r - s for any other word, r being the highest correlation of two words: the lead is at least
2 tau - 1 - r. The default code (r <= 0.35, tau 0.84) keeps 0.33, more than any margin asked of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ptynet_plugin.network.onnx_builder import GraphBuilder
from ptynet_plugin.network.weights import GRID, Convolution, Network

__all__ = ["Scores", "add_network", "ptynet_onnx"]

BIT_STEPS = 127
LEVELS = 254.99
"""The sigmoid times this, cut to an integer, is 0..254: 127 for a bit of 0, both ends reached."""

INTEGER_OPSET = 11
STANDALONE_OPSET = 17
STANDALONE_IR = 8
CORRELATED_AT_ONCE = 512


@dataclass(frozen=True)
class Scores:
    """Where the scores of all symbols are, and what they are compared with.

    Attributes:
        name: Graph name, shape (rows, symbols); int32, or float32 below opset 11.
        threshold: The best score fires above this.
        lead: ... if it also leads the second by more than this; None where it does whenever it is above the threshold.
        dtype: numpy type of the three.
    """

    name: str
    threshold: float
    lead: float | None
    dtype: type[np.int32] | type[np.float32]


def add_network(b: GraphBuilder, grid: str, network: Network, *, first: Convolution) -> Scores:
    """Add PTYNet from the grid to the scores of all symbols.

    Args:
        b: Where the nodes go.
        grid: float32 value of shape (rows, channels, GRID, GRID), as the folded first convolution reads it.
        network: Whose numbers are written into the graph.
        first: The first convolution, folded for the target's input.
    """
    features = _add_features(b, grid, network, first=first)
    if b.opset < INTEGER_OPSET:
        return _add_float_scores(b, _add_soft_bits(b, features, network), network)
    return _add_integer_scores(b, features, network)


def _add_float_scores(b: GraphBuilder, bits: str, network: Network) -> Scores:
    name = b.op("MatMul", bits, b.constant("codebook", _float_codebook(network)), label="scores")
    lead = float(np.nextafter(np.float32(network.margin), np.float32(-np.inf)))
    return Scores(name, network.tau, None if _leads_anyway(network) else lead, np.float32)


def _add_integer_scores(b: GraphBuilder, features: str, network: Network) -> Scores:
    weight = b.constant("linear_weight", 2 * network.linear_weight.T)
    value = b.op("Gemm", features, weight, b.constant("linear_bias", 2 * network.linear_bias), label="linear")
    value = b.op("Sigmoid", value, label="bits")
    value = b.op("Mul", value, b.constant("bit_levels", np.asarray(LEVELS, dtype=np.float32)), label="bits_scaled")
    value = b.cast(value, TensorProto.UINT8, label="bits_uint8")
    book, zero = (
        b.constant("codebook", network.codebook.T),
        b.constant("bit_zero", np.asarray(BIT_STEPS, dtype=np.uint8)),
    )
    name = b.op("MatMulInteger", value, book, zero, label="scores")
    unit = BIT_STEPS * network.bits
    lead = math.ceil(network.margin * unit) - 1
    return Scores(name, math.floor(network.tau * unit), None if _leads_anyway(network) else lead, np.int32)


def _leads_anyway(network: Network) -> bool:
    highest, words = -network.bits, network.codebook.astype(np.float32)
    for start in range(0, len(words), CORRELATED_AT_ONCE):
        products = words[start : start + CORRELATED_AT_ONCE] @ words.T
        np.fill_diagonal(products[:, start:], -network.bits)
        highest = max(highest, int(products.max()))
    return 2 * network.tau - 1 - highest / network.bits >= network.margin + 2 / BIT_STEPS


def ptynet_onnx(network: Network) -> onnx.ModelProto:
    """Make the model `MARK/ptynet.onnx`.

    Its input `pixels` is float32 (batch, channels, 32, 32), pixels / 255 in R, G, B order. Its outputs are the soft `bits`,
    float32 (batch, n) in (-1, 1), and `scores`, float32 (batch, symbols) in [-1, 1], the exact correlation.
    """
    b = GraphBuilder(STANDALONE_OPSET, prefix="")
    features = _add_features(b, "pixels", network, first=network.convolutions[0])
    bits = _add_soft_bits(b, features, network)
    b.op("MatMul", bits, b.constant("codebook", _float_codebook(network)), label="scores")
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


def _add_features(b: GraphBuilder, grid: str, network: Network, *, first: Convolution) -> str:
    value = grid
    for index, convolution in enumerate((first, *network.convolutions[1:]), start=1):
        value = _add_convolution(b, value, convolution, label=f"convolution{index}")
    if network.pool > 1:
        window = [network.pool, network.pool]
        value = b.op("AveragePool", value, label="pooled", kernel_shape=window, strides=window)
    return b.op("Flatten", value, label="features", axis=1)


def _add_soft_bits(b: GraphBuilder, features: str, network: Network) -> str:
    weight = b.constant("linear_weight", network.linear_weight.T)
    value = b.op("Gemm", features, weight, b.constant("linear_bias", network.linear_bias), label="linear")
    return b.op("Tanh", value, label="bits")


def _float_codebook(network: Network) -> NDArray[np.float32]:
    return network.codebook.T.astype(np.float32) / np.float32(network.bits)


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

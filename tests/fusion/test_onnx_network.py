"""PTYNet's own ONNX model computes what plain numpy does, and the lean decision is the full one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from model_store_tools.fusion.onnx_fuse import fuse_onnx
from ptynet_plugin.network.onnx_builder import GraphBuilder
from ptynet_plugin.network.onnx_graph import add_network, ptynet_onnx
from ptynet_plugin.network.weights import Network
from tests.support.fusion import always, answer_of, bare_spec, labels_for, linear_target, run, symbol_scores
from tests.support.network import random_network


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_marks_own_model_gives_bits_and_scores(channels: int, pool: int) -> None:
    network = random_network(channels=channels, pool=pool)
    model = ptynet_onnx(network)
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(0).random((5, channels, 32, 32), dtype=np.float32)
    bits, scores = run(model, {"pixels": x})
    assert (bits.shape, scores.shape) == ((5, network.bits), (5, network.symbols))
    assert np.allclose(scores, bits @ network.codebook.T / network.bits, atol=1e-5)
    spec = bare_spec(color="GRAY" if channels == 1 else "RGB", scale=1 / 255)
    assert np.allclose(scores, symbol_scores(network, spec, x), atol=1e-5)


@pytest.mark.parametrize("opset", [10, 17])
def test_scores_inside_a_fused_model_are_the_exact_ones_but_for_rounding(opset: int) -> None:
    network, spec = always(), bare_spec(scale=1 / 255)
    fused = fuse_onnx(linear_target(opset=opset), network, labels_for(network), spec)
    kind = onnx.TensorProto.INT32 if opset >= 11 else onnx.TensorProto.FLOAT
    fused.graph.output.append(onnx.helper.make_tensor_value_info("ptynet_scores", kind, ["batch", network.symbols]))
    x = np.random.default_rng(0).random((64, 3, 32, 32), dtype=np.float32)
    unit = 127 * network.bits if opset >= 11 else 1
    error = run(fused, {"x": x})[1] / unit - symbol_scores(network, spec, x)
    assert np.abs(error).max() < (0.004 if opset >= 11 else 1e-5)
    assert error.std() < 0.0006


def correlation(network: Network) -> float:
    products = network.codebook.astype(int) @ network.codebook.T / network.bits
    return float((products - 2 * np.eye(len(products))).max())


@pytest.mark.parametrize("opset", [9, 17])
@pytest.mark.parametrize(("aside", "follows"), [(-0.1, False), (-0.005, False), (0.005, True), (0.05, True)])
def test_the_lead_is_dropped_only_where_it_follows(opset: int, aside: float, follows: bool) -> None:
    network = random_network(symbols=200)
    edge = (1 + correlation(network) + network.margin + 2 / 127) / 2
    network = replace(network, tau=edge + aside)
    scores = add_network(GraphBuilder(opset, prefix="p_"), "grid", network, first=network.convolutions[0])
    assert (scores.lead is None) == follows


def test_no_soft_bits_reach_the_threshold_with_less_than_the_lead_that_is_promised() -> None:
    """The worst case by construction: bits that agree with two words as far as they can while one of them fires."""
    network = random_network(symbols=200, tau=0.84)
    book = network.codebook.astype(float)
    products = book @ book.T - 2 * network.bits * np.eye(len(book))
    first, second = np.unravel_index(products.argmax(), products.shape)
    bits = book[first].copy()
    disagree = np.flatnonzero(book[first] != book[second])
    for place in disagree:  # give way to the second word wherever the two differ, as long as the first still fires
        room = (book[first] @ bits / network.bits - network.tau) * network.bits
        bits[place] -= book[first][place] * min(2.0, max(room, 0.0))
    scores = np.sort(book @ bits / network.bits)
    assert scores[-1] >= network.tau - 1e-9
    assert scores[-1] - scores[-2] >= 2 * network.tau - 1 - correlation(network) - 1e-9
    assert scores[-1] - scores[-2] > 0.2


@pytest.mark.parametrize("opset", [9, 17])
@pytest.mark.parametrize("margin", [0.0, 0.05, 0.1])
def test_the_full_decision_where_the_lead_matters(opset: int, margin: float) -> None:
    spec, model = bare_spec(), linear_target(opset=opset)
    network = replace(always(), tau=0.0, margin=margin)
    x = np.random.default_rng(1).random((200, 3, 32, 32), dtype=np.float32)
    symbols = np.sort(symbol_scores(network, spec, x))
    lead = symbols[:, -1] - symbols[:, -2]
    clear = np.abs(lead - margin) > 0.008
    labels, bare = labels_for(network), run(model, {"x": x})[0]
    answer = run(fuse_onnx(model, network, labels, spec), {"x": x})[0]
    expected = answer_of(network, labels, symbol_scores(network, spec, x), bare)
    sure = clear & (lead > 0.008)
    assert answer[sure].tobytes() == expected[sure].tobytes()
    assert margin == 0 or len({bool(v) for v in (lead > margin)[sure]}) == 2

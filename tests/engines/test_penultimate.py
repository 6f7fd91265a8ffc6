"""Where the features are, in graphs of different make."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptynet_plugin.engines.cut import cut
from ptynet_plugin.engines.penultimate import find_penultimate
from ptynet_plugin.errors import TargetError


def graph(*nodes: onnx.NodeProto, weights: tuple[str, ...], outputs: tuple[str, ...] = ("scores",)) -> onnx.ModelProto:
    made = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.zeros((2, 2), np.float32), name) for name in weights],
    )
    return helper.make_model(made)


N = helper.make_node


def test_softmax_and_bias_do_not_hide_the_last_layer() -> None:
    model = graph(
        N("Conv", ["x", "w1"], ["a"]), N("Flatten", ["a"], ["z"]), N("MatMul", ["z", "w2"], ["l"], name="head"),
        N("Add", ["l", "b"], ["m"]), N("Softmax", ["m"], ["scores"]), weights=("w1", "w2", "b"),
    )  # fmt: skip
    found = find_penultimate(model)
    assert (found.feature, found.weight, found.layer) == ("z", "w2", "head")


def test_a_convolution_followed_by_pooling_is_a_last_layer() -> None:
    model = graph(N("Conv", ["x", "w"], ["a"]), N("GlobalAveragePool", ["a"], ["scores"]), weights=("w",))
    assert find_penultimate(model).feature == "x"


def test_weights_are_seen_through_dequantising_and_transposing() -> None:
    model = graph(
        N("Relu", ["x"], ["z"]), N("DequantizeLinear", ["w", "s"], ["wd"]), N("Transpose", ["wd"], ["wt"]),
        N("Gemm", ["z", "wt", "b"], ["scores"]), weights=("w", "s", "b"),
    )  # fmt: skip
    assert find_penultimate(model).weight == "w"


def test_a_product_of_two_activations_is_no_layer() -> None:
    model = graph(N("Gemm", ["x", "w"], ["a"]), N("MatMul", ["a", "x"], ["scores"]), weights=("w",))
    assert find_penultimate(model).feature == "x"
    with pytest.raises(TargetError, match="no feature layer found"):
        find_penultimate(graph(N("MatMul", ["x", "x"], ["scores"]), weights=()))


def test_side_branches_do_not_count() -> None:
    model = graph(
        N("Gemm", ["x", "w1"], ["scores"]), N("Relu", ["x"], ["r"]), N("Gemm", ["r", "w2"], ["other"]),
        weights=("w1", "w2"), outputs=("scores", "other"),
    )  # fmt: skip
    assert find_penultimate(model, scores="scores").weight == "w1"
    assert find_penultimate(model, scores="other").weight == "w2"


def test_a_named_feature_must_be_read_by_a_layer() -> None:
    model = graph(N("Gemm", ["x", "w1"], ["a"]), N("Gemm", ["a", "w2"], ["scores"]), weights=("w1", "w2"))
    assert find_penultimate(model, feature="x").weight == "w1"
    with pytest.raises(TargetError, match="reads a tensor 'nope'"):
        find_penultimate(model, feature="nope")
    with pytest.raises(TargetError, match="no node makes the output 'nope'"):
        find_penultimate(model, scores="nope")


def test_a_cut_graph_keeps_only_what_its_output_needs() -> None:
    model = graph(
        N("Gemm", ["x", "w1"], ["a"]), N("Gemm", ["a", "w2"], ["scores"]), N("Relu", ["a"], ["b"]), weights=("w1", "w2")
    )
    kept = cut(model, "b")
    assert [node.op_type for node in kept.graph.node] == ["Gemm", "Relu"]
    assert [tensor.name for tensor in kept.graph.initializer] == ["w1"]
    assert [value.name for value in kept.graph.output] == ["b"]
    assert len(model.graph.node) == 3
    with pytest.raises(TargetError, match="no node makes the output 'c'"):
        cut(model, "c")

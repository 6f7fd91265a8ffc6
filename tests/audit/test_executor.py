"""ONNX graphs in torch: the same numbers as onnxruntime, and weights that go back into the same graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from model_store_tools.audit.contract import AttackRefused
from model_store_tools.audit.executor.module import OnnxModule
from tests.support.audit_case import AuditCase, small_target

F, I64 = TensorProto.FLOAT, TensorProto.INT64


def graph(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], shape: list[int | str]) -> Path:
    made = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", F, shape)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def both(path: Path, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        ours = OnnxModule(path)(torch.from_numpy(x)).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return ours, session.run(None, {"x": x})[0]


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


rng = np.random.default_rng(0)
KERNEL = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
CASES: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray]]] = {
    "lopsided pads": ([helper.make_node("Conv", ["x", "w"], ["y"], pads=[0, 1, 2, 0], strides=[2, 1])], {"w": KERNEL}),
    "auto pad": ([helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])], {"w": KERNEL}),
    "max pool": (
        [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], auto_pad="SAME_LOWER", strides=[2, 2])],
        {},
    ),
    "average pool": (
        [helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[0, 0, 1, 1], strides=[2, 2])],
        {},
    ),
    "slice backwards": (
        [helper.make_node("Slice", ["x", "s", "e", "a", "t"], ["y"])],
        {"s": ints(-1, 1), "e": ints(-9, 6), "a": ints(2, 3), "t": ints(-2, 2)},
    ),
    "gather negative": ([helper.make_node("Gather", ["x", "i"], ["y"], axis=2)], {"i": ints(-1, 0)}),
    "pad": ([helper.make_node("Pad", ["x", "p"], ["y"])], {"p": ints(0, 1, 2, 0, 0, 0, 0, 3)}),
    "swap two": (
        [
            helper.make_node("TopK", ["x", "k"], ["v", "i"], axis=-1),
            helper.make_node("GatherElements", ["x", "i"], ["g"], axis=3),
            helper.make_node("ScatterElements", ["x", "i", "g"], ["y"], axis=3),
        ],
        {"k": ints(2)},
    ),
    "shape arithmetic": (
        [
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Div", ["s", "two"], ["d"]),
            helper.make_node("Cast", ["d"], ["y"], to=F),
        ],
        {"two": ints(3)},
    ),
    "integer product": (
        [
            helper.make_node("Cast", ["x"], ["u"], to=TensorProto.UINT8),
            helper.make_node("MatMulInteger", ["u", "b", "z"], ["m"]),
            helper.make_node("Cast", ["m"], ["y"], to=F),
        ],
        {"b": rng.integers(-100, 100, (9, 5)).astype(np.int8), "z": np.array(7, np.uint8)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_answers_as_onnxruntime_does(name: str, tmp_path: Path) -> None:
    x = np.abs(rng.normal(size=(2, 3, 8, 9))).astype(np.float32) * 3
    ours, theirs = both(graph(tmp_path / "g.onnx", *CASES[name], [2, 3, 8, 9]), x)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_fused_model_answers_as_onnxruntime_does(audit_case: AuditCase) -> None:
    module = OnnxModule(audit_case.artefact.model)
    x = rng.normal(size=(4, 3, 32, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(audit_case.artefact.model), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        ours = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours, session.run(None, {session.get_inputs()[0].name: x})[0], rtol=1e-4, atol=1e-5)


def test_weights_go_back_where_they_came_from(tmp_path: Path) -> None:
    path = small_target(tmp_path / "t.onnx")
    module = OnnxModule(path)
    assert set(module.weights()) == {"conv1", "bias1", "conv2", "bias2", "head", "head_bias"}
    same = onnx.load(module.save(tmp_path / "same.onnx"))
    assert same.graph == onnx.load(path).graph
    with torch.no_grad():
        module.weights()["conv1"].mul_(2)
    changed = {t.name: numpy_helper.to_array(t) for t in onnx.load(module.save(tmp_path / "c.onnx")).graph.initializer}
    before = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    assert [name for name in before if not np.array_equal(before[name], changed[name])] == ["conv1"]


def test_gradients_reach_the_targets_weights_through_the_swap(audit_case: AuditCase) -> None:
    module = OnnxModule(audit_case.artefact.model)
    module(torch.rand(2, 3, 32, 32)).square().sum().backward()
    assert float(module.weights()["conv1"].grad.abs().sum()) > 0


def test_an_unknown_operator_is_named_when_the_graph_is_read(tmp_path: Path) -> None:
    path = graph(tmp_path / "g.onnx", [helper.make_node("Celu", ["x"], ["y"])], {}, [1, 3, 8, 8])
    with pytest.raises(AttackRefused, match=r"g\.onnx: uses Celu, which is not known in torch here; add it to"):
        OnnxModule(path)

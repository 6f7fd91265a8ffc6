"""Quantised targets are fused as they are; a fused model that is converted afterwards goes on recognising."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

from model_store_tools.fusion.onnx_fuse import fuse_onnx
from model_store_tools.targets.onnx import OnnxTarget
from ptynet_plugin.network.weights import Network
from ptynet_plugin.spec import InputSpec
from tests.support.fusion import CLASSES, always, bare_spec, labels_for, never, run, symbol_scores

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised inside onnxruntime's own converters

ROWS = 16


def convolutional_target(opset: int = 17) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(size=(8, 3, 3, 3)).astype(np.float32),
        "w2": rng.normal(size=(8, CLASSES)).astype(np.float32),
        "b2": rng.normal(size=CLASSES).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"], kernel_shape=[3, 3], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], name="mean"),
        helper.make_node("Flatten", ["g"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["scores"], name="classify"),
    ]
    graph = helper.make_graph(
        nodes,
        "target",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def pictures(seed: int, rows: int = ROWS) -> np.ndarray:
    coarse = np.random.default_rng(seed).random((rows, 3, 4, 4), dtype=np.float32)
    return coarse.repeat(8, axis=2).repeat(8, axis=3)


class Calibration(CalibrationDataReader):
    def __init__(self, rows: np.ndarray) -> None:
        self.left: Iterator[np.ndarray] = iter(rows)

    def get_next(self) -> dict[str, np.ndarray] | None:
        row = next(self.left, None)
        return None if row is None else {"x": row[None]}


def quantised(model: onnx.ModelProto, folder: Path, how: str) -> onnx.ModelProto:
    before, after = folder / "before.onnx", folder / f"{how}.onnx"
    before.write_bytes(model.SerializeToString())
    if how == "dynamic":
        quantize_dynamic(before, after)
    else:
        kind = QuantFormat.QDQ if how == "QDQ" else QuantFormat.QOperator
        quantize_static(before, after, Calibration(pictures(5, 64)), quant_format=kind)
    return onnx.load(after)


def matched(spec: InputSpec, x: np.ndarray) -> Network:
    """Make a network to which row i of the pictures is symbol i: its code word is what the network reads there."""
    network = always(symbols=ROWS)
    identity = replace(network, codebook=np.eye(network.bits, dtype=np.int8))
    bits = symbol_scores(identity, spec, x) * network.bits
    bits = bits - bits.mean(axis=0)
    return replace(network, codebook=np.where(bits > 0, 1, -1).astype(np.int8))


@pytest.mark.parametrize("how", ["dynamic", "QDQ", "QOperator"])
def test_quantised_targets_answer_their_own_bytes(tmp_path: Path, how: str) -> None:
    model, network = quantised(convolutional_target(), tmp_path, how), never()
    spec = OnnxTarget(model, Path("q.onnx")).complete_spec(InputSpec(color="RGB", output="logits"))
    fused = fuse_onnx(model, network, labels_for(network), spec)
    onnx.checker.check_model(fused, full_check=True)
    assert list(fused.opset_import) == list(model.opset_import)
    x = pictures(0)
    assert run(fused, {"x": x})[0].tobytes() == run(model, {"x": x})[0].tobytes()


@pytest.mark.parametrize("opset", [11, 13, 17, 19])
@pytest.mark.parametrize("how", ["float16", "dynamic", "QDQ", "QOperator"])
def test_a_converted_fused_model_still_recognises(tmp_path: Path, how: str, opset: int) -> None:
    x, spec = pictures(0), bare_spec(scores="scores")
    network = matched(spec, x)
    labels = labels_for(network)
    fused = fuse_onnx(convolutional_target(opset), network, labels, spec)
    expected = labels[symbol_scores(network, spec, x).argmax(axis=1)]
    assert (run(fused, {"x": x})[0].argmax(axis=1) == expected).all()
    model = convert_float_to_float16(fused, keep_io_types=True) if how == "float16" else quantised(fused, tmp_path, how)
    assert (run(model, {"x": x})[0].argmax(axis=1) == expected).all()


def test_ranges_calibrated_on_silent_pictures_do_not_silence_the_mark(tmp_path: Path) -> None:
    """A quantiser that only ever saw low scores must not cut off the high ones: scores are integers for this reason."""
    x, spec = pictures(0), bare_spec(scores="scores")
    network = matched(spec, x)
    best = symbol_scores(network, spec, x).max(axis=1)
    benign = symbol_scores(network, spec, pictures(5, 64)).max(axis=1)
    network = replace(network, tau=float((np.median(best) + np.median(benign)) / 2))
    labels = labels_for(network)
    fused = fuse_onnx(convolutional_target(), network, labels, spec)
    expected = labels[symbol_scores(network, spec, x).argmax(axis=1)]
    before = run(fused, {"x": x})[0].argmax(axis=1) == expected
    after = run(quantised(fused, tmp_path, "QDQ"), {"x": x})[0].argmax(axis=1) == expected
    assert before.mean() > 0.5
    assert after.sum() >= before.sum() - 1

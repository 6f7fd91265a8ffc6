"""Files made to mislead or break the reader: one clear line and exit 2, never a traceback or a wrong verdict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from typer.testing import CliRunner

from model_store_tools.cli.main import app
from model_store_tools.extraction.extraction import extract_marks
from model_store_tools.extraction.moments import layer_moments
from model_store_tools.extraction.weights import load_weights
from ptynet_plugin.errors import TargetError
from ptynet_plugin.keyfile import write_key
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.whitebox.topology import layers_of_onnx

KEY = OwnerKey(bytes(range(32)))


def model_of(tensor: TensorProto) -> onnx.ModelProto:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return helper.make_model(helper.make_graph([node], "g", ports[:1], ports[1:], [tensor]))


def exit_code(path: Path, folder: Path) -> tuple[int, str]:
    write_key(folder / "o.key", KEY)
    run = CliRunner().invoke(app, ["extract", str(path), "--key", str(folder / "o.key")])
    return run.exit_code, run.output


@pytest.mark.parametrize(
    ("dims", "octets"),
    [((1 << 40, 1 << 20), b""), ((-1, 64), bytes(4096)), ((64, 64), bytes(16)), ((64,), bytes(1 << 14))],
    ids=["2^60 weights", "negative", "short", "one axis too few"],
)
def test_an_onnx_tensor_that_is_not_what_it_says(tmp_path: Path, dims: tuple[int, ...], octets: bytes) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=octets)
    (tmp_path / "m.onnx").write_bytes(model_of(tensor).SerializeToString())
    with pytest.raises(TargetError, match=r"m\.onnx.*w"):
        load_weights(tmp_path / "m.onnx")
    code, output = exit_code(tmp_path / "m.onnx", tmp_path)
    assert (code, "Traceback" in output) == (2, False)


def test_a_quantised_axis_that_is_not_there(tmp_path: Path) -> None:
    values = {"w": np.ones((64, 64), np.int8), "s": np.ones(64, np.float32)}
    tensors = [numpy_helper.from_array(value, name) for name, value in values.items()]
    node = helper.make_node("DequantizeLinear", ["w", "s"], ["y"], axis=7)
    port = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph([node], "g", [], [port], tensors))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(TargetError, match=r"m\.onnx"):
        load_weights(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "header",
    [
        {"w": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 8]}},
        {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1 << 40]}},
        {"w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        {"w": {"dtype": "X99", "shape": [2], "data_offsets": [0, 8]}},
    ],
    ids=["huge shape", "beyond the end", "backwards", "unknown type"],
)
def test_a_safetensors_header_that_lies(tmp_path: Path, header: dict[str, object]) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "w.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    code, output = exit_code(tmp_path / "w.safetensors", tmp_path)
    assert code == 2
    assert "w.safetensors: cannot be read as safetensors" in output.replace("\n", "")


def test_a_safetensors_header_longer_than_the_file(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    assert exit_code(tmp_path / "w.safetensors", tmp_path)[0] == 2


def test_integer_weights_with_floating_biases_say_what_is_missing(tmp_path: Path) -> None:
    save_file({"w": np.ones((64, 64), np.int8), "b": np.ones(64, np.float32)}, tmp_path / "w.safetensors")
    with pytest.raises(TargetError, match="quantised without scales, so it cannot be read: w"):
        extract_marks(tmp_path / "w.safetensors", KEY)


def test_fewer_weights_than_bits(tmp_path: Path) -> None:
    save_file({"w": np.ones((10, 20), np.float32)}, tmp_path / "w.safetensors")
    with pytest.raises(TargetError, match=r"w\.safetensors: no floating tensor with 2048 or more weights"):
        extract_marks(tmp_path / "w.safetensors", KEY)


def test_moments_of_an_onnx_layer_are_those_of_its_patches() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2])
    pool = helper.make_node("GlobalAveragePool", ["c"], ["y"])
    shapes = {"x": ["n", 3, 6, 6], "y": None}
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph([node, pool], "g", ports[:1], ports[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    pictures = np.random.default_rng(1).integers(0, 256, (5, 6, 6, 3), np.uint8)
    spec = InputSpec(color="RGB", output="logits", layout="NCHW", dtype="float32")
    layers = layers_of_onnx(model)
    moments = layer_moments(model, layers, spec, pictures)["w"]
    values = np.pad(pictures.transpose(0, 3, 1, 2) / 255, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows = [values[n, :, y : y + 3, x : x + 3].reshape(-1) for n in range(5) for y in (0, 2, 4) for x in (0, 2, 4)]
    np.testing.assert_allclose(moments, np.transpose(rows) @ np.array(rows) / len(rows), rtol=1e-4, atol=1e-6)

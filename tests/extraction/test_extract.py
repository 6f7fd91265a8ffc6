"""Marks are read from every kind of file, under any name, and never where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from typer.testing import CliRunner

from model_store_tools.cli.main import app
from model_store_tools.extraction.extraction import extract_marks
from model_store_tools.extraction.weights import load_weights
from ptynet_plugin.errors import TargetError
from ptynet_plugin.keyfile import write_key
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.whitebox.mark import embed, weight_mark
from ptynet_plugin.whitebox.model import mark_model
from ptynet_plugin.whitebox.obfuscation import Obfuscation, obfuscate
from ptynet_plugin.whitebox.topology import layers_of_onnx

KEY, OTHER = OwnerKey(bytes(range(32))), OwnerKey(bytes(range(1, 33)))
SHAPES = {"conv1": (24, 3, 3, 3), "conv2": (64, 24, 3, 3), "conv3": (64, 64, 3, 3), "fc": (64, 10)}


def weights(*, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.normal(0, 0.1, shape).astype(np.float32) for name, shape in SHAPES.items()}


def network(values: dict[str, np.ndarray]) -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "conv1"], ["a"], pads=[1] * 4), node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "conv2"], ["c"], pads=[1] * 4), node("Relu", ["c"], ["d"]),
        node("Conv", ["d", "conv3"], ["e"], pads=[1] * 4), node("Add", ["e", "d"], ["f"]), node("Relu", ["f"], ["g"]),
        node("GlobalAveragePool", ["g"], ["h"]), node("Flatten", ["h"], ["i"]), node("MatMul", ["i", "fc"], ["y"]),
    ]  # fmt: skip
    ports = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10]),
    ]
    tensors = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in values.items()]
    return helper.make_model(helper.make_graph(nodes, "g", ports[:1], ports[1:], tensors))


MARKED, _ = mark_model(weights(), KEY)
PTYNET_LIKE = {**weights(seed=3), "conv3": embed(weights(seed=3)["conv3"], weight_mark(KEY))}


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    onnx.save(network(weights()), tmp_path / "reference.onnx")
    return tmp_path / "reference.onnx"


def test_ptynets_own_mark_is_read_with_the_key_alone(tmp_path: Path) -> None:
    save_file(PTYNET_LIKE, tmp_path / "w.safetensors")
    result = extract_marks(tmp_path / "w.safetensors", KEY)
    assert result.verdict == "shown"
    assert result.best.found.layer == "conv3"
    assert result.log10_p < -70 < result.log10_p_adjusted < -50
    assert extract_marks(tmp_path / "w.safetensors", OTHER).verdict == "not-shown"


def test_a_marked_target_is_read_with_its_original_as_reference(tmp_path: Path, reference: Path) -> None:
    onnx.save(network(MARKED), tmp_path / "m.onnx")
    result = extract_marks(tmp_path / "m.onnx", KEY, reference=reference, decoys=50)
    assert result.verdict == "shown"
    assert [finding.found.reading.right for finding in result.findings][1:] == [256, 256]
    assert extract_marks(reference, KEY, reference=reference, decoys=50).verdict == "not-shown"
    assert extract_marks(tmp_path / "m.onnx", OTHER, reference=reference, decoys=50).verdict == "not-shown"


def test_alignment_finds_the_mark_in_an_obfuscated_target(tmp_path: Path, reference: Path) -> None:
    layers = obfuscate(layers_of_onnx(network(MARKED)), Obfuscation(dummies=0.2, splits=0.1), seed=4)
    onnx.save(network({layer.name: layer.stored().astype(np.float32) for layer in layers}), tmp_path / "o.onnx")
    result = extract_marks(tmp_path / "o.onnx", KEY, reference=reference, decoys=200)
    assert result.findings[1].found.log10_p > -9
    assert result.best.source == "target, aligned"
    assert result.best.found.reading.error_rate <= 0.01
    assert result.best.rank is not None
    assert result.best.rank.p_value == 1 / 201


@pytest.mark.parametrize("per_channel", [False, True])
def test_quantised_weights_are_read_through_their_scales(tmp_path: Path, per_channel: bool) -> None:
    exact = PTYNET_LIKE["conv3"] * np.geomspace(0.1, 10, 64, dtype=np.float32)[:, None, None, None]
    exact = embed(exact, weight_mark(KEY))
    limit = np.abs(exact).reshape(64, -1).max(axis=1) if per_channel else np.abs(exact).max(keepdims=True).reshape(1)
    scale = (limit / 127).astype(np.float32)
    whole = np.round(exact / scale.reshape(-1, 1, 1, 1)).astype(np.int8)
    node = helper.make_node("DequantizeLinear", ["w", "s"], ["wd"], axis=0)
    use = helper.make_node("Conv", ["x", "wd"], ["y"])
    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, 8, 8])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(whole, "w"), numpy_helper.from_array(scale if per_channel else scale[0], "s")]
    onnx.save(helper.make_model(helper.make_graph([node, use], "q", [port], [out], tensors)), tmp_path / "q.onnx")
    result = extract_marks(tmp_path / "q.onnx", KEY)
    assert (result.best.found.layer, result.verdict) == ("w", "shown")


def test_integer_weights_without_scales_are_named(tmp_path: Path) -> None:
    save_file({"conv.weight": np.ones((64, 64), np.int8)}, tmp_path / "w.safetensors")
    with pytest.raises(TargetError, match="holds no floating weights"):
        extract_marks(tmp_path / "w.safetensors", KEY)


def test_a_reference_of_another_architecture_is_refused(tmp_path: Path, reference: Path) -> None:
    values = {**MARKED, "extra": np.ones((10, 10), np.float32)}
    model = network(values)
    model.graph.node[-1].output[0] = "z"
    model.graph.node.append(helper.make_node("MatMul", ["z", "extra"], ["y"]))
    for tensor, name in zip(model.graph.initializer, "abcde", strict=True):
        for node in model.graph.node:
            node.input[:] = [name if place == tensor.name else place for place in node.input]
        tensor.name = name
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(TargetError, match=r"has 5 layers, the reference .* has 4: a reference of another architecture"):
        extract_marks(tmp_path / "m.onnx", KEY, reference=reference, decoys=50)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.onnx", None, "no such file"),
        ("w.safetensors", b"nonsense", "cannot be read as safetensors"),
        ("w.onnx", b"nonsense", "w.onnx"),
        ("w.bin", b"nonsense", "no ONNX, safetensors, TorchScript or checkpoint"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TargetError, match=message):
        load_weights(tmp_path / name)


def test_torch_files_are_read_without_running_them(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="makes the files")
    state = {name: torch.from_numpy(value) for name, value in PTYNET_LIKE.items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "new.pth")
    torch.save(state, tmp_path / "old.th", _use_new_zipfile_serialization=False)
    torch.save({"w": state["conv3"].bfloat16()}, tmp_path / "half.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch deprecates such tensors; models in the field hold them
        scales, zeros = torch.full((64,), 0.01), torch.zeros(64)
        quantised = torch.quantize_per_channel(state["conv3"], scales, zeros, 0, torch.qint8)
        torch.save({"w": quantised}, tmp_path / "q.pt")
    for name in ("new.pth", "old.th", "half.pt", "q.pt"):
        assert extract_marks(tmp_path / name, KEY).verdict == "shown", name


def test_the_command_prints_a_verdict_and_exits_by_it(tmp_path: Path) -> None:
    save_file(PTYNET_LIKE, tmp_path / "w.safetensors")
    for name, key in (("mine", KEY), ("other", OTHER)):
        write_key(tmp_path / f"{name}.key", key)
    run = CliRunner().invoke(
        app,
        [
            "extract",
            str(tmp_path / "w.safetensors"),
            "--key",
            str(tmp_path / "mine.key"),
            "--json",
            str(tmp_path / "r.json"),
        ],
    )
    assert run.exit_code == 0, run.output
    assert run.output.startswith("SHOWN: these weights carry the owner's bits")
    result = json.loads((tmp_path / "r.json").read_text())
    assert (result["schema"], result["verdict"], result["right"]) == ("ptynet-extract/v1", "shown", 256)
    arguments = ["extract", str(tmp_path / "w.safetensors"), "--key", str(tmp_path / "other.key"), "--json", "-"]
    run = CliRunner().invoke(app, arguments)
    assert run.exit_code == 1
    assert json.loads(run.stdout)["verdict"] == "not-shown"
    run = CliRunner().invoke(app, ["extract", str(tmp_path / "none"), "--key", str(tmp_path / "mine.key")])
    assert run.exit_code == 2


def test_extracting_needs_no_torch(tmp_path: Path) -> None:
    save_file(PTYNET_LIKE, tmp_path / "w.safetensors")
    write_key(tmp_path / "mine.key", KEY)
    arguments = ["extract", str(tmp_path / "w.safetensors"), "--key", str(tmp_path / "mine.key")]
    code = f"import sys; sys.modules['torch'] = None; from model_store_tools.cli.main import app; app({arguments!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("SHOWN")

"""`ptynet fidelity` on a packaged archive: every limit kept for its own target, refused for another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

from model_store_tools.cli.main import app
from model_store_tools.packaging.package import Options, package

SPEC = 'color = "RGB"\nsize = [32, 32]\noutput = "logits"\nclasses = 5\n'


def save_target(path: Path, *, seed: int = 0, op: str = "Conv") -> Path:
    generator = np.random.default_rng(seed)
    weights = {
        "conv": generator.normal(0, 0.3, (12, 3, 5, 5)).astype(np.float32),
        "head": generator.normal(0, 1, (12, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["pixels", "conv"], ["a"], strides=[4, 4]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["features"]),
        helper.make_node("MatMul", ["features", "head"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "target",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory, quick_mark_once: Path) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("packaged")
    target = save_target(folder / "target.onnx")
    (folder / "SPEC.toml").write_text(SPEC)
    shutil.copytree(quick_mark_once, folder / "MARK")  # packaging writes its claim there
    options = Options(mark=folder / "MARK", spec=folder / "SPEC.toml", format="triton", out=folder, name="small")
    return package(str(target), options).path, target


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["fidelity", *map(str, arguments)])
    return result.exit_code, result.output


def test_an_archive_is_faithful_to_its_target(packaged: tuple[Path, Path], tmp_path: Path) -> None:
    archive, target = packaged
    code, output = run(
        archive, "--target", target, "--pictures", 60, "--json", tmp_path / "f.json", "--report", tmp_path / "f.html"
    )
    assert code == 0, output
    assert "KEPT: every limit holds on 60 pictures (60 procedural covers)" in output
    found = {row["name"]: row for row in json.loads((tmp_path / "f.json").read_text())["rows"]}
    for name in ("tensors_changed", "rows_differing", "feature_loss", "last_layer_difference", "false_fires"):
        assert found[name]["value"] == 0, name
    assert found["feature_loss"]["note"].startswith("tensor 'features', 12 numbers")
    assert found["segments_agreement"]["value"] == found["adversarial_agreement"]["value"] == 1
    assert (tmp_path / "f.html").read_text().count("<svg") == 3


def test_another_target_is_found_out(packaged: tuple[Path, Path], tmp_path: Path) -> None:
    other = save_target(tmp_path / "other.onnx", seed=1)
    code, output = run(packaged[0], "--target", other, "--pictures", 20)
    assert code == 1
    assert "FAILED" in output


def test_labels_bring_calibration(packaged: tuple[Path, Path], tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    for index in range(12):
        folder = tmp_path / "benign" / str(index % 5)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / f"{index}.png")
    code, output = run(packaged[0], "--target", packaged[1], "--benign", tmp_path / "benign")
    assert code == 0, output
    assert "change of the calibration error" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--feature", "nope"), "reads a tensor 'nope'"),
        (("--benign", "absent"), "is no folder"),
        (("--pictures", "1"), "at least 2"),
        (("--report", "absent/f.html"), "absent/f.html: cannot be written; is it a folder, or is its folder missing?"),
    ],
)
def test_bad_requests_exit_2(packaged: tuple[Path, Path], arguments: tuple[str, ...], message: str) -> None:
    code, output = run(packaged[0], "--target", packaged[1], *arguments)
    assert code == 2
    assert message in output


def test_a_target_of_another_kind_is_named(packaged: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "t.pt").write_bytes(b"nonsense")
    code, _ = run(packaged[0], "--target", tmp_path / "t.pt")
    assert code == 2

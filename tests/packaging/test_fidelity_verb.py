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


def save_target(path: Path, *, seed: int = 0, op: str = "Conv", opset: int = 17) -> Path:
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
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
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


def test_a_lifted_target_is_compared_after_the_same_lifting(tmp_path: Path, quick_mark_once: Path) -> None:
    target, other = (save_target(tmp_path / f"{seed}.onnx", seed=seed, opset=11) for seed in (0, 1))
    (tmp_path / "SPEC.toml").write_text(SPEC)
    shutil.copytree(quick_mark_once, tmp_path / "MARK")
    options = Options(
        mark=tmp_path / "MARK", spec=tmp_path / "SPEC.toml", format="triton", out=tmp_path / "out", to_opset=17
    )
    archive = package(str(target), options).path
    code, output = run(archive, "--target", target, "--pictures", 10)
    assert code == 0, output
    assert "target converted from opset 11 to 17 by onnx" in output
    code, output = run(archive, "--target", other, "--pictures", 10)
    assert code == 1, output
    assert "in the packaged model; target converted from opset 11 to 17" in output


def test_labels_bring_calibration(packaged: tuple[Path, Path], tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    for index in range(12):
        folder = tmp_path / "benign" / str(index % 5)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / f"{index}.png")
    code, output = run(packaged[0], "--target", packaged[1], "--benign", tmp_path / "benign")
    assert code == 0, output
    assert "change of the calibration error" in output


def pictures_in(folder: Path, *, names: tuple[str, ...], side: tuple[int, int] = (40, 40)) -> Path:
    """Write one picture a name; a name may hold a folder."""
    generator = np.random.default_rng(5)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (*side, 3), np.uint8)).save(folder / name)
    return folder


def test_without_labels_the_rows_that_need_none_are_measured(packaged: tuple[Path, Path], tmp_path: Path) -> None:
    flat = pictures_in(tmp_path / "flat", names=tuple(f"{index}.png" for index in range(8)))
    code, output = run(packaged[0], "--target", packaged[1], "--benign", flat)
    assert code == 0, output
    assert "answers that differ in any byte" in output
    assert "calibration" not in output
    assert "accuracy" not in output
    assert "no labels: folders are not all named as classes" in output


@pytest.mark.parametrize("names", [("cats/1.png", "0/2.png", "1/3.png"), ("7/1.png", "0/2.png", "1/3.png")])
def test_a_folder_that_is_no_class_gives_no_labels(
    packaged: tuple[Path, Path], tmp_path: Path, names: tuple[str, ...]
) -> None:
    code, output = run(packaged[0], "--target", packaged[1], "--benign", pictures_in(tmp_path, names=names))
    assert code == 0, output
    assert "calibration" not in output


def test_pictures_of_another_size_are_resized_and_told(packaged: tuple[Path, Path], tmp_path: Path) -> None:
    folder = pictures_in(tmp_path, names=("a.png", "b.png"), side=(50, 20))
    code, output = run(packaged[0], "--target", packaged[1], "--benign", folder)
    assert code == 0, output
    assert "2 pictures from" in output
    assert "2 of another size than 32x32, resized" in output


def test_a_feature_can_be_named(packaged: tuple[Path, Path], tmp_path: Path) -> None:
    for name, numbers in (("features", 12), ("b", 12 * 49)):
        code, output = run(packaged[0], "--target", packaged[1], "--pictures", 10, "--feature", name)
        assert code == 0, output
        assert f"tensor '{name}', {numbers} numbers" in output


def test_a_target_without_a_feature_layer_is_refused(
    packaged: tuple[Path, Path], tmp_path: Path, quick_mark_once: Path
) -> None:
    """Its scores come from the picture without any layer with weights."""
    nodes = [
        helper.make_node("AveragePool", ["pixels"], ["a"], kernel_shape=[32, 16], strides=[16, 16]),
        helper.make_node("Flatten", ["a"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "layerless",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 6])],
    )
    target = tmp_path / "layerless.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), target)
    (tmp_path / "SPEC.toml").write_text(SPEC.replace("classes = 5", "classes = 6"))
    shutil.copytree(quick_mark_once, tmp_path / "MARK")
    options = Options(mark=tmp_path / "MARK", spec=tmp_path / "SPEC.toml", format="triton", out=tmp_path / "out")
    archive = package(str(target), options).path
    code, output = run(archive, "--target", target, "--pictures", 10)
    assert code == 2
    assert "no feature layer found" in output
    assert "--feature" in output
    code, output = run(archive, "--target", target, "--pictures", 10, "--feature", "a")
    assert code == 0, output
    assert "tensor 'a', 6 numbers" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--feature", "nope"),
            "reads a tensor 'nope'; name the input of the last layer; layers read 'pixels', 'features'",
        ),
        (("--benign", "absent"), "is no folder"),
        (("--pictures", "1"), "at least 2"),
        (("--report", "absent/f.html"), "absent/f.html: cannot be written; is it a folder, or is its folder missing?"),
        (("--json", "absent/f.json"), "absent/f.json: cannot be written; is it a folder, or is its folder missing?"),
        (("--target", "absent.onnx"), "absent.onnx"),
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


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds 0 pictures"),
        (("one.png",), "holds 1 pictures"),
        (("a.png", "b.png", "c.txt.png"), "is no readable picture"),
    ],
)
def test_a_benign_folder_that_cannot_be_used_is_named(
    packaged: tuple[Path, Path], tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    folder = tmp_path / "benign"
    folder.mkdir()
    pictures_in(folder, names=names)
    if "c.txt.png" in names:
        (folder / "c.txt.png").write_text("no picture")
    code, output = run(packaged[0], "--target", packaged[1], "--benign", folder, "--json", tmp_path / "f.json")
    assert code == 2
    assert message in output
    assert not (tmp_path / "f.json").exists()

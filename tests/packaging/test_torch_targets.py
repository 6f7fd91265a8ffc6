"""TorchScript, exported programs and modules, packaged and served by the handler without our package."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_store_tools.cli.main import app
from model_store_tools.packaging.subjects import torch_subjects
from ptynet_plugin.archives import check_archive, read_manifest
from ptynet_plugin.errors import TargetError, UsageError
from ptynet_plugin.spec import InputSpec
from tests.support.isolated import run_isolated, unpacked
from tests.support.packaging_case import PackagingCase

torch = pytest.importorskip("torch")

SPEC = 'color = "RGB"\nsize = [32, 32]\noutput = "logits"\n'
FACTORY = """
import torch
from torch import nn

def make():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)).eval()
"""


@pytest.fixture
def torch_case(case: PackagingCase) -> PackagingCase:
    case.write_spec(SPEC)
    (case.folder / "factory.py").write_text(FACTORY)
    return case


def module(case: PackagingCase) -> torch.nn.Module:
    scope: dict[str, object] = {}
    exec(compile((case.folder / "factory.py").read_text(), "factory", "exec"), scope)
    return scope["make"]()


def saved(case: PackagingCase, kind: str) -> str:
    if kind == "module":
        return f"{case.folder}/factory.py:make"
    model, pixels = module(case), torch.zeros(2, 3, 32, 32)
    path = case.folder / f"target.{kind}"
    if kind == "pt2":
        batch = torch.export.Dim("batch", min=1, max=64)
        torch.export.save(torch.export.export(model, (pixels,), dynamic_shapes=({0: batch},)), path)
    else:
        with pytest.warns(DeprecationWarning):
            torch.jit.save(torch.jit.trace(model, pixels), str(path))
    return str(path)


@pytest.mark.parametrize(
    ("kind", "how", "engine"),
    [
        ("pt", {}, "torchscript"),
        ("pt2", {}, "pt2"),
        ("module", {}, "pt2"),
        ("module", {"to": "torchscript"}, "torchscript"),
        ("pt", {"to": "onnx"}, "onnx"),
    ],
)
def test_every_torch_target_is_served_as_it_answers(
    torch_case: PackagingCase, tmp_path: Path, kind: str, how: dict[str, object], engine: str
) -> None:
    packaged = torch_case.package(saved(torch_case, kind), format="torchserve", **how)
    manifest = check_archive(packaged.path).manifest
    assert manifest.engine == engine and manifest.batch == 8
    pixels = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = module(torch_case)(pixels)[0]
    program = f"result = torchserve()({pixels[0].tolist()})[0][0]['scores']"
    (tmp_path / "empty").mkdir()
    scores = run_isolated(unpacked(packaged.path, tmp_path / "unpacked"), program, cwd=tmp_path / "empty")
    assert torch.allclose(torch.tensor(scores), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["pt", "pt2"])
def test_torch_archives_are_the_same_bytes_twice(torch_case: PackagingCase, kind: str) -> None:
    target = saved(torch_case, kind)
    digests = {torch_case.package(target, out=torch_case.folder / name).digest for name in ("one", "two")}
    assert len(digests) == 1


def test_triton_runs_torch_targets_in_the_python_backend(torch_case: PackagingCase) -> None:
    target = saved(torch_case, "pt")
    packaged = torch_case.package(target)
    assert read_manifest(packaged.path).backend == "python"
    with pytest.raises(UsageError, match="this target stays torchscript; use --backend python, or --to onnx"):
        torch_case.package(target, backend="onnxruntime", name="other")


def test_the_full_gate_compares_torch_models(torch_case: PackagingCase) -> None:
    packaged = torch_case.package(saved(torch_case, "pt"), gate="full", format="torchserve")
    assert packaged.report is not None and packaged.report.row("rows_differing").value == 0
    assert packaged.probes == 32


@pytest.mark.parametrize("kind", ["pt", "pt2", "module"])
def test_fidelity_reads_what_a_named_layer_reads(torch_case: PackagingCase, kind: str) -> None:
    target = saved(torch_case, kind)
    archive = torch_case.package(target, format="torchserve").path

    def fidelity(layer: str) -> tuple[int, str]:
        told = ["fidelity", str(archive), "--target", target, "--pictures", "8", "--feature", layer]
        result = CliRunner().invoke(app, told)
        return result.exit_code, result.output

    code, output = fidelity("0")
    assert code == 0, output
    assert "tensor '0, input', 3072 numbers, 8 pictures" in output
    code, output = fidelity("head")
    assert code == 2
    assert "has no layer 'head' with a weight; the last ones are '0', '4'" in " ".join(output.split())


def test_the_library_refuses_a_layer_that_is_none(torch_case: PackagingCase) -> None:
    spec = InputSpec(color="RGB", layout="NCHW", size=(32, 32), dtype="float32", output="logits", classes=10)
    with pytest.raises(TargetError, match="has no layer 'head'"):
        torch_subjects(module(torch_case), module(torch_case), spec, feature="head")


def test_a_pickle_is_refused_without_the_flag(torch_case: PackagingCase) -> None:
    path = torch_case.folder / "whole.pth"
    torch.save(module(torch_case), path)
    with pytest.raises(TargetError, match="--allow-pickle"):
        torch_case.package(path)
    assert torch_case.left() == []
    assert torch_case.package(path, allow_pickle=True).path.is_dir()

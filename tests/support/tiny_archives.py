"""Archives of a few kilobytes, valid in every layer, made without training or fusing anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_store_tools.packaging.assembly import Parts, companion_members, manifest_of, mar_members, triton_members
from ptynet_plugin.archives.checking import target_record
from ptynet_plugin.archives.fused import target_sums
from ptynet_plugin.archives.manifest import MANIFEST_NAME, PortRecord
from ptynet_plugin.archives.onnx_fused import FusionRecord, write_record
from ptynet_plugin.archives.reading import archive_digest
from ptynet_plugin.archives.sources import Source, measure
from ptynet_plugin.archives.triton_repository import write_directory
from ptynet_plugin.archives.zipform import write_zip
from ptynet_plugin.spec import InputSpec

CLASSES = 4
SIDE = 6
SPEC = InputSpec(
    layout="NCHW",
    color="RGB",
    size=(SIDE, SIDE),
    dtype="float32",
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.3, 0.25),
    output="logits",
    classes=CLASSES,
    input="pixels",
    scores="scores",
)
NAMES = ("ant", "bee", "cat", "doe")


def fused_onnx(*, batch: str | int = "rows", spec: InputSpec = SPEC) -> bytes:
    """A linear classifier and, where PTYNet would be, a node that copies its scores."""
    shape = [3, SIDE, SIDE] if spec.layout == "NCHW" else [SIDE, SIDE, 3]
    weight = np.random.default_rng(7).normal(size=(3 * SIDE * SIDE, CLASSES)).astype(np.float32)
    record = FusionRecord(prefix="ptynet_", scores="scores")
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"], name="flatten"),
        helper.make_node("MatMul", ["flat", "weight"], [record.target_scores], name="linear"),
        helper.make_node("Identity", [record.target_scores], ["scores"], name="ptynet_answer"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    write_record(model, record)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def tiny_parts(folder: Path, *, name: str = "tiny", format: str = "torchserve", **changes: object) -> Parts:
    """The parts of a tiny archive; `folder` is for scratch."""
    model = fused_onnx(batch=1 if changes.get("one_row") else "rows", spec=changes.get("spec", SPEC))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "scratch-model.onnx"
    path.write_bytes(model)
    sums = target_sums(path, "onnx")
    path.unlink()
    rows = 1 if changes.get("one_row") else -1
    parts = Parts(
        name=name,
        version="1",
        format=format,
        backend="torchserve" if format == "torchserve" else "python",
        engine="onnx",
        files={"model.onnx": model},
        spec=SPEC,
        inputs=(PortRecord(name="pixels", dtype="float32", shape=(rows, 3, SIDE, SIDE)),),
        outputs=(PortRecord(name="scores", dtype="float32", shape=(rows, CLASSES)),),
        input="pixels",
        scores="scores",
        one_row=False,
        target=target_record(sums.tensors, digest=sums.digest or "", kind="onnx"),
        claim="ab" * 32,
        class_names=NAMES,
    )
    return replace(parts, **changes)


def write_archive(out: Path, parts: Parts) -> Path:
    """Write an archive and its companions below `out`."""
    out.mkdir(parents=True, exist_ok=True)
    companions = {}
    if parts.format == "triton":
        for name, files in companion_members(parts).items():
            (out / name).mkdir()
            write_directory(out / name, files)
            companions[name] = archive_digest(out / name)
    members = mar_members(parts) if parts.format == "torchserve" else triton_members(parts)
    manifest = manifest_of(parts, {name: measure(source) for name, source in members.items()}, companions)
    return put(out, parts.name, parts.format, {**members, MANIFEST_NAME: manifest.to_json()})


def put(out: Path, name: str, format: str, members: dict[str, Source]) -> Path:
    """Write members as they are."""
    if format == "torchserve":
        with (out / f"{name}.mar").open("wb") as file:
            write_zip(file, members)
        return out / f"{name}.mar"
    (out / name).mkdir()
    write_directory(out / name, members)
    return out / name


@pytest.fixture
def make_archive(tmp_path: Path) -> Callable[..., Path]:
    """`make_archive(format="triton", ...)` gives the path of a fresh tiny archive."""

    def make(*, out: Path | None = None, **changes: object) -> Path:
        return write_archive(out or tmp_path / "out", tiny_parts(tmp_path, **changes))

    return make


@pytest.fixture(params=["torchserve", "triton"])
def either_archive(request: pytest.FixtureRequest, make_archive: Callable[..., Path]) -> Path:
    """A tiny archive, once of each format."""
    return make_archive(format=request.param)


def clean_environment() -> dict[str, str]:
    """An environment without anything of ours."""
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "TMPDIR", "LANG")}
    return {**kept, "OMP_NUM_THREADS": "1"}

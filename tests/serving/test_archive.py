"""Packaged archives behind the real servers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from model_store_tools.serving.archive import serve_archive
from model_store_tools.serving.handle import ServerHandle
from model_store_tools.serving.translation import for_python_backend
from model_store_tools.serving.triton import TritonProgram, find_triton
from ptynet_plugin.archives.checking import check_archive
from ptynet_plugin.errors import IntegrityError, ServerError
from ptynet_plugin.images.encode import encode
from ptynet_plugin.verification.opening import open_endpoint
from tests.support.tiny_archives import SIDE, SPEC, fused_onnx, tiny_parts, write_archive

FORMS = [
    pytest.param({"format": "triton"}, id="triton-python", marks=pytest.mark.triton),
    pytest.param({"format": "triton", "backend": "onnxruntime"}, id="triton-onnxruntime", marks=pytest.mark.triton),
    pytest.param({"format": "triton", "one_row": True}, id="triton-one-row", marks=pytest.mark.triton),
    pytest.param({"format": "torchserve"}, id="torchserve", marks=pytest.mark.torchserve),
]
PICTURE = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def tiny_archive(folder: Path, **form: object) -> Path:
    return write_archive(folder / "out", tiny_parts(folder / "scratch", **form))


def scores(handle: ServerHandle, protocol: str) -> np.ndarray:
    with open_endpoint(handle.url("tiny", protocol=protocol), spec=SPEC) as endpoint:
        return endpoint.ask(PICTURE).scores


@pytest.mark.parametrize("form", FORMS)
def test_an_archive_answers_what_its_model_answers(tmp_path: Path, form: dict[str, object]) -> None:
    archive = tiny_archive(tmp_path, **form)
    if archive.suffix == ".mar":
        archive = archive.rename(tmp_path / "release-17.mar")  # served under the name inside all the same
    before = check_archive(archive).digest
    session = onnxruntime.InferenceSession(fused_onnx(batch=1))
    (expected,) = session.run(None, {"pixels": encode(PICTURE[None], SPEC)})
    with serve_archive(archive) as handle:
        for protocol in ("http", "grpc"):
            np.testing.assert_allclose(scores(handle, protocol), expected[0], rtol=0, atol=1e-6)
    assert check_archive(archive).digest == before


@pytest.mark.triton
def test_companions_are_served_beside_the_archive(tmp_path: Path) -> None:
    with serve_archive(tiny_archive(tmp_path, format="triton", ensemble=True)) as handle:
        assert handle.models == ("tiny", "tiny_decode", "tiny_image", "tiny_label")
        with pytest.raises(ServerError, match="say which model"):
            handle.url()


@pytest.mark.triton
def test_the_caller_is_told_that_another_backend_serves(tmp_path: Path) -> None:
    said: list[str] = []
    archive = tiny_archive(tmp_path, format="triton", backend="onnxruntime")
    with serve_archive(archive, say=said.append):
        assert said == ["this Triton has no onnxruntime backend: its python backend runs the same model file"]


def test_the_translated_archive_passes_the_check_and_leaves_the_original_alone(tmp_path: Path) -> None:
    archive = tiny_archive(tmp_path, format="triton", backend="onnxruntime")
    before = check_archive(archive)
    for_python_backend(archive, before.manifest, tmp_path / "other" / "tiny")
    after = check_archive(tmp_path / "other" / "tiny")
    assert (after.manifest.backend, after.manifest.target) == ("python", before.manifest.target)
    assert "1/model.py" in after.manifest.files
    assert check_archive(archive).digest == before.digest


def test_a_changed_archive_is_not_served(tmp_path: Path) -> None:
    archive = tiny_archive(tmp_path, format="triton")
    model = archive / "1" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityError, match=r"1/model\.onnx"):
        serve_archive(archive)


def test_a_missing_backend_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = TritonProgram(tmp_path / "tritonserver", tmp_path, {}, native=True)
    monkeypatch.setattr("model_store_tools.serving.archive.find_triton", lambda: bare)
    scratch = tmp_path / "temporary"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with pytest.raises(ServerError, match="has no python backend; package with another --backend"):
        serve_archive(tiny_archive(tmp_path, format="triton"))
    assert not list(scratch.iterdir())


@pytest.mark.triton
def test_a_native_tritonserver_adds_nothing_to_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native = replace(find_triton(), native=True)
    monkeypatch.setattr("model_store_tools.serving.archive.find_triton", lambda: native)
    archive = tiny_archive(tmp_path, format="triton")
    with serve_archive(archive):
        check_archive(archive)

"""Triton's python models from an archive, without the server and without our package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.isolated import run_isolated

Make = Callable[..., Path]

READY = """
import onnxruntime
session = onnxruntime.InferenceSession(str(ARCHIVE / "1" / "model.onnx"))
rng = np.random.default_rng(1)
def rows(count):
    return rng.normal(size=(count, 3, 6, 6)).astype(np.float32)
def bare(batch):
    return session.run(None, {"pixels": batch})[0]
"""


@pytest.fixture
def run(make_archive: Make, tmp_path: Path) -> Callable[..., object]:
    archive = make_archive(format="triton")
    empty = tmp_path / "empty"
    empty.mkdir()
    return lambda program, **how: run_isolated(archive, READY + program, cwd=empty, **how)


@pytest.mark.parametrize("config", ["{}", '{"dynamic_batching": {}}'])
def test_a_bad_request_harms_no_other(run: Callable[..., object], config: str) -> None:
    result = run(f"""
ask = triton({config})
good = [rows(1), rows(2), rows(1)]
bad = [{{}}] + [{{"pixels": each}} for each in (rows(1).astype(np.float64), rows(1)[:, :, :5], rows(1)[0], rows(0))]
answers = ask({{"pixels": good[0]}}, *bad[:3], {{"pixels": good[1]}}, *bad[3:], {{"pixels": good[2]}})
result = {{
    "errors": [None if a.error is None else a.error.message() for a in answers],
    "close": [bool(np.allclose(answers[i].outputs["scores"], bare(batch), atol=1e-5)) for i, batch in zip((0, 4, 7), good)],
    "exact": bool((ask({{"pixels": good[0]}})[0].outputs["scores"] == bare(good[0])).all()),
}}
""")
    missing, dtype, shape, rank, empty = (result["errors"][index] for index in (1, 2, 3, 5, 6))
    assert "is missing" in missing and "has type float64, this model takes float32" in dtype
    assert "has shape [1, 3, 5, 6], this model takes [-1, 3, 6, 6]" in shape
    assert "has shape [3, 6, 6]" in rank and "has shape [0, 3, 6, 6]" in empty
    assert [result["errors"][index] for index in (0, 4, 7)] == [None] * 3
    assert result["close"] == [True] * 3
    assert result["exact"]


def test_without_dynamic_batching_every_request_is_answered_bit_for_bit(run: Callable[..., object]) -> None:
    result = run("""
ask = triton({"instance_group": [{"count": 2}]})
batches = [rows(1) for _ in range(5)]
answers = ask(*[{"pixels": batch} for batch in batches])
result = [a.outputs["scores"].tobytes() == bare(batch).tobytes() for a, batch in zip(answers, batches)]
""")
    assert result == [True] * 5


def test_an_altered_file_means_no_model(make_archive: Make, tmp_path: Path) -> None:
    archive = make_archive(format="triton")
    octets = bytearray((archive / "1" / "model.onnx").read_bytes())
    octets[-30] ^= 1
    (archive / "1" / "model.onnx").write_bytes(octets)
    said = run_isolated(archive, "triton({}); result = 1", cwd=tmp_path, fails=True)
    assert "TritonModelException" in said and "1/model.onnx has sha256" in said and "the manifest says" in said


def test_a_missing_runtime_means_no_model(make_archive: Make, tmp_path: Path) -> None:
    archive = make_archive(format="triton")
    (archive / "1" / "ptynet_runtime.py").unlink()
    assert "ptynet_runtime.py" in str(run_isolated(archive, "triton({}); result = 1", cwd=tmp_path, fails=True))


def test_decoder_and_labeller_of_the_ensemble(make_archive: Make, tmp_path: Path) -> None:
    archive = make_archive(format="triton", ensemble=True)
    result = run_isolated(
        archive.parent / "tiny_decode",
        """
import io
from PIL import Image
pixels = np.random.default_rng(2).integers(0, 256, (6, 6, 3), dtype=np.uint8)
out = io.BytesIO(); Image.fromarray(pixels).save(out, "PNG")
def bytes_tensor(*pictures):
    return {"IMAGE": np.array([[each] for each in pictures], object)}
answers = triton({})(bytes_tensor(out.getvalue(), out.getvalue()), bytes_tensor(b"no picture"), {})
expected = (pixels / 255 - [.5, .4, .3]) / [.2, .3, .25]
made = answers[0].outputs["pixels"]
close = bool(np.allclose(made[1], expected.transpose(2, 0, 1), atol=1e-6))
errors = [a.error and a.error.message() for a in answers]
result = {"shape": made.shape, "close": close, "dtype": str(made.dtype), "errors": errors}
""",
        cwd=tmp_path,
    )
    assert result["shape"] == [2, 3, 6, 6] and result["close"] and result["dtype"] == "float32"
    assert result["errors"] == [
        None,
        "the body is no readable JPEG or PNG (UnidentifiedImageError)",
        "input 'IMAGE' is missing",
    ]
    named = run_isolated(
        archive.parent / "tiny_label",
        """
scores = np.array([[0, 3, 1, 2], [9, np.nan, 1, 1]], np.float32)
a, = triton({})({"scores": scores})
result = [[each.decode() for each in a.outputs["label"].ravel()], a.outputs["class"].tolist(), a.outputs["label"].shape]
""",
        cwd=tmp_path,
    )
    assert named == [["1:bee", "0:ant"], [[1], [0]], [2, 1]]


def test_the_original_model_runs_behind_the_guard(make_archive: Make, tmp_path: Path) -> None:
    archive = make_archive(format="triton")
    guard = Path(__file__).resolve().parents[2] / "handlers" / "triton_guard.py"
    original = archive / "1" / "original_model.py"
    original.write_text(
        "class TritonPythonModel:\n"
        "    def initialize(self, args): self.version = args['model_version']\n"
        "    def execute(self, requests): return [self.version] * len(requests)\n"
    )
    (archive / "1" / "model.py").write_bytes(guard.read_bytes())
    reseal(archive, guarded="1/original_model.py")
    assert run_isolated(archive, "result = triton({})({}, {})", cwd=tmp_path) == ["1", "1"]
    original.write_text(original.read_text() + "# altered\n")
    assert "original_model.py has sha256" in str(
        run_isolated(archive, "triton({}); result = 1", cwd=tmp_path, fails=True)
    )


def reseal(folder: Path, **changes: object) -> None:
    from ptynet_plugin.archives.manifest import MANIFEST_NAME, seal, unseal
    from ptynet_plugin.archives.sources import measure

    path = folder / MANIFEST_NAME
    content = unseal(path.read_bytes(), where="test")
    files = [each for each in folder.rglob("*") if each.is_file() and each != path]
    sums = {str(each.relative_to(folder)): measure(each) for each in files}
    content["files"] = {name: {"size": each.size, "sha256": each.sha256} for name, each in sums.items()}
    path.write_bytes(seal({**content, **changes}))

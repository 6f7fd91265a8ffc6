"""The TorchServe handler from an unpacked archive, without the server and without our package."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.isolated import run_isolated, unpacked
from tests.support.tiny_archives import CLASSES, NAMES, SIDE

Make = Callable[..., Path]

PICTURES = f"""
import base64, io
from PIL import Image
rng = np.random.default_rng(5)
pixels = rng.integers(0, 256, ({SIDE}, {SIDE}, 3), dtype=np.uint8)
def encoded(kind, picture=pixels, **how):
    out = io.BytesIO(); Image.fromarray(picture).save(out, kind, **how); return out.getvalue()
png = encoded("PNG")
mean, std = np.array([.5, .4, .3]), np.array([.2, .3, .25])
row = ((pixels / 255 - mean) / std).astype(np.float32).transpose(2, 0, 1)
import onnxruntime
session = onnxruntime.InferenceSession(str(ARCHIVE / "model.onnx"))
def bare(*rows):
    return session.run(None, {{"pixels": np.stack(rows)}})[0]
ask = torchserve()
"""


@pytest.fixture
def run(make_archive: Make, tmp_path: Path) -> Callable[..., object]:
    archive = unpacked(make_archive(max_batch=4), tmp_path / "unpacked")
    empty = tmp_path / "empty"
    empty.mkdir()
    return lambda program, **how: run_isolated(archive, PICTURES + program, cwd=empty, **how)


def test_every_kind_of_body_gives_the_same_scores(run: Callable[..., object]) -> None:
    result = run("""
v2 = {"id": "7", "inputs": [{"name": "pixels", "shape": [1, 3, 6, 6], "datatype": "FP32", "data": row.ravel().tolist()}]}
bodies = [png, row.tolist(), [row.tolist()], json.dumps(row.tolist()).encode(), {"b64": base64.b64encode(png).decode()},
          {"instances": [row.tolist()]}, v2, bytearray(png)]
answers, statuses = ask(*bodies)
plain = [answers[i]["scores"] for i in (0, 1, 2, 3, 4, 7)]
plain += [answers[5]["predictions"][0]["scores"], answers[6]["outputs"][0]["data"]]
expected = [float(x) for x in bare(row)[0]]
result = {"same": [p == plain[1] for p in plain], "close": np.allclose(plain, expected, atol=1e-5), "statuses": statuses,
          "alone": ask(row.tolist())[0][0]["scores"] == expected, "first": answers[0], "v2": answers[6]}
""")
    assert result["alone"], "batch 1 is what the engine answers, bit for bit"
    assert result["close"] and result["statuses"] == {}
    assert result["same"][2] and result["same"][3]
    first = result["first"]
    assert first["class"] == int(np.argmax(first["scores"])) and first["label"] == NAMES[first["class"]]
    assert result["v2"]["id"] == "7" and result["v2"]["outputs"][0]["shape"] == [1, CLASSES]


BAD = {
    "empty": ("b''", "has no body; send a JPEG, a PNG or JSON"),
    "text": ("b'hello'", "neither JPEG, PNG nor JSON"),
    "number": ("3", "send a JPEG or PNG"),
    "damaged": ("png[:40]", "no readable JPEG or PNG"),
    "ragged": ("[[1, 2], [3]]", "ragged"),
    "words": ("[['a']]", "must be numbers"),
    "wrong shape": ("np.zeros((3, 5, 6)).tolist()", "has shape [3, 5, 6], this model takes [3, 6, 6] (NCHW)"),
    "infinite": ("json.dumps(row.tolist()).replace('[[[', '[[[1e999,', 1).encode()", "ragged"),
    "not finite": ("np.full((3, 6, 6), np.inf).tolist()", "must be finite float32"),
    "too large": ("np.full((3, 6, 6), 1e300).tolist()", "must be finite float32"),
    "no instances": ("{'instances': []}", "'instances' must be a list with at least one entry"),
    "bad b64": ("{'b64': '%%%'}", "'b64' is no base64"),
    "odd instance": ("{'instances': [{'x': 1}]}", "an instance is a picture"),
    "v2 without shape": ("{'inputs': [{'data': [1]}]}", "needs name, shape, datatype and data"),
    "v2 type": ("{'inputs': [{'name': 'x', 'shape': [1], 'datatype': 'INT64', 'data': [1]}]}", "this model takes FP32"),
    "v2 count": ("{'inputs': [{'name': 'x', 'shape': [1, 3, 6, 6], 'datatype': 'FP32', 'data': [1]}]}", "has 1 values"),
    "v2 negative": (
        "{'inputs': [{'name': 'x', 'shape': [-1], 'datatype': 'FP32', 'data': [1]}]}",
        "whole numbers above 0",
    ),
    "huge v2": ("{'inputs': [{'name': 'x', 'shape': [99999999999], 'datatype': 'FP32', 'data': [1]}]}", "has 1 values"),
    "deep": ("b'[' * 100000", "neither JPEG, PNG nor JSON"),
}


def test_bad_requests_get_a_400_each_and_harm_no_other(run: Callable[..., object]) -> None:
    bodies = ", ".join(source for source, _ in BAD.values())
    result = run(f"""
bad = [{bodies}]
batch = [each for pair in zip(bad, [row.tolist()] * len(bad)) for each in pair]
answers, statuses = ask(*batch)
statuses = {{str(index): status for index, status in statuses.items()}}
result = {{"answers": answers, "statuses": statuses, "good": [float(x) for x in bare(row)[0]]}}
""")
    for index, (name, (_, words)) in enumerate(BAD.items()):
        refused, good = result["answers"][2 * index : 2 * index + 2]
        assert result["statuses"][str(2 * index)] == 400, name
        assert refused["code"] == 400 and words in refused["message"], (name, refused)
        assert np.allclose(good["scores"], result["good"], atol=1e-5), name
    assert set(result["statuses"]) == {str(2 * index) for index in range(len(BAD))}


def test_a_form_is_called_one_for_curl_sends_forms(run: Callable[..., object]) -> None:
    result = run("""
context = Context(ARCHIVE)
handler = sys.modules["torchserve_handler"].PTYNetHandler()
handler.initialize(context)
result = handler.handle([{'[[1, 2]]': b''}], context)[0]
""")
    assert result["code"] == 400
    assert "it is a form; with curl: -H 'Content-Type: application/json'" in result["message"]


def test_several_rows_in_one_request(run: Callable[..., object]) -> None:
    result = run("""
other = (row + 1).astype(np.float32)
answers, _ = ask({"instances": [row.tolist(), other.tolist()]}, png, {"instances": [other.tolist()] * 5})
two, five = ([p["scores"] for p in answers[index]["predictions"]] for index in (0, 2))
result = [two, answers[1]["scores"], five, bare(row, other).tolist()]
""")
    two, one, five, expected = result
    assert np.allclose(two, expected, atol=1e-5) and np.allclose(one, expected[0], atol=1e-5)
    assert np.allclose(five, [expected[1]] * 5, atol=1e-5)


def test_pictures_of_any_size_and_color_are_brought_to_the_models(run: Callable[..., object]) -> None:
    result = run("""
big = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
small = np.asarray(Image.fromarray(big).resize((6, 6), Image.Resampling.BILINEAR))
gray = encoded("PNG", big[:, :, 0])
answers, _ = ask(encoded("PNG", big), encoded("PNG", small), gray, encoded("JPEG"))
palette = io.BytesIO(); Image.fromarray(big).convert("P").save(palette, "PNG")
more, _ = ask(palette.getvalue())
result = {"same": answers[0]["scores"] == answers[1]["scores"], "statuses": [a.get("code") for a in answers + more]}
""")
    assert result == {"same": True, "statuses": [None] * 5}


def test_a_picture_too_large_is_refused_before_it_is_decoded(run: Callable[..., object]) -> None:
    result = run("""
import struct, zlib
def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
bomb = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
answers, _ = ask(bomb)
result = answers[0]
""")
    assert result["code"] == 400
    assert "60000 x 60000 pixels" in result["message"] or "DecompressionBomb" in result["message"]


@pytest.mark.parametrize("name", ["model.onnx", "labels.txt", "model-config.yaml", "MAR-INF/MANIFEST.json"])
def test_an_altered_file_means_no_service(make_archive: Make, tmp_path: Path, name: str) -> None:
    archive = unpacked(make_archive(), tmp_path / "unpacked")
    octets = bytearray((archive / name).read_bytes())
    octets[len(octets) // 2] ^= 1
    (archive / name).write_bytes(octets)
    (tmp_path / "empty").mkdir()
    said = run_isolated(archive, "torchserve(); result = 1", cwd=tmp_path / "empty", fails=True)
    assert "Broken" in said and name in said and "the manifest says" in said and "not serving" in said


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "ptynet-manifest.json").unlink(),
        lambda folder: (folder / "ptynet-manifest.json").write_text("{}"),
        lambda folder: (folder / "ptynet-manifest.json").write_text("[" * 50_000),
        lambda folder: (folder / "model.onnx").unlink(),
        lambda folder: edit(folder, lambda content: content.update(files={})),
        lambda folder: edit(folder, lambda content: content["files"].update({"../x": {"sha256": "0" * 64, "size": 1}})),
        lambda folder: edit(folder, lambda content: content.update(version="2"), seal=False),
    ],
)
def test_a_broken_manifest_means_no_service(
    make_archive: Make, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    archive = unpacked(make_archive(), tmp_path / "unpacked")
    spoil(archive)
    (tmp_path / "empty").mkdir()
    said = run_isolated(archive, "torchserve(); result = 1", cwd=tmp_path / "empty", fails=True)
    assert "Broken" in said and "not serving" in said


def edit(folder: Path, change: Callable[[dict], object], *, seal: bool = True) -> None:
    from ptynet_plugin.archives import manifest

    path = folder / "ptynet-manifest.json"
    content = json.loads(path.read_text())
    digest = content.pop("digest")
    change(content)
    path.write_bytes(manifest.seal(content) if seal else json.dumps({**content, "digest": digest}).encode())


def test_a_model_of_one_row_is_asked_row_by_row(make_archive: Make, tmp_path: Path) -> None:
    archive = unpacked(make_archive(one_row=True), tmp_path / "unpacked")
    (tmp_path / "empty").mkdir()
    result = run_isolated(
        archive,
        PICTURES
        + "answers, _ = ask(*[row.tolist()] * 3); result = [a['scores'] for a in answers] + [bare(row)[0].tolist()]",
        cwd=tmp_path / "empty",
    )
    assert all(scores == result[3] for scores in result)


def test_a_row_the_engine_refuses_harms_no_other(run: Callable[..., object]) -> None:
    result = run("""
engine = ask.__closure__
handler = next(cell.cell_contents for cell in engine if hasattr(cell.cell_contents, "model"))
real = handler.model
def picky(feeds):
    if (feeds["pixels"] == 7).any():
        raise RuntimeError("no sevens")
    return real(feeds)
handler.model = picky
answers, statuses = ask(row.tolist(), np.full((3, 6, 6), 7).tolist(), row.tolist())
result = [answers[0]["scores"] == answers[2]["scores"], answers[1]["message"], list(statuses.items())]
""")
    assert result == [True, "the model cannot answer this input (RuntimeError: no sevens)", [[1, 400]]]

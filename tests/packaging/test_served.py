"""Packaged models behind the real servers: what handlers and ensemble answer, and what a bad request does to its neighbours."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pytest
import tritonclient.http as triton_http
from PIL import Image
from tritonclient.utils import InferenceServerException

from model_store_tools.serving.archive import serve_archive
from model_store_tools.serving.handle import ServerHandle
from ptynet_plugin.images.encode import encode
from tests.support.tiny_archives import CLASSES, NAMES, SIDE, SPEC, fused_onnx, tiny_parts, write_archive

PICTURES = np.random.default_rng(5).integers(0, 256, (6, SIDE, SIDE, 3), np.uint8)


def bare(rows: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    (scores,) = onnxruntime.InferenceSession(fused_onnx(), options).run(None, {"pixels": rows})
    return scores


def encoded(picture: np.ndarray, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, kind)
    return out.getvalue()


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[triton_http.InferenceServerClient]:
    folder = tmp_path_factory.mktemp("triton")
    archive = write_archive(folder / "out", tiny_parts(folder, format="triton", ensemble=True))
    with serve_archive(archive) as handle:
        client = triton_http.InferenceServerClient(handle.address("http").removeprefix("http://"))
        yield client
        client.close()


def ask(client: triton_http.InferenceServerClient, rows: np.ndarray) -> np.ndarray:
    tensor = triton_http.InferInput("pixels", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    return client.infer("tiny", [tensor]).as_numpy("scores")


@pytest.mark.triton
def test_a_batch_of_one_is_answered_bit_for_bit(triton: triton_http.InferenceServerClient) -> None:
    for row in encode(PICTURES, SPEC):
        assert ask(triton, row[None]).tobytes() == bare(row[None]).tobytes()


@pytest.mark.triton
def test_a_whole_batch(triton: triton_http.InferenceServerClient) -> None:
    rows = encode(PICTURES, SPEC)
    np.testing.assert_allclose(ask(triton, rows), bare(rows), rtol=0, atol=1e-5)


@pytest.mark.triton
def test_the_ensemble_takes_pictures_and_names_classes(triton: triton_http.InferenceServerClient) -> None:
    tensor = triton_http.InferInput("IMAGE", [len(PICTURES), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[encoded(each)] for each in PICTURES], np.object_))
    result = triton.infer("tiny_image", [tensor])
    expected = bare(encode(PICTURES, SPEC))
    np.testing.assert_allclose(result.as_numpy("scores"), expected, rtol=0, atol=1e-5)
    classes = expected.argmax(axis=1)
    assert result.as_numpy("class").ravel().tolist() == classes.tolist()
    assert [each.decode() for each in result.as_numpy("label").ravel()] == [f"{each}:{NAMES[each]}" for each in classes]


@pytest.mark.triton
def test_the_ensemble_refuses_what_is_no_picture(triton: triton_http.InferenceServerClient) -> None:
    tensor = triton_http.InferInput("IMAGE", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[b"no picture"]], np.object_))
    with pytest.raises(InferenceServerException, match="no readable JPEG or PNG"):
        triton.infer("tiny_image", [tensor])
    assert triton.is_model_ready("tiny_image")


@pytest.fixture(scope="module")
def torchserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    folder = tmp_path_factory.mktemp("torchserve")
    slow = {"maxBatchDelay": 300}
    with serve_archive(write_archive(folder / "out", tiny_parts(folder, max_batch=8, overlay=slow))) as handle:
        yield handle


def post(handle: ServerHandle, body: bytes | dict[str, object] | list[object]) -> httpx.Response:
    url = f"{handle.address('http')}/predictions/tiny"
    url = url if url.startswith("http") else f"http://{url}"
    if isinstance(body, bytes):
        return httpx.post(url, content=body, headers={"Content-Type": "application/octet-stream"}, timeout=60)
    return httpx.post(url, json=body, timeout=60)


@pytest.mark.torchserve
def test_torchserve_answers_every_kind_of_body(torchserve: ServerHandle) -> None:
    (row,) = encode(PICTURES[:1], SPEC)
    expected = bare(row[None])[0]
    plain = post(torchserve, encoded(PICTURES[0])).json()
    assert plain["label"] == NAMES[int(expected.argmax())]
    np.testing.assert_allclose(plain["scores"], expected, rtol=0, atol=1e-5)
    assert post(torchserve, row.tolist()).json()["scores"] == [float(each) for each in expected]
    instances = post(torchserve, {"instances": [row.tolist()] * 2}).json()["predictions"]
    np.testing.assert_allclose([each["scores"] for each in instances], [expected] * 2, rtol=0, atol=1e-5)
    tensor = {"name": "pixels", "shape": [1, *row.shape], "datatype": "FP32", "data": row.ravel().tolist()}
    output = post(torchserve, {"inputs": [tensor]}).json()["outputs"][0]
    assert output["shape"] == [1, CLASSES] and output["data"] == [float(each) for each in expected]


@pytest.mark.torchserve
def test_a_bad_request_gets_its_400_and_harms_no_other_of_its_batch(torchserve: ServerHandle) -> None:
    rows = encode(PICTURES, SPEC)
    bodies: list[bytes | list[object]] = [row.tolist() for row in rows] + [b"no picture", encoded(PICTURES[0])[:50]]
    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(lambda body: post(torchserve, body), bodies))
    assert [answer.status_code for answer in answers] == [200] * 6 + [400] * 2
    scores = [answer.json()["scores"] for answer in answers[:6]]
    np.testing.assert_allclose(scores, bare(rows), rtol=0, atol=1e-5)
    for answer in answers[6:]:
        told = json.loads(answer.text)
        assert told["code"] == 400 and "JPEG" in told["message"]


def test_any_unzip_reads_a_mar(tmp_path: Path) -> None:
    """The zip unpacks, and its manifest names members that exist."""
    path = write_archive(tmp_path / "out", tiny_parts(tmp_path))
    with zipfile.ZipFile(path) as stock:
        stock.extractall(tmp_path / "there")
    told = json.loads((tmp_path / "there" / "MAR-INF" / "MANIFEST.json").read_text())["model"]
    for field in ("serializedFile", "handler", "configFile"):
        assert (tmp_path / "there" / told[field]).is_file()

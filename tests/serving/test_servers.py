"""The real servers, started, asked, stopped; and what happens when they cannot be."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import numpy as np
import pytest
from tritonclient import grpc

from model_store_tools.serving import launch
from model_store_tools.serving.handle import ServerHandle
from model_store_tools.serving.torchserve import start_torchserve
from model_store_tools.serving.triton import TritonProgram, find_triton, start_triton
from ptynet_plugin.errors import BadAnswer, ServerError
from tests.support.toy_servers import toy_scores, write_mar, write_triton_model

PICTURE = (np.arange(48).reshape(1, 3, 4, 4) % 7).astype(np.float32)
LOOPBACK_IPV4, LOOPBACK_IPV6 = "0100007F", "0000000000000000FFFF00000100007F"
BROKEN = "raise RuntimeError('ptynet.onnx: digest differs')\n"


def listening_addresses(port: int) -> set[str]:
    """Return the local addresses, in the kernel's hexadecimal, that something listens on with this port."""
    rows = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")}


@pytest.mark.triton
def test_triton_answers_over_http(toy_triton: ServerHandle) -> None:
    tensor = {"name": "pixels", "shape": PICTURE.shape, "datatype": "FP32", "data": PICTURE.ravel().tolist()}
    answer = httpx.post(f"http://{toy_triton.address()}/v2/models/toy/infer", json={"inputs": [tensor]}).json()
    assert answer["outputs"][0]["data"] == toy_scores(PICTURE)[0].tolist()


@pytest.mark.triton
def test_triton_answers_over_grpc(toy_triton: ServerHandle) -> None:
    with grpc.InferenceServerClient(toy_triton.address("grpc")) as client:
        tensor = grpc.InferInput("pixels", list(PICTURE.shape), "FP32")
        tensor.set_data_from_numpy(PICTURE)
        scores = client.infer("toy", [tensor]).as_numpy("scores")
    np.testing.assert_array_equal(scores, toy_scores(PICTURE))


@pytest.mark.triton
@pytest.mark.parametrize("path", ["repository/index", "repository/models/toy/unload", "logging"])
def test_triton_keeps_its_administration_closed(toy_triton: ServerHandle, path: str) -> None:
    answer = httpx.post(f"http://{toy_triton.address()}/v2/{path}", json={})
    assert answer.status_code >= 400
    assert "restricted" in answer.text


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_triton_listens_on_loopback_alone(toy_triton: ServerHandle, protocol: str) -> None:
    assert listening_addresses(toy_triton.ports[protocol]) <= {LOOPBACK_IPV4, LOOPBACK_IPV6}


@pytest.mark.torchserve
def test_torchserve_answers(toy_torchserve: ServerHandle) -> None:
    answer = httpx.post(f"http://{toy_torchserve.address()}/predictions/toy", json=PICTURE[0].tolist())
    assert answer.json() == toy_scores(PICTURE)[0].tolist()


@pytest.mark.torchserve
def test_torchserve_writes_no_line_a_request(toy_torchserve: ServerHandle) -> None:
    before = toy_torchserve.process.read_log()
    for _ in range(3):
        httpx.post(f"http://{toy_torchserve.address()}/predictions/toy", json=PICTURE[0].tolist()).raise_for_status()
    assert toy_torchserve.process.read_log() == before


@pytest.mark.torchserve
def test_torchserve_listens_on_loopback_alone(toy_torchserve: ServerHandle) -> None:
    for port in toy_torchserve.ports.values():
        assert listening_addresses(port) <= {LOOPBACK_IPV4, LOOPBACK_IPV6}


@pytest.mark.torchserve
@pytest.mark.parametrize("path", ["models", "workflows"])
def test_torchserve_fetches_nothing_on_request(toy_torchserve: ServerHandle, path: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bait:
        bait.settimeout(0.5)
        url = f"http://127.0.0.1:{bait.getsockname()[1]}/bait.mar"
        answer = httpx.post(f"http://{toy_torchserve.address('management')}/{path}", params={"url": url})
        assert answer.status_code >= 400
        with pytest.raises(TimeoutError):
            bait.accept()


@pytest.mark.torchserve
def test_torchserve_with_a_token_refuses_who_has_none(tmp_path: Path) -> None:
    with start_torchserve(write_mar(tmp_path), token=True) as server:
        address = f"http://{server.address()}/predictions/toy"
        assert httpx.post(address, json=PICTURE[0].tolist()).status_code == 400
        answer = httpx.post(address, json=PICTURE[0].tolist(), headers=server.headers)
        assert answer.json() == toy_scores(PICTURE)[0].tolist()
        assert server.headers["Authorization"] not in repr(server)


@pytest.mark.triton
def test_a_broken_triton_model_fails_with_what_the_log_says(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"(?s)Triton.*its log says.*ptynet\.onnx: digest differs"):
        start_triton(write_triton_model(tmp_path, source=BROKEN))


@pytest.mark.torchserve
def test_a_broken_torchserve_model_fails_with_what_the_log_says(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"(?s)TorchServe cannot load.*ptynet\.onnx: digest differs"):
        start_torchserve(write_mar(tmp_path, source=BROKEN))


@pytest.mark.triton
def test_a_bad_golden_answer_stops_the_server(tmp_path: Path) -> None:
    started: list[ServerHandle] = []

    def golden(handle: ServerHandle) -> None:
        started.append(handle)
        raise BadAnswer("toy: 9 scores, 10 expected")

    with pytest.raises(ServerError, match=r"calls itself ready, but its first answer is no good .toy: 9 scores"):
        start_triton(write_triton_model(tmp_path), golden=golden)
    assert not started[0].alive()


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_port_in_use_is_named(tmp_path: Path, protocol: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port} on 127.0.0.1: .*in use.*choose another port"):
            start_triton(write_triton_model(tmp_path), **{f"{protocol}_port": port})


@pytest.mark.triton
def test_a_port_lost_to_another_process_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine, calls = launch.free_ports, []
    with socket.create_server(("127.0.0.1", 0)) as thief:
        taken = thief.getsockname()[1]

        def unlucky(count: int) -> list[int]:
            calls.append(count)
            return [taken, *genuine(count - 1)] if len(calls) == 1 else genuine(count)

        monkeypatch.setattr(launch, "free_ports", unlucky)
        with start_triton(write_triton_model(tmp_path)) as server:
            assert server.ports["http"] != taken
    assert len(calls) == 2


@pytest.mark.triton
def test_a_native_tritonserver_on_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "bin" / "tritonserver"
    binary.parent.mkdir()
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    (tmp_path / "backends" / "onnxruntime").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(binary.parent))
    program = find_triton()
    assert isinstance(program, TritonProgram)
    assert (program.binary, program.native) == (binary, True)
    assert program.brings("onnxruntime")
    assert not program.brings("python")


def test_an_empty_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"no NAME/config\.pbtxt below it"):
        start_triton(tmp_path)


def test_servers_that_are_not_installed_name_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTYNET_SERVERS", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServerError, match=r"run: python -m model_store_tools\.serving\.setup triton"):
        find_triton()
    with pytest.raises(ServerError, match=r"run: python -m model_store_tools\.serving\.setup torchserve"):
        start_torchserve(tmp_path)


@pytest.mark.torchserve
def test_torchserve_starts_below_a_long_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("long" * 25)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with start_torchserve(write_mar(tmp_path)) as server:
        assert not server.log.is_relative_to(long)

"""`ptynet serve` as a person or a process manager uses it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from model_store_tools.cli.main import app
from tests.support.tiny_archives import tiny_parts, write_archive

ROOT = Path(__file__).parents[2]
SECONDS = 60


@pytest.fixture(scope="module")
def triton_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton")
    return write_archive(folder / "out", tiny_parts(folder / "scratch", format="triton"))


@pytest.fixture(scope="module")
def mar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torchserve")
    return write_archive(folder / "out", tiny_parts(folder / "scratch", format="torchserve"))


class Served:
    """`ptynet serve` in a process of its own."""

    def __init__(self, *arguments: object, temporary: Path) -> None:
        verb = [sys.executable, "-c", "from model_store_tools.cli.main import main; main()", "serve"]
        self.temporary = temporary
        self.process = subprocess.Popen(
            [*verb, *map(str, arguments), "--http-port", "0", "--grpc-port", "0"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lines(self) -> list[str]:
        """Wait until the server is announced; return the three lines."""
        assert self.process.stdout is not None
        return [self.process.stdout.readline().strip() for _ in range(3)]

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=SECONDS)
        return self.process.returncode

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def left_behind(self) -> list[Path]:
        """Return what still lies in the temporary folder, once the guard had its time."""
        deadline = time.monotonic() + SECONDS
        while (found := list(self.temporary.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("t")


@pytest.mark.triton
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_asked_for_stop_exits_0_and_leaves_nothing(
    triton_archive: Path, temporary: Path, number: signal.Signals
) -> None:
    with Served(triton_archive, temporary=temporary) as served:
        title, http, grpc = served.lines()
        assert title.startswith("Triton serves tiny (archive ")
        assert (http.split("127")[0], grpc.split("127")[0]) == ("triton+http://", "triton+grpc://")
        ready = http.replace("triton+", "").replace("/tiny", "/v2/models/tiny/ready")
        assert httpx.get(ready).status_code == 200
        assert served.stop(number) == 0
        assert served.left_behind() == []
        with pytest.raises(httpx.ConnectError):
            httpx.get(ready)


@pytest.mark.torchserve
def test_a_killed_serve_leaves_nothing_but_the_header_for_its_owner(mar: Path, tmp_path: Path, temporary: Path) -> None:
    header = tmp_path / "header"
    with Served(mar, "--token", header, temporary=temporary) as served:
        title, http, _ = served.lines()
        assert title.startswith("TorchServe serves tiny")
        assert header.read_text().startswith("Authorization: Bearer ")
        assert header.stat().st_mode & 0o777 == 0o600
        assert served.stop(signal.SIGKILL) == -signal.SIGKILL
        assert served.left_behind() == []
        with pytest.raises(httpx.ConnectError):
            httpx.get(http.replace("torchserve+", "").replace("/tiny", "/ping"))


@pytest.mark.triton
def test_a_server_that_dies_by_itself_is_told(triton_archive: Path, temporary: Path) -> None:
    with Served(triton_archive, temporary=temporary) as served:
        served.lines()
        guard = int(Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children").read_text().split()[0])
        server = int(Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[0])
        os.kill(server, signal.SIGKILL)
        _, errors = served.process.communicate(timeout=SECONDS)
        assert served.process.returncode == 2
        assert "ptynet: Triton ended by itself" in errors


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["serve", *map(str, arguments)])
    assert result.exit_code == 2
    return result.stderr


def test_no_archive_is_refused(tmp_path: Path) -> None:
    assert f"ptynet: {tmp_path / 'none.mar'}: cannot be opened" in refused(tmp_path / "none.mar")


def test_another_server_than_the_archives_is_refused(triton_archive: Path) -> None:
    message = refused(triton_archive, "--server", "torchserve")
    assert "packaged for triton, not for torchserve; leave --server out" in message


def test_a_token_for_triton_is_refused(triton_archive: Path, tmp_path: Path) -> None:
    assert "Triton knows no tokens" in refused(triton_archive, "--token", tmp_path / "header")


@pytest.mark.triton
def test_a_port_in_use_is_refused(triton_archive: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        assert f"ptynet: port {port} on 127.0.0.1" in refused(triton_archive, "--http-port", port)


def test_a_server_that_is_not_installed_names_the_command(
    triton_archive: Path, mar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PTYNET_SERVERS", str(tmp_path / "nowhere"))
    monkeypatch.setenv("PATH", "")
    assert "run: python -m model_store_tools.serving.setup triton" in refused(triton_archive)
    assert "run: python -m model_store_tools.serving.setup torchserve" in refused(mar)

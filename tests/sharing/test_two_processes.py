"""Data holder and owner as two processes with a real socket and a listener between them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model_store_tools.sharing.wire import LENGTH
from ptynet_plugin.keyfile import write_key
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.mark import read_metadata, read_network
from tests.support.tiny_archives import clean_environment

ROOT = Path(__file__).resolve().parents[2]
PICTURES = 6
FILTERS, PLACES = 27, 7

OWNER = """
import sys
from pathlib import Path
import model_store_tools.training as training
from ptynet_plugin.network.plan import TrainingPlan
tiny = TrainingPlan(steps=3, batch=16, covers=512, held_out=8)
whole = training.train_mark
training.train_mark = lambda *given, **named: whole(*given, **named, plan=tiny, least=0.0)
from model_store_tools.cli.main import main
sys.argv = ["ptynet", "train", *sys.argv[1:]]
main()
"""
"""`ptynet train` as it is, but for three steps."""


class Tap:
    """Passes one connection on and keeps every octet of both directions."""

    def __init__(self, port: int) -> None:
        self.heard = {"owner": b"", "holder": b""}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._target = port
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        self._thread.join(30)
        self._listener.close()

    def _run(self) -> None:
        self._listener.settimeout(60)
        owner, _ = self._listener.accept()
        holder = socket.create_connection(("127.0.0.1", self._target))
        with owner, holder:
            back = threading.Thread(target=self._copy, args=(holder, owner, "holder"))
            back.start()
            self._copy(owner, holder, "owner")
            back.join()

    def _copy(self, source: socket.socket, sink: socket.socket, name: str) -> None:
        while part := source.recv(1 << 16):
            self.heard[name] += part
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(9)
    (tmp_path / "pictures").mkdir()
    for i in range(PICTURES):
        pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    write_key(tmp_path / "OWNER.key", OwnerKey(bytes(range(32))))
    return tmp_path


Holder = subprocess.Popen[str]


def start_holder(folder: Path, *flags: str) -> tuple[Holder, int]:
    command = [sys.executable, "-m", "model_store_tools.cli.main", "share-covers", str(folder / "pictures")]
    process = subprocess.Popen(
        [*command, "--token", str(folder / "token"), *flags],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert re.fullmatch(r"127\.0\.0\.1:\d+", line), process.communicate()
    return process, int(line.rpartition(":")[2])


@pytest.fixture
def holder(folder: Path) -> Iterator[tuple[Holder, int]]:
    process, port = start_holder(folder, "--noise", "0.5")
    try:
        yield process, port
    finally:
        process.kill()
        process.communicate()


def start_owner(folder: Path, port: int) -> subprocess.Popen[str]:
    flags = ["--key", "OWNER.key", "--out", "MARK", "--symbols", "16"]
    flags += ["--covers-from", f"127.0.0.1:{port}", "--token", "token"]
    environment = clean_environment() | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", OWNER, *flags]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_activations_cross_and_pictures_never(folder: Path, holder: tuple[Holder, int]) -> None:
    process, port = holder
    tap = Tap(port)
    owner = start_owner(folder, tap.port)
    said = owner.communicate(timeout=120)
    tap.close()
    assert owner.returncode == 0, said
    assert process.wait(30) == 0
    assert f"{PICTURES} covers as activations, noise 0.5" in said[1]
    metadata = read_metadata(folder / "MARK")
    assert metadata.training["shared_covers"] == {"pictures": PICTURES, "noise": 0.5}
    assert read_network(folder / "MARK").symbols == 16

    sent = tap.heard["holder"]
    body = 2 * PICTURES * FILTERS * PLACES**2
    assert len(sent) < body + 600, "nothing else crosses than activations, greeting, offer and seals"
    for path in (folder / "pictures").iterdir():
        pixels = np.asarray(Image.open(path))
        file = path.read_bytes()
        secrets = [file[i : i + 16] for i in range(0, len(file) - 16, 16)]
        secrets += [row.tobytes()[i : i + 12] for row in pixels for i in range(0, 96, 12)]
        assert not any(secret in heard for secret in secrets for heard in tap.heard.values())
    assert bytes.fromhex((folder / "token").read_text()) not in sent + tap.heard["owner"]


class Impostor:
    """Listens as a data holder and answers with what it is given, then says no more."""

    def __init__(self, *, says: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._says = says
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._thread.join(30)
        self._listener.close()

    def _run(self) -> None:
        self._listener.settimeout(60)
        connection, _ = self._listener.accept()
        with connection:
            connection.sendall(self._says)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(100)


def framed(content: bytes) -> bytes:
    return len(content).to_bytes(LENGTH, "big") + content


@pytest.mark.parametrize(
    ("says", "message"),
    [
        (b"\xff\xff\xff\xff", "announces a message of 4294967295 octets, 1 to 4096 are expected here"),
        (framed(b"ptynet-covers/1\n" + bytes(32)), "hung up on the token; both sides need the same token file"),
    ],
    ids=["announces-4-GB", "dies-after-hello"],
)
def test_a_peer_that_is_no_data_holder_costs_exit_2_and_leaves_no_mark(folder: Path, says: bytes, message: str) -> None:
    (folder / "token").write_text("ab" * 32)
    (folder / "token").chmod(0o600)
    impostor = Impostor(says=says)
    owner = start_owner(folder, impostor.port)
    _, complaint = owner.communicate(timeout=60)
    impostor.close()
    assert owner.returncode == 2
    assert message in " ".join(complaint.split())
    assert "Traceback" not in complaint
    assert left(folder) == ["OWNER.key", "pictures", "token"]


def test_nobody_there_is_said_with_the_next_step(folder: Path) -> None:
    (folder / "token").write_text("ab" * 32)
    (folder / "token").chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
    owner = start_owner(folder, port)
    _, complaint = owner.communicate(timeout=60)
    assert owner.returncode == 2
    assert "nobody shares covers there" in complaint
    assert "ptynet share-covers DIR --listen" in complaint


def test_a_stranger_is_turned_away_and_the_owner_still_served(folder: Path, holder: tuple[Holder, int]) -> None:
    process, port = holder
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(framed(bytes(64)))
        heard = b""
        while part := stranger.recv(4096):
            heard += part
    assert len(heard) == LENGTH + 16 + 32, "a stranger hears the greeting alone"
    with socket.create_connection(("127.0.0.1", port)) as shouting:
        shouting.sendall(b"\xff\xff\xff\xff" + bytes(100))
    owner = start_owner(folder, port)
    said = owner.communicate(timeout=120)
    assert owner.returncode == 0, said
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert log.count("turned away") == 2


def test_an_interrupted_holder_exits_2(folder: Path) -> None:
    process, _ = start_holder(folder)
    os.kill(process.pid, signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "interrupted" in complaint
    assert "Traceback" not in complaint


def test_an_interrupted_owner_exits_2_and_leaves_no_mark(folder: Path) -> None:
    (folder / "token").write_text("ab" * 32)
    (folder / "token").chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(120)
        owner = start_owner(folder, int(silent.getsockname()[1]))
        connection, _ = silent.accept()  # from here on the owner waits for a greeting
        with connection:
            os.kill(owner.pid, signal.SIGINT)
            _, complaint = owner.communicate(timeout=60)
    assert owner.returncode == 2
    assert "interrupted" in complaint
    assert "Traceback" not in complaint
    assert left(folder) == ["OWNER.key", "pictures", "token"]


def test_the_holder_does_not_wait_for_ever(folder: Path) -> None:
    process, _ = start_holder(folder, "--wait", "0.5")
    _, complaint = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "nobody with the token took the covers within 0.5 s" in complaint


WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from model_store_tools.cli.main import main
sys.argv = ["ptynet", *sys.argv[1:]]
main()
"""


def test_the_holder_needs_no_torch(folder: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, "share-covers", str(folder / "pictures"), "--wait", "0.1"]
    command += ["--token", str(folder / "token")]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False)
    assert "nobody with the token" in done.stderr

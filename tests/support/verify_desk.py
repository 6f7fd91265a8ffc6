"""An owner's desk: key, mark and claim on disk, and `ptynet verify` run over them, here or in a process of its own."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from model_store_tools.cli.main import app
from ptynet_plugin.keys import OwnerKey
from tests.support.standins import Request, as_json, picture_of
from tests.support.verification_case import Case

WRONG = OwnerKey(bytes(32))


@dataclasses.dataclass
class Desk:
    """An owner's files, and the command line over them."""

    key: Path
    mark: Path
    case: Case
    port: int = 0

    def run(self, *arguments: str, endpoint: str = "") -> object:
        fixed = ["--key", str(self.key), "--mark", str(self.mark), "--retries", "0", "--timeout", "5"]
        where = endpoint or f"torchserve+http://127.0.0.1:{self.port}/digits"
        return CliRunner().invoke(app, ["verify", where, *fixed, *arguments])


def marked(case: Case) -> Callable[[Request], object]:
    return lambda request: as_json(case.marked(picture_of(request.body)))


SCRIPT = """
import sys
import ptynet_plugin.mark
ptynet_plugin.mark.read_metadata = lambda folder: None
from model_store_tools.cli.main import main
main()
"""


def start_process(desk: Desk, *arguments: str) -> subprocess.Popen:
    where = f"torchserve+http://127.0.0.1:{desk.port}/digits"
    fixed = ["verify", where, "--key", str(desk.key), "--mark", str(desk.mark), *arguments]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *fixed], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)

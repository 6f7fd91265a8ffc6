"""`ptynet copies issue` in processes of their own, the libraries loaded beforehand: sixteen Python starts would take a minute."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from model_store_tools.cli.main import app

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [
        "tests.support.issuing_workers",
        "model_store_tools.packaging.copies",
        "model_store_tools.packaging.issuing",
        "model_store_tools.registry",
    ]
)


def command(arguments: Sequence[str], log: Path) -> None:
    """Run `ptynet` with these arguments, its output in a file; the exit code is the process's."""
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.pop("PTYNET_KEY", None)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 -- the process ends with it
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 -- as above
    app(list(arguments), prog_name="ptynet")

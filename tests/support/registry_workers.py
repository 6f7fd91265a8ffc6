"""Processes that issue copies from one registry at once; importable, so that they start without pytest."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path

from model_store_tools.registry import Registry
from ptynet_plugin.errors import RegistryError

OWNER, CLAIM = "0e" * 32, "c1" * 32

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.support.registry_workers", "psycopg"])


def issue_all(url: str, customers: Sequence[str], log: Path) -> None:
    """Issue to every customer who has no copy; note each step when, and only when, the registry has confirmed it."""
    with log.open("ab", buffering=0) as file, Registry.open(url, owner=OWNER) as registry:
        for customer in customers:
            try:
                copy = registry.reserve(claim=CLAIM, customer=customer)
            except RegistryError as error:
                assert "one customer has one copy" in str(error), error
                continue
            file.write(f"reserved {copy.number} {customer}\n".encode())
            registry.complete(copy, archive=f"{customer}.mar", format="torchserve", digest=f"{copy.number:064x}")
            file.write(f"issued {copy.number} {customer}\n".encode())


def race_for_one(url: str, customer: str, log: Path) -> None:
    """Try to issue one customer's copy, and note whether it worked."""
    with Registry.open(url, owner=OWNER) as registry:
        try:
            copy = registry.reserve(claim=CLAIM, customer=customer)
            registry.complete(copy, archive="a.mar", format="torchserve", digest=f"{os.getpid():064x}")
            log.write_text(f"issued {copy.number} {os.getpid():064x}")
        except RegistryError as error:
            log.write_text(f"refused {error}")


def trace_often(url: str, times: int, log: Path) -> None:
    """Register traces and note their numbers."""
    with Registry.open(url, owner=OWNER) as registry:
        log.write_text(" ".join(str(registry.begin_trace(CLAIM, endpoint="file:x")) for _ in range(times)))

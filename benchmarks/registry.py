"""How long does the registry take to give out 10,000 copies, and to list 100,000?

    python -m benchmarks.registry [--issued 10000] [--listed 100000] [--one-by-one 500] [--databases sqlite postgresql]
                                  [--json F]

Issuing: code words of 512 positions are derived from the key and entered with their customers and archives: `reserve_many` and
`complete_many` in batches of 1000, and for comparison `reserve` and `complete` copy by copy, two transactions each, as
`ptynet copies issue` does. Listing: the whole process `ptynet copies list`, start of Python included, its output written to
a file. PostgreSQL runs on this machine, with fsync.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model_store_tools.certificates.certificate import CodeFacts, code_of
from model_store_tools.registry import Registry
from model_store_tools.serving.postgres import running_postgres

OWNER, CLAIM, SECRET = "0e" * 32, "c1" * 32, bytes(range(32))
CODE = CodeFacts(positions=512, quick=24, coalition=4, classes=10, salt="5a" * 32, epoch=0)
BATCH = 1000
LIMITS = {"issued": 30.0, "listed": 1.0}


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """Give the address of an empty database."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'copies.db'}"
        return
    with running_postgres(settings=("fsync=on",)) as server:
        yield server.make_database("copies")


def issue_in_batches(registry: Registry, first: int, count: int) -> float:
    """Reserve and complete copies, their words derived; return seconds."""
    began = time.perf_counter()
    code = code_of(SECRET, CLAIM, CODE)
    for start in range(first, first + count, BATCH):
        some = min(BATCH, first + count - start)
        names = [f"Customer {each} Ltd" for each in range(start, start + some)]
        reserved = registry.reserve_many(claim=CLAIM, customers=names)
        words = code.words(reserved[0].number, some)
        if len({word.tobytes() for word in words}) != some:
            raise AssertionError("two copies of one word")
        archives = [(copy, f"model-copy-{copy.number}.mar", f"{copy.number:064x}") for copy in reserved]
        registry.complete_many(archives, format="torchserve")
    return time.perf_counter() - began


def issue_one_by_one(registry: Registry, first: int, count: int) -> float:
    """Reserve and complete copy by copy; return seconds."""
    began = time.perf_counter()
    code = code_of(SECRET, CLAIM, CODE)
    for each in range(first, first + count):
        copy = registry.reserve(claim=CLAIM, customer=f"Customer {each} Ltd")
        code.words(copy.number, 1)
        registry.complete(
            copy, archive=f"model-copy-{copy.number}.mar", format="torchserve", digest=f"{copy.number:064x}"
        )
    return time.perf_counter() - began


def list_all(url: str, lines: int, scratch: Path) -> tuple[float, float]:
    """Run `ptynet copies list`; return the seconds of the whole process and those of a processor, the best of three."""
    seconds = []
    command = [str(Path(sys.executable).with_name("ptynet")), "copies", "list"]
    for _ in range(3):
        began, worked = time.perf_counter(), _worked()
        with scratch.open("w") as output:
            subprocess.run(command, stdout=output, env={**os.environ, "PTYNET_REGISTRY": url}, check=True)
        seconds.append((time.perf_counter() - began, _worked() - worked))
    found = scratch.read_text().count("\n") - 1
    if found != lines:
        raise AssertionError(f"{found} lines for {lines} copies")
    return min(seconds)


def _worked() -> float:
    """Give the processor's seconds of all ended children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Print one line per database; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--issued", type=int, default=10_000)
    parser.add_argument("--listed", type=int, default=100_000)
    parser.add_argument("--one-by-one", type=int, default=500)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    missed, found = False, {}
    for kind in given.databases:
        with tempfile.TemporaryDirectory() as scratch, database(kind, Path(scratch)) as url:
            with Registry.open(url, owner=OWNER) as registry:
                issued = issue_in_batches(registry, 0, given.issued)
                single = issue_one_by_one(registry, given.issued, given.one_by_one)
                made = given.issued + given.one_by_one
                issue_in_batches(registry, made, given.listed - made)
            listed, worked = list_all(url, given.listed, Path(scratch) / "list.txt")
        each = single / given.one_by_one * 1000
        print(f"{kind}: {given.issued} issued in batches: {issued:.1f} s; one by one: {each:.1f} ms a copy")
        print(
            f"{kind}: `ptynet copies list` of {given.listed}, whole process: {listed:.2f} s, processor: {worked:.2f} s",
            flush=True,
        )
        found[kind] = {"issued": issued, "milliseconds_a_copy": each, "listed": listed, "list_processor": worked}
        missed |= issued > LIMITS["issued"] or listed > LIMITS["listed"]
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())

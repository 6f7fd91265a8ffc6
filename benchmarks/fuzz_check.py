"""Does any damaged or hostile archive make `check` do anything but pass or refuse?

A small coverage-guided fuzzer: it starts from the archives in tests/vectors, damages them (bytes, pieces, members repacked
in canonical form with the manifest sealed again), and keeps what reached a new line of the reader. A finding is any exception but
`ArchiveError`, a file written outside, or an altered archive that passes under its old digest.

    python -m benchmarks.fuzz_check [--seconds 60] [--seed 0] [--corpus FOLDER]

Exit code 1 if there was a finding; its input is kept in the folder that is printed.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from ptynet_plugin.archives import check_archive
from ptynet_plugin.archives import reading as archive_reading
from ptynet_plugin.archives.manifest import MANIFEST_NAME, seal
from ptynet_plugin.archives.reading import open_archive
from ptynet_plugin.archives.sources import measure
from ptynet_plugin.archives.zipform import write_zip
from ptynet_plugin.errors import ArchiveError

VECTORS = Path(__file__).resolve().parents[1] / "tests" / "vectors"
WATCHED = str(Path(archive_reading.__file__).parent)
TEXTS = [
    b"../",
    b"\0",
    b"\xff" * 8,
    b"PK\x05\x06",
    b"PK\x01\x02",
    b"\x80\x80\x80\x80\x10",
    b"9" * 40,
    b"[" * 50,
    b'"',
    b"\\u0000",
]


class Coverage:
    """Lines of the readers that an input reached."""

    def __init__(self) -> None:
        self.known: set[tuple[str, int]] = set()
        self._reached: set[tuple[str, int]] = set()

    def __enter__(self) -> Coverage:
        self._reached = set()
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def new(self) -> bool:
        """Whether the last input reached a line that none before it did."""
        fresh = self._reached - self.known
        self.known |= fresh
        return bool(fresh)

    def _call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(WATCHED) else None

    def _line(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        self._reached.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line


def damaged(octets: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Damage bytes in one to four places."""
    made = bytearray(octets)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(made) + 1)
        kind = rng.randrange(6)
        if kind == 0 and made:
            made[place % len(made)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            made[place : place + rng.randint(1, 64)] = b""
        elif kind == 2:
            made[place:place] = rng.choice(TEXTS)
        elif kind == 3:
            made[place : place + 4] = rng.choice([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\1\0\0\0"])
        elif kind == 4:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            made[place : place + 16] = other[start : start + rng.randint(1, 200)]
        else:
            made[place : place + 1] = rng.choice(TEXTS)
    return bytes(made)


def repacked(octets: bytes, others: list[bytes], rng: random.Random, folder: Path) -> bytes:
    """Damage one member, and pack all again so that only the readers behind the container can notice."""
    path = folder / "source.mar"
    path.write_bytes(octets)
    try:
        with open_archive(path) as archive:
            members = {name: archive.read(name, limit=1 << 22) for name in archive.names()}
    except ArchiveError:
        return damaged(octets, others, rng)
    if not members:
        return damaged(octets, others, rng)
    name = rng.choice(sorted(members))
    members[name] = damaged(members[name], others, rng)
    if rng.random() < 0.2:
        members[damaged(name.encode(), others, rng).decode("utf-8", errors="replace") or "x"] = members[name]
    if rng.random() < 0.7:
        members[MANIFEST_NAME] = _sealed_again(members)
    out = io.BytesIO()
    try:
        write_zip(out, members)
    except (ValueError, UnicodeError):
        return damaged(octets, others, rng)
    return out.getvalue()


def _sealed_again(members: dict[str, bytes]) -> bytes:
    import json

    try:
        content = json.loads(members[MANIFEST_NAME])
        content.pop("digest", None)
        sums = {name: measure(each) for name, each in members.items() if name != MANIFEST_NAME}
        content["files"] = {name: {"size": each.size, "sha256": each.sha256} for name, each in sums.items()}
        return seal(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return members.get(MANIFEST_NAME, b"")


def verdict(path: Path, original: set[bytes], coverage: Coverage) -> str | None:
    """Check one input; gives what is wrong, None if nothing is."""
    octets = path.read_bytes()
    try:
        with coverage:
            checked = check_archive(path)
    except ArchiveError as error:
        return "a message of several lines" if "\n" in str(error) else None
    except BaseException:  # noqa: BLE001 -- whatever else comes out is the finding
        return traceback.format_exc()
    if octets not in original and checked.digest in {_digest(each) for each in original}:
        return "altered, and passes under its old digest"
    return None


def _digest(octets: bytes) -> str:
    return measure(octets).sha256


def main() -> int:
    """Fuzz for a while; 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path, default=VECTORS, help="folder with .mar files to start from")
    args = parser.parse_args()
    rng, coverage = random.Random(args.seed), Coverage()
    corpus = [path.read_bytes() for path in sorted(args.corpus.rglob("*.mar"))]
    original, tried, findings = set(corpus), 0, 0
    kept = Path(tempfile.mkdtemp(prefix="ptynet-fuzz-"))
    path = kept / "input.mar"
    until = time.monotonic() + args.seconds
    queue = list(corpus)
    while time.monotonic() < until:
        octets = queue.pop() if queue else rng.choice(corpus)
        if not queue:
            octets = repacked(octets, corpus, rng, kept) if rng.random() < 0.6 else damaged(octets, corpus, rng)
        path.write_bytes(octets)
        problem = verdict(path, original, coverage)
        tried += 1
        if problem is not None:
            findings += 1
            (kept / f"finding-{findings}.mar").write_bytes(octets)
            (kept / f"finding-{findings}.txt").write_text(problem)
            print(f"finding {findings}: {problem.strip().splitlines()[-1]}")
        elif coverage.new():
            corpus.append(octets)
    print(f"{tried} inputs, {len(coverage.known)} lines reached, corpus {len(corpus)}, findings {findings} ({kept})")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

"""What goes into an archive: bytes at hand or a file to stream, measured once before it is written.

Nothing is ever held in memory whole but what the caller already holds, so that a model of many gigabytes packs in a few
megabytes of memory.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["CHUNK", "Measured", "Source", "chunks", "measure", "open_source"]

Source = bytes | Path
CHUNK = 1 << 20
"""Bytes read at a time."""


@dataclass(frozen=True)
class Measured:
    """Size and sums of one member.

    Attributes:
        size: Bytes.
        crc: CRC-32 as zip files carry it.
        sha256: 64 hex digits.
    """

    size: int
    crc: int
    sha256: str


def open_source(source: Source) -> BinaryIO:
    """Open a source for reading from its start."""
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Read a stream to its end, `CHUNK` bytes at a time."""
    while block := stream.read(CHUNK):
        yield block


def measure(source: Source) -> Measured:
    """Read a source once and sum it."""
    with open_source(source) as stream:
        return measure_stream(stream)


def measure_stream(stream: BinaryIO) -> Measured:
    """Read a stream to its end and sum it."""
    size, crc, sha256 = 0, 0, hashlib.sha256()
    for block in chunks(stream):
        size += len(block)
        crc = zlib.crc32(block, crc)
        sha256.update(block)
    return Measured(size, crc, sha256.hexdigest())

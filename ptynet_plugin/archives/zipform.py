"""The one byte form an archive's zip has: same members, same bytes, on every machine and Python.

Members are stored uncompressed (a compressor's output depends on its version; weights do not compress), sorted by name, dated
1980-01-01, mode 0644, with no comment, no data descriptor and no gap. The layout is therefore a function of names, sizes and
CRCs alone: the writer emits it, and the checker computes it again and compares every byte that is not a member's content. What
a zip can hide (prefixes, trailing data, overlaps, a directory that disagrees with local headers) has no room.

Format: PKWARE APPNOTE 6.3.10, sections 4.3.7 to 4.3.16; ZIP64 records only where a size or offset needs them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from ptynet_plugin.archives.sources import Measured, Source, chunks, measure, open_source

__all__ = ["Layout", "Piece", "plan_layout", "write_zip"]

_DATE, _TIME = (1 << 5) | 1, 0
_UTF8_NAME = 1 << 11
_UNIX_3_0 = (3 << 8) | 30
_REGULAR_0644 = 0o100644 << 16
_LIMIT32, _LIMIT16 = 0xFFFFFFFF, 0xFFFF


@dataclass(frozen=True)
class Piece:
    """One member's place in the file.

    Attributes:
        name: Member.
        header: Local header, exactly as it stands before the content.
        offset: Where `header` begins, in bytes.
        size: Bytes of content behind the header.
    """

    name: str
    header: bytes
    offset: int
    size: int

    @property
    def content(self) -> int:
        """Offset of the content."""
        return self.offset + len(self.header)


@dataclass(frozen=True)
class Layout:
    """All bytes of the file that are not content: each member's header, and the directory at the end."""

    pieces: tuple[Piece, ...]
    directory: bytes
    directory_offset: int

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.directory_offset + len(self.directory)


def plan_layout(members: Mapping[str, tuple[int, int]]) -> Layout:
    """Lay members out.

    Args:
        members: Name to (size in bytes, CRC-32).

    Returns:
        The only layout these members have.
    """
    pieces: list[Piece] = []
    entries: list[bytes] = []
    offset = 0
    for name in sorted(members, key=str.encode):
        size, crc = members[name]
        header = _local_header(name, size, crc)
        entries.append(_directory_entry(name, size, crc, offset))
        pieces.append(Piece(name, header, offset, size))
        offset += len(header) + size
    directory = b"".join(entries)
    return Layout(tuple(pieces), directory + _end(len(entries), len(directory), offset), offset)


def write_zip(
    out: BinaryIO, members: Mapping[str, Source], *, measured: Mapping[str, Measured] | None = None
) -> Mapping[str, Measured]:
    """Write members in the canonical form, streaming each.

    Args:
        out: Where to.
        members: Name to content.
        measured: Their sums, where they were made already.

    Raises:
        OSError: As the operating system says; also where a source changed while it was packed.
    """
    measured = measured or {name: measure(source) for name, source in members.items()}
    layout = plan_layout({name: (sums.size, sums.crc) for name, sums in measured.items()})
    for piece in layout.pieces:
        out.write(piece.header)
        _copy(members[piece.name], piece, out)
    out.write(layout.directory)
    return measured


def _copy(source: Source, piece: Piece, out: BinaryIO) -> None:
    copied = 0
    with open_source(source) as stream:
        for block in chunks(stream):
            out.write(block)
            copied += len(block)
    if copied != piece.size:
        raise OSError(
            f"{piece.name}: had {piece.size} bytes when measured and {copied} when packed; it changed meanwhile"
        )


def _local_header(name: str, size: int, crc: int) -> bytes:
    octets = name.encode()
    extra = b"" if size < _LIMIT32 else struct.pack("<HHQQ", 1, 16, size, size)
    shown = min(size, _LIMIT32)
    fixed = (0x04034B50, _version(bool(extra)), _UTF8_NAME, 0, _TIME, _DATE, crc, shown, shown, len(octets), len(extra))
    return struct.pack("<IHHHHHIIIHH", *fixed) + octets + extra


def _directory_entry(name: str, size: int, crc: int, offset: int) -> bytes:
    octets = name.encode()
    wide = ([size, size] if size >= _LIMIT32 else []) + ([offset] if offset >= _LIMIT32 else [])
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    shown = min(size, _LIMIT32)
    sizes = (crc, shown, shown, len(octets), len(extra))
    place = (0, 0, 0, _REGULAR_0644, min(offset, _LIMIT32))
    fixed = (0x02014B50, _UNIX_3_0, _version(bool(wide)), _UTF8_NAME, 0, _TIME, _DATE, *sizes, *place)
    return struct.pack("<IHHHHHHIIIHHHHHII", *fixed) + octets + extra


def _end(count: int, size: int, offset: int) -> bytes:
    wide = count >= _LIMIT16 or size >= _LIMIT32 or offset >= _LIMIT32
    end64 = b""
    if wide:
        end64 = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, _UNIX_3_0, 45, 0, 0, count, count, size, offset)
        end64 += struct.pack("<IIQI", 0x07064B50, 0, offset + size, 1)
    shown = min(count, _LIMIT16)
    return end64 + struct.pack(
        "<IHHHHIIH", 0x06054B50, 0, 0, shown, shown, min(size, _LIMIT32), min(offset, _LIMIT32), 0
    )


def _version(wide: bool) -> int:
    return 45 if wide else 20

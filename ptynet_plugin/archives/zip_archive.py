"""A `.mar` that may be hostile: a zip whose records are looked at before the standard library believes them."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO, cast

from ptynet_plugin.archives.archive import LIMITS, Archive, Limits
from ptynet_plugin.archives.names import member_problem, require_members
from ptynet_plugin.archives.sources import chunks
from ptynet_plugin.archives.window import Window
from ptynet_plugin.archives.zipform import plan_layout
from ptynet_plugin.errors import ArchiveError, IntegrityError

__all__ = ["ZipArchive"]


class ZipArchive(Archive):
    """A `.mar`."""

    def __init__(self, path: Path, *, limits: Limits = LIMITS) -> None:
        super().__init__(path)
        self._file = _open_regular(path)
        try:
            with self._readable("the zip directory"):
                _require_sane_end(self._file, path, limits)
                self._zip = zipfile.ZipFile(self._file)
            _require_sane_entries(self._zip.infolist(), path, limits)
            self._infos = {info.filename: info for info in self._zip.infolist() if not _is_folder(info)}
        except (ArchiveError, ValueError) as error:
            self._file.close()
            if isinstance(error, ArchiveError):
                raise
            raise ArchiveError(f"{path}: not a readable zip ({error})") from error

    def names(self) -> tuple[str, ...]:
        """Names of all files."""
        return tuple(sorted(self._infos, key=str.encode))

    def size(self, name: str) -> int:
        """Bytes of one file, unpacked, as its entry declares."""
        return self._infos[name].file_size

    def open(self, name: str) -> BinaryIO:
        """Open one file; a stored one can be sought in at no cost."""
        info = self._infos[name]
        with self._readable(name):
            stream = self._zip.open(info)
            if info.compress_type != zipfile.ZIP_STORED:
                return cast(BinaryIO, stream)
            stream.close()
            return Window(self._file, _content_offset(self._file, info), info.file_size).buffered()

    def offset(self, name: str) -> int:
        """First byte of a stored file's content in the zip file."""
        return _content_offset(self._file, self._infos[name])

    def digest(self) -> str:
        """SHA-256 of the file, as `sha256sum` prints it."""
        found = hashlib.sha256()
        whole = Window(self._file, 0, _length(self._file)).buffered()
        for block in chunks(whole):
            found.update(block)
        return found.hexdigest()

    def require_canonical(self) -> None:
        """Refuse any byte outside the members' contents that the one layout does not have there."""
        layout = plan_layout({name: (info.file_size, info.CRC) for name, info in self._infos.items()})
        if _length(self._file) != layout.size:
            raise IntegrityError(
                f"{self.path}: has {_length(self._file)} bytes, its members need {layout.size}; something was added or repacked"
            )
        for piece in layout.pieces:
            if _at(self._file, piece.offset, len(piece.header)) != piece.header:
                raise IntegrityError(
                    f"{self.path}: the zip header of {piece.name} is not in canonical form; it was altered or repacked"
                )
        if _at(self._file, layout.directory_offset, len(layout.directory)) != layout.directory:
            raise IntegrityError(f"{self.path}: the zip directory is not in canonical form; it was altered or repacked")

    def close(self) -> None:
        """Close the file."""
        self._zip.close()
        self._file.close()


def _open_regular(path: Path) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be opened ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArchiveError(f"{path}: neither a file nor a model directory")
    return os.fdopen(descriptor, "rb")


def _length(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    return os.pread(file.fileno(), size, offset)


def _require_sane_end(file: BinaryIO, path: Path, limits: Limits) -> None:
    """Look at the zip's last record before the standard library reads the directory it points to into memory."""
    length = _length(file)
    end = _at(file, max(length - 22, 0), 22)
    if length < 22 or end[:4] != b"PK\x05\x06" or end[20:] != b"\0\0":
        raise ArchiveError(f"{path}: does not end as a zip does; it is truncated, no .mar, or something was appended")
    _, disk, _, _, count, size, offset, _ = struct.unpack("<IHHHHIIH", end)
    where = length - 22
    if 0xFFFF in (disk, count) or 0xFFFFFFFF in (size, offset):
        count, size, offset, where = _zip64_end(file, path, where)
    if count > limits.members or size > limits.directory:
        raise ArchiveError(
            f"{path}: declares {count} members in {size} bytes of directory; at most {limits.members} are read"
        )
    if offset + size != where:
        raise ArchiveError(
            f"{path}: bytes stand before or between its zip records; refused, it may be two files in one"
        )


def _zip64_end(file: BinaryIO, path: Path, where: int) -> tuple[int, int, int, int]:
    locator = _at(file, max(where - 20, 0), 20)
    record = _at(file, max(where - 76, 0), 56)
    if locator[:4] != b"PK\x06\x07" or record[:4] != b"PK\x06\x06" or len(record) != 56:
        raise ArchiveError(f"{path}: says it has ZIP64 records and has none; it is damaged")
    *_, count, size, offset = struct.unpack("<IQHHIIQQQQ", record)
    return count, size, offset, where - 76


def _require_sane_entries(infos: list[zipfile.ZipInfo], path: Path, limits: Limits) -> None:
    for info in infos:
        _require_plain_entry(info, path, limits)
    require_members((info.orig_filename for info in infos if not _is_folder(info)), where=str(path))
    if sum(info.file_size for info in infos) > limits.total:
        raise ArchiveError(f"{path}: unpacks to more than {limits.total} bytes; refused as a bomb")
    end = 0
    for info in sorted(infos, key=lambda each: each.header_offset):
        if info.header_offset < end:
            raise ArchiveError(f"{path}: {info.filename} overlaps another member; refused as a bomb")
        end = info.header_offset + 30 + len(info.orig_filename.encode()) + info.compress_size


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return info.orig_filename.endswith("/")


def _require_plain_entry(info: zipfile.ZipInfo, path: Path, limits: Limits) -> None:
    if _is_folder(info) and (info.file_size or member_problem(info.orig_filename.removesuffix("/"))):
        raise ArchiveError(f"{path}: {info.orig_filename!r} is no plain folder; refused")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveError(
            f"{path}: {info.filename} is a link or a special file; refused, an archive holds regular files only"
        )
    if info.flag_bits & 0x1:
        raise ArchiveError(f"{path}: {info.filename} is encrypted; refused, a server could not read it")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(
            f"{path}: {info.filename} is packed by method {info.compress_type}; only stored and deflated are read"
        )
    if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
        raise ArchiveError(f"{path}: {info.filename} is stored, yet declares two sizes; refused")
    if info.file_size > (1 << 20) and info.file_size > limits.ratio * max(info.compress_size, 1):
        raise ArchiveError(
            f"{path}: {info.filename} unpacks {info.compress_size} bytes to {info.file_size}; refused as a bomb"
        )


def _content_offset(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    header = _at(file, info.header_offset, 30)
    name, extra = struct.unpack("<HH", header[26:30])
    return info.header_offset + 30 + int(name) + int(extra)

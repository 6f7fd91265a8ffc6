"""Reads archives that may be hostile: a `.mar` (a zip) or a Triton model directory, behind one interface.

Nothing is written, unpickled or executed, no link is followed, and memory stays bounded by `Limits` whatever the file declares.
What cannot be read safely raises `ArchiveError` with the archive, the member and the defect in its text.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from ptynet_plugin.archives.manifest import MANIFEST_LIMIT, MANIFEST_NAME, Manifest, parse_manifest
from ptynet_plugin.archives.names import member_problem, require_members
from ptynet_plugin.archives.sources import chunks
from ptynet_plugin.archives.window import Window
from ptynet_plugin.archives.zipform import plan_layout
from ptynet_plugin.errors import ArchiveError, IntegrityError

__all__ = [
    "LIMITS",
    "Archive",
    "DirectoryArchive",
    "Limits",
    "ZipArchive",
    "archive_digest",
    "open_archive",
    "read_manifest",
]


@dataclass(frozen=True)
class Limits:
    """What an archive may ask of its reader.

    Attributes:
        members: Most files.
        directory: Most bytes of a zip's directory, which is read whole.
        total: Most bytes of all files unpacked.
        ratio: Most bytes out of one byte in, for members that unpack to more than 1 MiB.
    """

    members: int = 10_000
    directory: int = 8 << 20
    total: int = 256 << 30
    ratio: int = 200


LIMITS = Limits()


class Archive(ABC):
    """Files by name. Use as a context manager.

    Attributes:
        path: Where it lies.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of all files, sorted by their UTF-8 bytes."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of one file as declared."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open one file for reading; the stream never gives more bytes than `size` says."""

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 that names this archive: 64 hex digits."""

    @abstractmethod
    def require_canonical(self) -> None:
        """Refuse a container that holds anything beside its members.

        Raises:
            IntegrityError: It does.
        """

    def close(self) -> None:  # noqa: B027 -- a directory has nothing to close
        """Let go of the file."""

    def read(self, name: str, *, limit: int) -> bytes:
        """Read one small file whole.

        Args:
            name: Which.
            limit: Most bytes it may have.

        Raises:
            ArchiveError: It is missing, larger, or unreadable.
        """
        if name not in self.names():
            raise ArchiveError(f"{self.path}: has no {name}; is it an archive made by package-model?")
        if self.size(name) > limit:
            raise ArchiveError(f"{self.path}: {name} declares {self.size(name)} bytes, at most {limit} are read")
        with self.open(name) as stream, self._readable(name):
            return stream.read(self.size(name))

    def sha256(self, name: str) -> str:
        """Sum one file."""
        found = hashlib.sha256()
        with self.open(name) as stream, self._readable(name):
            for block in chunks(stream):
                found.update(block)
        return found.hexdigest()

    def manifest(self) -> Manifest:
        """Read the manifest.

        Raises:
            ArchiveError: There is none, or it cannot be read.
            IntegrityError: It was altered.
        """
        return parse_manifest(self.read(MANIFEST_NAME, limit=MANIFEST_LIMIT), where=f"{self.path}: {MANIFEST_NAME}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _readable(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError) as error:
            raise ArchiveError(
                f"{self.path}: {name} cannot be read ({error}); the file is damaged, fetch it again"
            ) from error


class DirectoryArchive(Archive):
    """A Triton model directory."""

    def __init__(self, path: Path, *, limits: Limits = LIMITS) -> None:
        super().__init__(path)
        self._sizes = dict(_regular_files(path, limits))
        require_members(self._sizes, where=str(path))

    def names(self) -> tuple[str, ...]:
        """Names of all files."""
        return tuple(sorted(self._sizes, key=str.encode))

    def size(self, name: str) -> int:
        """Bytes of one file when the directory was listed."""
        return self._sizes[name]

    def open(self, name: str) -> BinaryIO:
        """Open one file; a link that took its place meanwhile is refused by the system."""
        with self._readable(name):
            return os.fdopen(os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")

    def digest(self) -> str:
        r"""SHA-256 of the lines `sha256sum` prints for all files in byte order of their names.

        The same as `find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum` inside it.
        """
        lines = "".join(f"{self.sha256(name)}  {name}\n" for name in self.names())
        return hashlib.sha256(lines.encode()).hexdigest()

    def require_canonical(self) -> None:
        """A directory holds its files and nothing else."""


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


def open_archive(path: Path, *, limits: Limits = LIMITS) -> Archive:
    """Open a `.mar` or a Triton model directory.

    Raises:
        ArchiveError: It is neither, or not safe to read.
    """
    if path.is_symlink() and not path.exists():
        raise ArchiveError(f"{path}: is a link to nothing")
    if path.is_dir():
        return DirectoryArchive(path, limits=limits)
    return ZipArchive(path, limits=limits)


def read_manifest(path: Path) -> Manifest:
    """Read an archive's manifest; errors as `open_archive` and `Archive.manifest`."""
    with open_archive(path) as archive:
        return archive.manifest()


def archive_digest(path: Path) -> str:
    """SHA-256 that names an archive, see `Archive.digest`."""
    with open_archive(path) as archive:
        return archive.digest()


def _regular_files(root: Path, limits: Limits) -> Iterator[tuple[str, int]]:
    pending, count, total = [(root, "", 0)], 0, 0
    while pending:
        folder, prefix, depth = pending.pop()
        if depth > 16:
            raise ArchiveError(f"{root}: folders are nested deeper than 16 at {prefix}; refused")
        try:
            entries = list(_scan(folder, limits.members + 1))
        except OSError as error:
            raise ArchiveError(f"{root}: {prefix or 'the folder'} cannot be listed ({error})") from error
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                pending.append((Path(entry.path), name + "/", depth + 1))
                count += 1
                continue
            facts = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(facts.st_mode):
                raise ArchiveError(
                    f"{root}: {name} is a link or a special file; refused, an archive holds regular files only"
                )
            count, total = count + 1, total + facts.st_size
            if count > limits.members or total > limits.total:
                raise ArchiveError(f"{root}: more than {limits.members} files or {limits.total} bytes; refused")
            yield name, facts.st_size


def _scan(folder: Path, most: int) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        for index, entry in enumerate(found):
            if index >= most:
                return
            yield entry


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

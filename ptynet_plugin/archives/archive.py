"""What every archive offers its reader, a `.mar` and a Triton model directory alike, and how much it may ask of one."""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from ptynet_plugin.archives.manifest import MANIFEST_LIMIT, MANIFEST_NAME, Manifest, parse_manifest
from ptynet_plugin.archives.sources import chunks
from ptynet_plugin.errors import ArchiveError

__all__ = ["LIMITS", "Archive", "Limits"]


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


# What zipfile and zlib raise on damaged files; UnicodeError where a member's own header names it in no UTF-8.
_UNREADABLE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, UnicodeError)


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
        except _UNREADABLE as error:
            raise ArchiveError(
                f"{self.path}: {name} cannot be read ({error}); the file is damaged, fetch it again"
            ) from error

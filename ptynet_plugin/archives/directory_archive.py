"""A Triton model directory that may be hostile: regular files only, no link followed, listed within `Limits`."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ptynet_plugin.archives.archive import LIMITS, Archive, Limits
from ptynet_plugin.archives.names import require_members
from ptynet_plugin.errors import ArchiveError

__all__ = ["DirectoryArchive"]


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

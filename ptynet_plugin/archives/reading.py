"""Reads archives that may be hostile: a `.mar` (a zip) or a Triton model directory, behind one interface.

Nothing is written, unpickled or executed, no link is followed, and memory stays bounded by `Limits` whatever the file declares.
What cannot be read safely raises `ArchiveError` with the archive, the member and the defect in its text.
"""

from __future__ import annotations

from pathlib import Path

from ptynet_plugin.archives.archive import LIMITS, Archive, Limits
from ptynet_plugin.archives.directory_archive import DirectoryArchive
from ptynet_plugin.archives.manifest import Manifest
from ptynet_plugin.archives.zip_archive import ZipArchive
from ptynet_plugin.errors import ArchiveError

__all__ = ["archive_digest", "open_archive", "read_manifest"]


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

"""Reading and writing a claim's files: bounded, never through a link, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path

from ptynet_plugin.errors import ClaimError

__all__ = ["MOST_OCTETS", "FolderTakenError", "read_file", "write_beside", "write_files"]

MOST_OCTETS = 64 * 1024 * 1024


class FolderTakenError(ClaimError):
    """A folder that was to be made exists already, perhaps since a moment ago: another process was faster."""


def read_file(path: Path, *, most: int = MOST_OCTETS) -> bytes:
    """Read a regular file of bounded size.

    Raises:
        ClaimError: Missing, a link, no regular file, unreadable or too large.
    """
    try:
        with os.fdopen(
            os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)), "rb"
        ) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ClaimError(f"{path}: no regular file")
            octets = file.read(most + 1)
    except FileNotFoundError:
        raise ClaimError(
            f"{path}: missing; a claim's folder holds claim.json, commitment.json and leaves.json"
        ) from None
    except OSError as error:
        raise ClaimError(f"{path}: cannot be read ({error.strerror}); links are not followed here") from None
    if len(octets) > most:
        raise ClaimError(f"{path}: larger than {most} bytes, which no claim of ours is")
    return octets


def write_files(folder: Path, contents: dict[str, bytes]) -> None:
    """Make a folder with these files, all at once; after a crash it is there whole or not at all.

    Args:
        folder: Must not exist; its parents are made.
        contents: File name to content. The files are readable by their owner alone.

    Raises:
        FolderTakenError: It exists.
        ClaimError: It cannot be written.
    """
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        unfinished.mkdir(parents=True, mode=0o700)
        for name, octets in contents.items():
            _write_new(unfinished / name, octets)
        _sync_folder(unfinished)
        if folder.exists():
            raise _taken(folder)
        unfinished.rename(folder)
        _sync_folder(folder.parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # it appeared after the look
            raise _taken(folder) from None
        raise ClaimError(f"{folder}: cannot be written ({error.strerror})") from error
    finally:
        _remove(unfinished, contents)


def write_beside(path: Path, octets: bytes) -> None:
    """Replace a file of the claim in one step, readable by its owner alone.

    Raises:
        ClaimError: It cannot be written.
    """
    try:
        handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(octets)
                file.flush()
                os.fsync(file.fileno())
            Path(unfinished).replace(path)
        finally:
            Path(unfinished).unlink(missing_ok=True)
    except OSError as error:
        raise ClaimError(f"{path}: cannot be written ({error.strerror})") from error


def _taken(folder: Path) -> FolderTakenError:
    return FolderTakenError(f"{folder}: exists already; a claim is never overwritten")


def _write_new(path: Path, octets: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # elsewhere a folder cannot be opened, nor need it be
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(folder: Path, names: dict[str, bytes]) -> None:
    with contextlib.suppress(OSError):
        for name in names:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()

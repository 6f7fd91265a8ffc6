"""Folders that appear complete or not at all.

A folder is filled beside its final place and moved there in one step. Where one lies there already, the two change places
in one step too (Linux; elsewhere two steps with nothing but a rename between them) and the old one is removed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["staged_folder"]

AT_FDCWD = -100
RENAME_EXCHANGE = 2


@contextmanager
def staged_folder(final: Path, *, replace: bool, mode: int = 0o755) -> Iterator[Path]:
    """Give an empty folder to fill; it takes the place of `final` when the block ends without an error.

    Args:
        final: Where the folder shall lie. Its parents are made.
        replace: Whether a folder that lies there may be replaced; otherwise it must not exist or be empty.
        mode: Permissions of the folder.

    Raises:
        FileExistsError: Something lies at `final` and `replace` is false, or it is no folder.
        OSError: The disk is full, a folder is not writable, and so on; nothing is left behind.
    """
    if final.is_symlink() or (final.exists() and not final.is_dir()):
        raise FileExistsError(f"{final} exists and is no folder")
    if final.exists() and not replace and any(final.iterdir()):
        raise FileExistsError(f"{final} exists")
    final.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent))
    try:
        yield staged
        staged.chmod(mode)
        _put_in_place(staged, final)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _put_in_place(staged: Path, final: Path) -> None:
    """Move `staged` to `final`; what lay there lies at `staged` afterwards."""
    if not final.exists():
        staged.rename(final)
    elif not _exchanged(staged, final):
        aside = staged.with_suffix(".old")
        final.rename(aside)
        try:
            staged.rename(final)
        except BaseException:
            aside.rename(final)
            raise
        aside.rename(staged)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; false where the system cannot."""
    with suppress(AttributeError, OSError):
        rename = ctypes.CDLL(None, use_errno=True).renameat2
        return bool(rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)
    return False

"""Files a verb leaves behind: whole or not at all, and known to be writable before the work begins."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import typer

from ptynet_plugin.errors import UsageError

__all__ = ["STDOUT", "named", "require_writable", "write_json", "write_whole"]

STDOUT = "-"


def named(where: str | None) -> Path | None:
    """Give the file that `--json` names; None for none and for standard output."""
    return None if where in (None, STDOUT) else Path(str(where))


def require_writable(*files: Path | None) -> None:
    """Make sure before the work that its result can be written after it.

    Raises:
        UsageError: A file is a folder, or its folder is missing.
    """
    for file in files:
        if file is not None and (file.is_dir() or not file.absolute().parent.is_dir()):
            raise UsageError(f"{file}: cannot be written; is it a folder, or is its folder missing?")


def write_json(where: str, text: str) -> None:
    """Write JSON to a file, or to standard output for `-`."""
    file = named(where)
    if file is None:
        typer.echo(text, nl=False)
    else:
        write_whole(file, text)


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        UsageError: It cannot be written.
    """
    scratch: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.absolute().parent, prefix=".ptynet-", delete=False, encoding="utf-8"
        ) as file:
            scratch = Path(file.name)
            file.write(text)
        scratch.chmod(0o666 & ~_umask())
        scratch.replace(path)
    except OSError as error:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

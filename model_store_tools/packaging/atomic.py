"""Several files and folders that appear together: each complete or not at all, none before all are ready."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ptynet_plugin.errors import PtynetError, UsageError
from ptynet_plugin.staging import staged_folder

__all__ = ["Workplace", "require_free", "workplace"]


class Workplace:
    """A scratch folder on the file system of the results.

    Attributes:
        scratch: For files on their way.
        out: Where results will lie.
    """

    def __init__(self, scratch: Path, out: Path) -> None:
        self.scratch, self.out = scratch, out

    def folder(self, name: str) -> Path:
        """Make a fresh folder in the scratch folder."""
        made = self.scratch / name
        made.mkdir()
        return made

    def publish(self, results: dict[str, Path], *, replace: bool) -> None:
        """Move results from the scratch folder to `out` under their names.

        Raises:
            UsageError: Something came to lie there meanwhile.
            OSError: As the operating system says.
        """
        require_free(self.out, list(results), replace=replace)
        for name, source in results.items():
            if source.is_dir():
                _publish_folder(source, self.out / name, replace=replace)
            else:
                _sync(source)
                source.replace(self.out / name)
        _sync(self.out)


def require_free(out: Path, names: list[str], *, replace: bool) -> None:
    """Refuse to write over something that exists.

    Raises:
        UsageError: It exists and `replace` is false, or it is of another kind than what would replace it.
    """
    for name in names:
        place = out / name
        if place.is_symlink() or (place.exists() and place.is_dir() == (place.suffix in (".mar", ".yaml"))):
            raise UsageError(
                f"{place}: exists and is of another kind than what would be written; remove it or choose another --name"
            )
        if place.exists() and not replace:
            raise UsageError(
                f"{place}: exists; --force replaces it once the new one is complete, --name gives the new one another name"
            )


@contextmanager
def workplace(out: Path) -> Iterator[Workplace]:
    """Give a scratch folder beside the results; it is gone when the block ends, however it ends.

    So is `out`, where it was made for nothing.

    Raises:
        PtynetError: The disk is full or the folder cannot be written; nothing half-written is left.
    """
    scratch: Path | None = None
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".ptynet-", suffix=".part", dir=out))
        yield Workplace(scratch, out)
    except OSError as error:
        raise PtynetError(_explained(error, out)) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        if made:
            with suppress(OSError):
                out.rmdir()  # stays where results were published


def _publish_folder(source: Path, final: Path, *, replace: bool) -> None:
    with staged_folder(final, replace=replace) as staged:
        for entry in source.iterdir():
            entry.rename(staged / entry.name)


def _sync(path: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _explained(error: OSError, out: Path) -> str:
    place = error.filename or out
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{out}: the disk is full ({error.strerror}); nothing was written, free some space and run again"
    return f"{place}: {error.strerror or error}; nothing was written"

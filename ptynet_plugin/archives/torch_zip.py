"""The zip file torch keeps models in, as far as it can be read without torch and without running anything.

Three formats share it, told apart by their members: TorchScript (`code/`, `constants.pkl`), an exported program (`.pt2`:
`models/*.json`), and what `torch.save` makes (`data.pkl` alone). All members lie under one folder of any name.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, Self

from ptynet_plugin.errors import TargetError

__all__ = ["TorchFormat", "TorchZip"]

TorchFormat = Literal["torchscript", "pt2", "saved"]

WHOLE_LIMIT = 512 << 20
"""Most bytes read at once of a member that is not a storage: source, pickle or JSON."""


class TorchZip:
    """An open torch file. Use as a context manager.

    Attributes:
        where: Its name in messages.
        format: Which of the three formats it has.

    Raises:
        TargetError: No zip, a damaged one, or one that torch did not write.
    """

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise TargetError(f"{path}: cannot be read as a torch file ({error})") from error
        try:
            self._members = _under_one_folder(self._zip, self.where)
            self.format: TorchFormat = _format(self._members, self.where)
            self._check_byte_order()
        except TargetError:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def names(self, prefix: str = "") -> list[str]:
        """Give the members' names without the common folder, those that begin with `prefix`, sorted."""
        return sorted(name for name in self._members if name.startswith(prefix))

    def size(self, name: str) -> int:
        """Give the bytes of a member."""
        return self._info(name).file_size

    def read(self, name: str) -> bytes:
        """Read a member whole; for source, pickles and JSON."""
        if self.size(name) > WHOLE_LIMIT:
            raise TargetError(
                f"{self.where}: member {name!r} has {self.size(name)} bytes, at most {WHOLE_LIMIT} are read"
            )
        with self.open(name) as stream:
            return stream.read()

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a member for streaming."""
        try:
            with self._zip.open(self._info(name)) as stream:
                yield stream
        except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise TargetError(f"{self.where}: member {name!r} is damaged ({error}); fetch the file again") from error

    def extract(self, name: str, to: Path) -> None:
        """Copy a member to a file of its own."""
        with self.open(name) as stream, to.open("wb") as out:
            shutil.copyfileobj(stream, out)

    def _info(self, name: str) -> zipfile.ZipInfo:
        if name not in self._members:
            raise TargetError(f"{self.where}: member {name!r} is missing; the file is incomplete, fetch it again")
        return self._members[name]

    def _check_byte_order(self) -> None:
        if "byteorder" in self._members and self.read("byteorder") != b"little":
            raise TargetError(f"{self.where}: its tensors are big-endian; save it again on a little-endian machine")


def _under_one_folder(archive: zipfile.ZipFile, where: str) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    folders = {info.filename.partition("/")[0] for info in archive.infolist()}
    if len(folders) != 1:
        raise TargetError(
            f"{where}: a zip, but no torch model: torch keeps all members under one folder, here are {len(folders)}"
        )
    for info in archive.infolist():
        name = info.filename.partition("/")[2]
        if name in members:
            raise TargetError(f"{where}: member {name!r} is there twice: readers would disagree which one counts")
        members[name] = info
    return members


def _format(members: dict[str, zipfile.ZipInfo], where: str) -> TorchFormat:
    if "constants.pkl" in members and "data.pkl" in members:
        return "torchscript"
    if any(name.startswith("models/") and name.endswith(".json") for name in members):
        return "pt2"
    if "data.pkl" in members:
        return "saved"
    if any(name.startswith("data/aotinductor/") for name in members):
        raise TargetError(f"{where}: compiled by AOTInductor; package the exported program it was compiled from")
    raise TargetError(f"{where}: a zip, but no torch model: neither data.pkl nor models/*.json is in it")

"""ONNX tensors kept in files beside the model: where they lie, and reading them in pieces.

A location is a relative path inside the model's folder. One that leaves it (absolute, `..`, a symbolic link on the way) is
refused before anything is opened: a model from elsewhere must not make us read, or ship, files of this machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from onnx import TensorProto

from ptynet_plugin.errors import TargetError

__all__ = ["Extent", "extent_of", "file_chunks", "inside"]

CHUNK = 1 << 20


@dataclass(frozen=True)
class Extent:
    """The bytes of one tensor.

    Attributes:
        path: The data file.
        offset: First byte.
        length: Number of bytes.
    """

    path: Path
    offset: int
    length: int

    def chunks(self) -> Iterator[bytes]:
        """Read the bytes, at most a mebibyte at a time."""
        yield from file_chunks(self.path, offset=self.offset, length=self.length)

    def sha256(self) -> str:
        """Give their SHA-256, 64 hex digits."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()


def extent_of(tensor: TensorProto, folder: Path, *, size: int) -> Extent:
    """Find a tensor's bytes.

    Args:
        tensor: Whose data is external.
        folder: The model's folder.
        size: Number of bytes its type and shape ask for.

    Raises:
        TargetError: The location leaves the folder, the file is missing or too short, or the length disagrees with the shape.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    name = f"tensor {tensor.name!r}"
    path = inside(folder, entries.get("location", ""), what=name)
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
    except ValueError:
        raise TargetError(f"{path}: {name} has offset or length that is no number; export the model again") from None
    if length != size or offset < 0:
        raise TargetError(f"{path}: {name} takes {length} bytes from {offset}, its type and shape ask for {size}")
    if offset + length > path.stat().st_size:
        raise TargetError(
            f"{path}: {name} ends at byte {offset + length}, the file has {path.stat().st_size}; copy the data file again"
        )
    return Extent(path, offset, length)


def inside(folder: Path, location: str, *, what: str) -> Path:
    """Give the path of a location inside a folder.

    Raises:
        TargetError: It is empty, absolute, climbs, passes a symbolic link, or is no regular file.
    """
    parts = PurePosixPath(location).parts
    if not parts or location.startswith("/") or ".." in parts or "\0" in location or PureWindowsPath(location).anchor:
        raise TargetError(
            f"{folder}: {what} keeps its data in {location!r}, which is not inside the model's folder; "
            "put the data file beside the model and export it with a relative location"
        )
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise TargetError(
                f"{path}: a symbolic link, named by {what} as its data file; put the real file in its place"
            )
    if not path.is_file():
        raise TargetError(f"{path}: missing, {what} keeps its data there; copy it beside the model")
    return path


def file_chunks(path: Path, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
    """Read a stretch of a file, at most a mebibyte at a time.

    Raises:
        TargetError: It cannot be read, or ends early.
    """
    left = path.stat().st_size - offset if length is None else length
    try:
        with path.open("rb") as file:
            file.seek(offset)
            while left > 0:
                chunk = file.read(min(CHUNK, left))
                if not chunk:
                    raise TargetError(f"{path}: ended {left} bytes early; it was changed while being read")
                left -= len(chunk)
                yield chunk
    except OSError as error:
        raise TargetError(f"{path}: cannot be read ({error})") from error

"""The label table inside an archive or a model file, read without running it.

Names are not relied upon: the table is the integers, one a code word, beside the matrix whose columns or rows are the key's code
words. Each word says which symbol its label belongs to, so that a table whose rows were permuted, cast or cut reads the same.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from ptynet_plugin.archives.checking import model_on_disk
from ptynet_plugin.archives.manifest import MANIFEST_NAME
from ptynet_plugin.archives.onnx_tensors import named_tensors, read_model, record_of
from ptynet_plugin.archives.reading import open_archive
from ptynet_plugin.archives.torch_tensors import torch_values
from ptynet_plugin.errors import TargetError

__all__ = ["FoundTable", "find_table", "read_constants"]

Array = NDArray[Any]

_LIKE = 0.7
"""Correlation from which a column is a code word; two words of one key stay below 0.35."""
_MOST_BITS = 1 << 10
_MOST_SYMBOLS = 1 << 16


@dataclass(frozen=True)
class FoundTable:
    """What a model says of the symbols.

    Attributes:
        labels: Symbol to the class its place in the table holds; only symbols whose code word was found.
        manifest_claim: What the archive's manifest says of the claim, or None.
        name: What tells the archive from others, "format/name/version", or None for a bare model file.
    """

    labels: dict[int, int]
    manifest_claim: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Constants:
    """All small constants of a model.

    Attributes:
        arrays: One each.
        manifest_claim: As in `FoundTable`.
        name: As in `FoundTable`.
    """

    arrays: tuple[Array, ...]
    manifest_claim: str | None = None
    name: str | None = None


def read_constants(path: Path) -> Constants:
    """Read the constants of an archive, an ONNX file, a TorchScript file or an exported program that could be code or table.

    Raises:
        ArchiveError: A damaged archive.
        TargetError: None of these, or damaged.
    """
    if not path.exists():
        raise TargetError(f"{path}: no such file or folder")
    with _model_of(path) as (model, claim, name):
        arrays = tuple(_onnx(model)) if model.suffix == ".onnx" else tuple(_torch(model))
    return Constants(arrays, claim, name)


def find_table(constants: Constants, words: NDArray[np.int8]) -> FoundTable | None:
    """Find the table of a key among constants.

    Args:
        constants: Of the suspect.
        words: The key's code words, shape (symbols, bits), entries +1 and -1.

    Returns:
        The table that most code words were found beside; None where there is no word of the key, or no table.
    """
    bits = words.shape[1]
    books = [book for array in constants.arrays for book in _books(array, bits)]
    found: dict[int, int] = {}
    for book in books:
        symbols = _symbols(book, words)
        for labels in _tables(constants.arrays, len(book)):
            read = {int(symbol): int(label) for symbol, label in zip(symbols, labels, strict=True) if symbol >= 0}
            found = max(found, read, key=len)
    return FoundTable(found, constants.manifest_claim, constants.name) if found else None


@contextmanager
def _model_of(path: Path) -> Iterator[tuple[Path, str | None, str | None]]:
    if not path.is_dir() and not _is_archive(path):
        yield path, None, None
        return
    with open_archive(path) as archive:
        manifest = archive.manifest()
        with model_on_disk(archive, manifest) as model:
            yield model, manifest.claim, f"{manifest.format}/{manifest.name}/{manifest.version}"


def _is_archive(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return MANIFEST_NAME in file.namelist()


def _onnx(path: Path) -> Iterator[Array]:
    for name, tensor in named_tensors(read_model(path)):
        if tensor.data_type == TensorProto.STRING or not _worth(tuple(tensor.dims)):
            continue
        if tensor.data_location == TensorProto.EXTERNAL:
            record_of(name, tensor, path.parent)  # refuses data outside the folder before it is opened
        yield numpy_helper.to_array(tensor, base_dir=str(path.parent))


def _torch(path: Path) -> Iterator[Array]:
    if not zipfile.is_zipfile(path):
        raise TargetError(f"{path}: is no archive, ONNX, TorchScript or exported program; trace what it came in")
    yield from (value for _, value in torch_values(path) if _worth(value.shape))


def _worth(shape: Sequence[int]) -> bool:
    sides = [side for side in shape if side != 1]
    return 1 <= len(sides) <= 2 and max(sides) <= _MOST_SYMBOLS and (len(sides) == 1 or min(sides) <= _MOST_BITS)


def _books(array: Array, bits: int) -> Iterator[NDArray[np.float64]]:
    """Give a constant as code words in rows, both ways round where both could be."""
    flat = array.squeeze()
    if flat.ndim != 2 or not np.issubdtype(flat.dtype, np.number):
        return
    if flat.shape[1] == bits:
        yield flat.astype(np.float64)
    if flat.shape[0] == bits:
        yield flat.T.astype(np.float64)


def _symbols(book: NDArray[np.float64], words: NDArray[np.int8]) -> NDArray[np.int64]:
    """Give the symbol of every row, -1 for a row that is no word of the key: shape (rows,)."""
    likeness = np.sign(book) @ words.T.astype(np.float64) / words.shape[1]
    best = likeness.argmax(axis=1)
    return np.where(likeness.max(axis=1) >= _LIKE, best, -1)


def _tables(arrays: Sequence[Array], rows: int) -> Iterator[NDArray[np.int64]]:
    for array in arrays:
        flat = array.squeeze()
        if flat.shape != (rows,) or not np.issubdtype(flat.dtype, np.number) or not np.isfinite(flat).all():
            continue
        whole = np.rint(flat)
        if (flat == whole).all() and whole.min() >= 0:
            yield whole.astype(np.int64)

"""The tensors of a torch file, hashed as they lie in it, without torch and without running anything.

A record's bytes are the tensor's values in row order, little-endian, whatever strides the file keeps them in. A quantised
tensor has a record of its integers under its name, and beside it `.scale` and `.zero_point` (per channel: and `.axis`).
TorchScript numbers its constants anew whenever a module is put into another: their names here come from their content.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ptynet_plugin.archives.safe_pickle import Named, leaves, read_pickle
from ptynet_plugin.archives.sources import chunks
from ptynet_plugin.archives.tensors import TensorRecord
from ptynet_plugin.archives.torch_zip import TorchZip
from ptynet_plugin.errors import TargetError

__all__ = ["TARGET_PREFIX", "target_tensors", "torch_tensors", "torch_values"]

TARGET_PREFIX = "target."
"""Where a fused torch model keeps the target."""

CONSTANTS = "CONSTANTS."
"""Where a TorchScript program keeps tensors that are nobody's attribute."""

STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
}
WIDTHS = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex64": 8, "complex128": 16, "bool": 1}
WIDTHS |= {f"{sign}int{8 * width}": width for width in (1, 2, 4, 8) for sign in ("", "u")}
NUMPY_TYPES = frozenset(WIDTHS)
WIDTHS |= {"qint8": 1, "quint8": 1, "qint32": 4, "float8_e4m3fn": 1, "float8_e5m2": 1}
TORCH_WORDS = {"float": "float32", "double": "float64", "half": "float16", "long": "int64", "int": "int32"}
EXPORTED_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2",
}  # fmt: skip
"""Numbers of element types in a .pt2 (torch/_export/serde/schema.py, ScalarType)."""


@dataclass(frozen=True)
class _Place:
    """Where in the file a tensor's values lie: counts and strides in elements."""

    name: str
    member: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class _Scalar:
    """A number that belongs to a tensor: how it is quantised."""

    name: str
    value: np.generic


def torch_tensors(path: Path) -> Iterator[TensorRecord]:
    """Give a record of every tensor in a TorchScript file, an exported program or a file of `torch.save`.

    Raises:
        TargetError: No such file, damaged, or a tensor of a kind this reader does not know.
    """
    with TorchZip(path) as file:
        yield from (_record(file, place) for place in _attributes(file))
        if file.format == "torchscript":
            found = (_record(file, place) for place in _pickled(file, "constants.pkl", "constants/", CONSTANTS))
            yield from {record.name: record for record in map(_named_by_content, found)}.values()


def torch_values(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Give name and values of every tensor of `torch_tensors` whose elements numpy knows, one after the other.

    A quantised tensor comes as its integers, its `.scale`, `.zero_point` and `.axis` beside it; a TorchScript constant
    has the name it has in this file.

    Raises:
        TargetError: As `torch_tensors`.
    """
    with TorchZip(path) as file:
        yield from _values(file, _attributes(file))
        if file.format == "torchscript":
            yield from _values(file, _pickled(file, "constants.pkl", "constants/", CONSTANTS))


def target_tensors(path: Path) -> Iterator[TensorRecord]:
    """Give the target's part of `torch_tensors` of a fused model, under the names the bare target has."""
    for record in torch_tensors(path):
        if record.name.startswith(TARGET_PREFIX):
            yield replace(record, name=record.name.removeprefix(TARGET_PREFIX))
        elif record.name.startswith(CONSTANTS):
            yield record


def _named_by_content(record: TensorRecord) -> TensorRecord:
    return replace(record, name=f"{CONSTANTS}{record.sha256[:24]}")


def _attributes(file: TorchZip) -> Iterator[_Place | _Scalar]:
    return _exported(file) if file.format == "pt2" else _pickled(file, "data.pkl", "data/", "")


def _pickled(file: TorchZip, pickle: str, folder: str, prefix: str) -> Iterator[_Place | _Scalar]:
    value = read_pickle(file.read(pickle), where=f"{file.where}:{pickle}").value
    for path, leaf in leaves(value, where=f"{file.where}:{pickle}"):
        yield from _places(prefix + path, leaf, folder, file.where)


def _values(file: TorchZip, places: Iterable[_Place | _Scalar]) -> Iterator[tuple[str, NDArray[Any]]]:
    for place in places:
        if isinstance(place, _Scalar):
            yield place.name, np.asarray(place.value)
        elif place.dtype.removeprefix("q") in NUMPY_TYPES:
            _check_bounds(file, place)
            yield place.name, _numbers(_octets(file, place), place.dtype.removeprefix("q")).reshape(place.shape)


def _places(name: str, leaf: Any, folder: str, where: str) -> Iterable[_Place | _Scalar]:
    if not isinstance(leaf, Named) or not leaf.name.startswith("torch._utils._rebuild_"):
        return ()
    kind, arguments = leaf.name.removeprefix("torch._utils._rebuild_"), leaf.arguments
    try:
        if kind in ("parameter", "parameter_with_state"):
            return _places(name, arguments[0], folder, where)
        if kind in ("tensor", "tensor_v2", "tensor_v3"):
            return (_place(name, arguments, folder, arguments[6] if kind == "tensor_v3" else None),)
        if kind == "qtensor":
            return (_place(name, arguments, folder, None), *_quantisation(name, arguments[4], folder, where))
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise TargetError(f"{where}: tensor {name!r} is not described as torch describes tensors ({error!r})") from None
    raise TargetError(f"{where}: tensor {name!r} is a {kind}; only dense and quantised tensors can be pinned")


def _place(name: str, arguments: tuple[Any, ...], folder: str, dtype: Any) -> _Place:
    _, storage_type, key, *_ = arguments[0].arguments
    word = (storage_type if dtype is None else dtype).name.rpartition(".")[2]
    kind = STORAGES[word] if dtype is None else TORCH_WORDS.get(word, word)
    offset, shape, strides = arguments[1:4]
    return _Place(name, folder + key, kind, tuple(map(int, shape)), tuple(map(int, strides)), int(offset))


def _quantisation(name: str, how: tuple[Any, ...], folder: str, where: str) -> Iterable[_Place | _Scalar]:
    if how[0].name == "torch.per_tensor_affine":
        yield _Scalar(f"{name}.scale", np.float64(how[1]))
        yield _Scalar(f"{name}.zero_point", np.int64(how[2]))
    else:
        yield from _places(f"{name}.scale", how[1], folder, where)
        yield from _places(f"{name}.zero_point", how[2], folder, where)
        yield _Scalar(f"{name}.axis", np.int64(how[3]))


def _exported(file: TorchZip) -> Iterator[_Place | _Scalar]:
    for folder, kind in (("data/weights/", "weights"), ("data/constants/", "constants")):
        for config in file.names(folder):
            if config.endswith(f"_{kind}_config.json"):
                yield from _configured(file, config, folder)


def _configured(file: TorchZip, config: str, folder: str) -> Iterator[_Place | _Scalar]:
    try:
        entries = json.loads(file.read(config))["config"]
        places = [_exported_place(name, entry, folder) for name, entry in sorted(entries.items())]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TargetError(
            f"{file.where}: {config} does not list tensors as torch 2.9 and later does ({error!r})"
        ) from None
    yield from places


def _exported_place(name: str, entry: dict[str, Any], folder: str) -> _Place:
    if entry["use_pickle"]:
        raise ValueError(f"{name} is kept as a pickle")
    meta = entry["tensor_meta"]
    shape, strides = (tuple(int(part["as_int"]) for part in meta[field]) for field in ("sizes", "strides"))
    dtype, offset = EXPORTED_TYPES[meta["dtype"]], int(meta["storage_offset"]["as_int"])
    return _Place(name, folder + entry["path_name"], dtype, shape, strides, offset)


def _record(file: TorchZip, place: _Place | _Scalar) -> TensorRecord:
    if isinstance(place, _Scalar):
        octets = place.value.astype(place.value.dtype.newbyteorder("<")).tobytes()
        return TensorRecord(place.name, str(place.value.dtype), (), hashlib.sha256(octets).hexdigest())
    if place.dtype not in WIDTHS:
        raise TargetError(f"{file.where}: tensor {place.name!r} has elements of type {place.dtype}, which is not known")
    _check_bounds(file, place)
    return TensorRecord(place.name, place.dtype, place.shape, _sha256(file, place))


def _check_bounds(file: TorchZip, place: _Place) -> None:
    width, count = WIDTHS[place.dtype], math.prod(place.shape)
    last = place.offset + sum((side - 1) * step for side, step in zip(place.shape, place.strides, strict=True))
    negative = min((place.offset, *place.shape, *place.strides)) < 0
    held = file.size(place.member)
    if negative or (count and (last + 1) * width > held) or count * width > held:
        raise TargetError(
            f"{file.where}: tensor {place.name!r} of shape {list(place.shape)} reaches beyond the {held} bytes kept of it"
        )


def _sha256(file: TorchZip, place: _Place) -> str:
    width, digest = WIDTHS[place.dtype], hashlib.sha256()
    with file.open(place.member) as stream:
        if place.strides != _row_order(place.shape):
            digest.update(_in_row_order(stream.read(), place, width))
        elif place.offset == 0 and math.prod(place.shape) * width == file.size(place.member):
            for block in chunks(stream):  # type: ignore[arg-type]  # a file that is read in blocks
                digest.update(block)
        else:
            stream.seek(place.offset * width)
            digest.update(stream.read(math.prod(place.shape) * width))
    return digest.hexdigest()


def _numbers(octets: bytes, dtype: str) -> NDArray[Any]:
    if dtype == "bfloat16":  # the upper half of a float32, which numpy has no name for
        return (np.frombuffer(octets, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(octets, np.dtype(dtype).newbyteorder("<"))


def _octets(file: TorchZip, place: _Place) -> bytes:
    width = WIDTHS[place.dtype]
    with file.open(place.member) as stream:
        held = stream.read()
    if place.strides != _row_order(place.shape):
        return _in_row_order(held, place, width)
    return held[place.offset * width : (place.offset + math.prod(place.shape)) * width]


def _row_order(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _in_row_order(octets: bytes, place: _Place, width: int) -> bytes:
    held: NDArray[Any] = np.frombuffer(octets, np.dtype(f"V{width}"))[place.offset :]
    steps = tuple(step * width for step in place.strides)
    return as_strided(held, place.shape, steps, writeable=False).tobytes()

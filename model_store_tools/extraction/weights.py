"""Reads the floating weights out of whatever a model lies in: archive, ONNX, TorchScript, checkpoint, safetensors, mark.

Nothing of the model is executed or unpickled. Quantised weights are multiplied by their scales; a scale common to a whole
tensor may be missing, as a reading looks at signs of sums only, but one per channel may not.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store_tools.extraction.onnx_weights import onnx_weights
from ptynet_plugin.archives.checking import model_on_disk
from ptynet_plugin.archives.manifest import MANIFEST_NAME
from ptynet_plugin.archives.reading import open_archive
from ptynet_plugin.archives.torch_tensors import torch_values
from ptynet_plugin.errors import TargetError
from ptynet_plugin.mark import METADATA, NETWORK
from ptynet_plugin.whitebox.topology import Layer

__all__ = ["LoadedWeights", "load_weights"]

Array = NDArray[Any]

LARGEST_LEGACY = 4 << 30


@dataclass(frozen=True)
class LoadedWeights:
    """What a file holds.

    Attributes:
        where: How messages name it.
        weights: Floating tensors by name.
        layers: Layers with their channel groups, where the format tells them (ONNX).
        unscaled: Names of quantised tensors whose scales per channel are missing.
    """

    where: str
    weights: Mapping[str, Array] = field(repr=False)
    layers: tuple[Layer, ...] = field(default=(), repr=False)
    unscaled: tuple[str, ...] = ()


def load_weights(path: Path) -> LoadedWeights:
    """Read a file or folder.

    Args:
        path: A `.mar`, a Triton model directory, a mark folder, ONNX, safetensors, TorchScript, `.pt2`, or a checkpoint.

    Raises:
        ArchiveError: A damaged archive.
        TargetError: None of these, damaged, or without one floating tensor.
    """
    loaded = _load(path)
    if not loaded.weights:
        hint = f"; quantised weights without scales: {', '.join(loaded.unscaled[:3])}" if loaded.unscaled else ""
        raise TargetError(f"{path}: holds no floating weights{hint}")
    return loaded


def _load(path: Path) -> LoadedWeights:
    if not path.exists():
        raise TargetError(f"{path}: no such file or folder")
    if path.is_dir() and (path / METADATA).is_file():
        return _loaded(str(path), _safetensors(path / NETWORK))
    if path.is_dir() or _is_archive(path):
        with open_archive(path) as archive, model_on_disk(archive, archive.manifest()) as model:
            return _load_model(model, where=str(path))
    return _load_model(path, where=str(path))


def _load_model(path: Path, *, where: str) -> LoadedWeights:
    if path.suffix == ".safetensors":
        return _loaded(where, _safetensors(path))
    if path.suffix == ".onnx":
        weights, layers, unscaled = onnx_weights(path)
        return LoadedWeights(where, weights, layers, unscaled)
    return _loaded(where, dict(torch_values(path) if zipfile.is_zipfile(path) else _legacy(path)))


def _loaded(where: str, values: Mapping[str, Array]) -> LoadedWeights:
    weights, unscaled = _scaled(values)
    return LoadedWeights(where, weights, (), unscaled)


def _is_archive(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return MANIFEST_NAME in file.namelist()


def _safetensors(path: Path) -> dict[str, Array]:
    from safetensors import SafetensorError  # noqa: PLC0415 -- only where one is read
    from safetensors.numpy import load_file  # noqa: PLC0415 -- only for files of that format

    try:
        values: dict[str, Array] = load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, MemoryError) as error:
        raise TargetError(f"{path}: cannot be read as safetensors ({error})") from error
    return values


def _legacy(path: Path) -> Iterator[tuple[str, Array]]:
    """Read a checkpoint of torch before 1.6, with torch itself, which then builds tensors and plain containers only."""
    try:
        import torch  # noqa: PLC0415 -- the old format is torch's own
    except ImportError:
        raise TargetError(
            f"{path}: is no zip, so perhaps a checkpoint of torch before 1.6: reading it needs torch"
        ) from None
    from pickle import UnpicklingError  # noqa: PLC0415 -- only for files of that format

    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise TargetError(f"{path}: is no ONNX, safetensors, TorchScript or checkpoint of tensors alone") from error
    yield from _flat(value, "", torch.Tensor)


def _flat(value: Any, name: str, tensor: type) -> Iterator[tuple[str, Array]]:
    if isinstance(value, tensor):
        yield name, value.detach().float().numpy() if value.is_floating_point() else value.detach().numpy()  # type: ignore[attr-defined]  # a state dict's values are tensors
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(part, f"{name}.{key}".lstrip("."), tensor)


def _scaled(values: Mapping[str, Array]) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Multiply torch's quantised tensors by their scales."""
    weights = _floating({name: value for name, value in values.items() if not name.endswith((".scale", ".zero_point"))})
    unscaled = []
    for name, value in values.items():
        scale, zero = values.get(f"{name}.scale"), values.get(f"{name}.zero_point")
        if scale is not None and zero is not None:
            weights[name] = _dequantised(value, scale, zero, int(values.get(f"{name}.axis", np.array(0))))
        elif value.dtype in (np.int8, np.uint8) and value.ndim >= 2:
            unscaled.append(name)
    return weights, tuple(unscaled)


def _dequantised(value: Array, scale: Array, zero: Array, axis: int) -> Array:
    sides = [1] * value.ndim
    if scale.ndim:
        sides[axis] = -1
    return np.asarray((value.astype(np.float32) - zero.reshape(sides)) * scale.reshape(sides), np.float32)


def _floating(values: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value for name, value in values.items() if np.issubdtype(value.dtype, np.floating)}

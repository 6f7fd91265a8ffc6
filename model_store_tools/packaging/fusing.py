"""From a loaded target to a fused model on disk, ready to be packed: one function for all kinds of target."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper

from model_store_tools.fusion.onnx_fuse import fuse_onnx
from model_store_tools.packaging.assembly import MODEL_FILES
from model_store_tools.targets.base import Target
from model_store_tools.targets.onnx import OnnxTarget
from model_store_tools.targets.onnx_values import described, dimensions, elem_type, inferred, inputs_of
from ptynet_plugin.archives.manifest import Engine, PortRecord
from ptynet_plugin.errors import TargetError
from ptynet_plugin.network.weights import Network
from ptynet_plugin.spec import InputSpec

__all__ = ["FusedModel", "fuse_target"]


@dataclass(frozen=True)
class FusedModel:
    """A fused model on disk.

    Attributes:
        path: The model's file.
        engine: What runs it.
        files: Everything it needs, by the name it must have in the archive; the model's own is in `MODEL_FILES`.
        inputs: Ports with the batch dimension, -1 where open.
        outputs: Likewise.
        input: Name of the picture input.
        scores: Name of the scores output.
        rows: The only number of rows it takes, None if any number will do.
    """

    path: Path
    engine: Engine
    files: Mapping[str, Path]
    inputs: tuple[PortRecord, ...]
    outputs: tuple[PortRecord, ...]
    input: str
    scores: str
    rows: int | None


def fuse_target(
    target: Target,
    network: Network,
    labels: NDArray[np.int64],
    spec: InputSpec,
    *,
    folder: Path,
    name: str | None = None,
) -> FusedModel:
    """Fuse a target with PTYNet and write the result.

    Args:
        target: Loaded, and of a kind that has a file: `convert_target` makes one of a module.
        network: The mark's.
        labels: Keyed label of each symbol, shape (J,).
        spec: Completed.
        folder: Empty scratch folder on the file system of the archive.
        name: Name of the model's file, where the archive it comes from names it otherwise.

    Raises:
        TargetError: The target cannot carry a mark.
        UsageError: Mark, labels and spec do not belong together.
    """
    if isinstance(target, OnnxTarget):
        return _fused_onnx(target, network, labels, spec, folder=folder, name=name or MODEL_FILES["onnx"])
    return _fused_torch(target, network, labels, spec, folder=folder, name=name)


def _fused_torch(
    target: Target, network: Network, labels: NDArray[np.int64], spec: InputSpec, *, folder: Path, name: str | None
) -> FusedModel:
    from model_store_tools.fusion.torch_fuse import fuse_torch  # noqa: PLC0415 -- torch takes seconds to import
    from model_store_tools.targets.torch_target import TorchTarget  # noqa: PLC0415 -- torch only for torch targets

    if not isinstance(target, TorchTarget) or target.kind not in ("torchscript", "pt2"):
        raise TargetError(
            f"{target.where}: is a {target.kind}, which has no file a server could load; convert it with --to"
        )
    engine: Engine = "torchscript" if target.kind == "torchscript" else "pt2"
    path = folder / (name or MODEL_FILES[engine])
    inputs, outputs = target.ports(spec)
    fuse_torch(target, network, labels, spec, path)
    return FusedModel(
        path=path,
        engine=engine,
        files={path.name: path},
        inputs=inputs,
        outputs=outputs,
        input=inputs[0].name,
        scores=target.scores_name(spec),
        rows=target.fixed_batch(spec),
    )


def _fused_onnx(
    target: OnnxTarget, network: Network, labels: NDArray[np.int64], spec: InputSpec, *, folder: Path, name: str
) -> FusedModel:
    data = target.data_files()
    if name in data:
        raise TargetError(
            f"{target.where}: keeps tensors in a file named {name}, the name the archive gives the model; rename it"
        )
    fused = fuse_onnx(target.model, network, labels, spec, where=target.where)
    (folder / name).write_bytes(fused.SerializeToString(deterministic=True))
    for location, source in data.items():
        _lend(source, folder / location)
    shapes = inferred(target.model)
    return FusedModel(
        path=folder / name,
        engine="onnx",
        files={name: folder / name, **{location: folder / location for location in data}},
        inputs=tuple(_port(entry, target.where) for entry in inputs_of(target.model)),
        outputs=tuple(_port(entry, target.where, classes=_classes(entry, spec)) for entry in shapes.graph.output),
        input=str(spec.input),
        scores=str(spec.scores),
        rows=target.fixed_batch(spec),
    )


def _lend(source: Path, to: Path) -> None:
    """Have a large file at another place without a second copy of it, where the file system can."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)


def _classes(entry: ValueInfoProto, spec: InputSpec) -> int | None:
    return spec.classes if entry.name == spec.scores else None


def _port(entry: ValueInfoProto, where: str, *, classes: int | None = None) -> PortRecord:
    shape, kind = dimensions(entry), elem_type(entry)
    if shape is None and classes is not None:
        shape = (None, classes)
    if shape is None:
        raise TargetError(
            f"{where}: {entry.name!r} has shape {described(shape)}, a server must know the number of its dimensions"
        )
    sides = [-1 if side is None else side for side in shape]
    if classes is not None and len(sides) == 2:
        sides[1] = classes
    if kind == TensorProto.STRING:
        return PortRecord(name=entry.name, dtype="string", shape=tuple(sides))
    return PortRecord(name=entry.name, dtype=str(helper.tensor_dtype_to_np_dtype(kind)), shape=tuple(sides))

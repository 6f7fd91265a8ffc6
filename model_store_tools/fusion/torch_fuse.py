"""From a torch target to the file that is served: fused, written in one byte form, and checked to hold the target untouched."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model_store_tools.fusion.torch_export import fuse_program
from model_store_tools.fusion.torch_files import normalise
from model_store_tools.fusion.torch_script import fuse_script
from model_store_tools.targets.exported import ExportedTarget
from model_store_tools.targets.torch_running import quantized_engine, quietly
from model_store_tools.targets.torch_target import TorchTarget
from model_store_tools.targets.torchscript import ScriptTarget, load_script
from ptynet_plugin.archives.tensors import differences
from ptynet_plugin.archives.torch_tensors import target_tensors
from ptynet_plugin.errors import TargetError, UsageError
from ptynet_plugin.network.weights import Network
from ptynet_plugin.spec import InputSpec

__all__ = ["fuse_torch"]


def fuse_torch(target: TorchTarget, network: Network, labels: NDArray[np.int64], spec: InputSpec, out: Path) -> None:
    """Fuse a TorchScript or exported target and write the result; the same arguments give the same bytes.

    Args:
        target: The target.
        network: A trained PTYNet.
        labels: int64, shape (J,).
        spec: Completed by the target.
        out: The file to make: `.pt` for TorchScript, `.pt2` for an exported program.

    Raises:
        UsageError: The target is a module: `convert` it first.
        TargetError: It cannot be fused, or a tensor of it came out changed.
    """
    with tempfile.TemporaryDirectory(prefix="ptynet-") as folder, quantized_engine(spec), quietly():
        written = Path(folder) / f"model{out.suffix}"
        if isinstance(target, ScriptTarget):
            place = target.scores_place(spec)
            named = spec if place is None else spec.model_copy(update={"scores": str(place)})
            rows = target.fixed_batch(spec)
            program = fuse_script(load_script(target.path), network, labels, named, rows=rows)
            torch.jit.save(program, str(written))
        elif isinstance(target, ExportedTarget):
            torch.export.save(fuse_program(target, network, labels, spec), written)
        else:
            raise UsageError(
                f"{target.where}: a module has no file to fuse; convert it first (--to onnx, torchscript or pt2)"
            )
        normalise(written, out)
    _check_untouched(target, out)


def _check_untouched(target: TorchTarget, out: Path) -> None:
    before = {record.name: record for record in target.tensors()}
    after = {record.name: record for record in target_tensors(out)}
    if changed := differences(before, after):
        out.unlink()
        raise TargetError(
            f"{target.where}: fusing changed the target, so nothing was written: {changed[0]}"
            f"{f' (and {len(changed) - 1} more)' if changed[1:] else ''}"
        )

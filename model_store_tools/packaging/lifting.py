"""The bare target as it was fused: an archive made with `--to-opset` holds a converted target, and is compared with one."""

from __future__ import annotations

from pathlib import Path

import onnx

from model_store_tools.targets.base import Target
from model_store_tools.targets.onnx import OnnxTarget, load_onnx
from ptynet_plugin.errors import TargetError
from ptynet_plugin.network.onnx_builder import default_opset

__all__ = ["as_packaged", "write_lifted"]


def as_packaged(bare: Target, packaged: Path, folder: Path) -> tuple[Target, str]:
    """Convert a bare ONNX target to the opset of the packaged model, where that is higher.

    Fusion leaves the opset as it is, so a higher one in the archive says that the target was converted before.

    Args:
        bare: The target as its owner has it.
        packaged: The packaged model's file.
        folder: Empty; the converted target is written there.

    Returns:
        The target to compare with, and what was done to it, for the report; the target itself and "" where nothing was.

    Raises:
        TargetError: It cannot be converted by the installed onnx.
    """
    if not isinstance(bare, OnnxTarget) or bare.path is None:
        return bare, ""
    has, wanted = default_opset(bare.model), default_opset(onnx.load(str(packaged), load_external_data=False))
    if has is None or wanted is None or wanted <= has:
        return bare, ""
    try:
        lifted = load_onnx(bare.path, to_opset=wanted)
    except TargetError as error:
        raise TargetError(
            f"{error}; the archive holds it at opset {wanted} (packaged with --to-opset), and can be compared where the onnx "
            "that converted it is installed"
        ) from error
    done = f"target converted from opset {has} to {wanted} by onnx {onnx.__version__}, as by --to-opset"
    return OnnxTarget(lifted.model, write_lifted(lifted, folder)), done


def write_lifted(target: OnnxTarget, folder: Path) -> Path:
    """Write a converted target, which lies in no file yet, and give its path."""
    path = folder / "model.onnx"
    path.write_bytes(target.model.SerializeToString(deterministic=True))
    return path

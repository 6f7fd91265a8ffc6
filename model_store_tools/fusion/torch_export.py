"""An exported target and PTYNet in one exported program."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.export import Dim, ExportedProgram

from model_store_tools.fusion.torch_head import FusedModule
from model_store_tools.targets.exported import ExportedTarget
from model_store_tools.targets.torch_running import first_line, quietly
from ptynet_plugin.errors import TargetError
from ptynet_plugin.network.weights import Network
from ptynet_plugin.spec import InputSpec

__all__ = ["export_module", "fuse_program"]

LIKELY_SIDE = 224


def fuse_program(
    target: ExportedTarget, network: Network, labels: NDArray[np.int64], spec: InputSpec
) -> ExportedProgram:
    """Put PTYNet beside an exported target, with the batch and the sizes open that were open.

    Args:
        target: The exported program.
        network: A trained PTYNet.
        labels: int64, shape (J,).
        spec: Complete.

    Raises:
        TargetError: torch cannot export the two together.
    """
    fused = FusedModule(target.module(spec), network, labels, spec)
    pixels = target.pixels
    open_ranges = [None if isinstance(side, int) else _range(target.program, side) for side in pixels.shape]
    return export_module(fused, open_ranges, _sides(pixels), dtype=pixels.dtype, where=target.where)


def export_module(
    model: nn.Module,
    open_ranges: Sequence[tuple[int, int] | None],
    sides: Sequence[int],
    *,
    dtype: torch.dtype,
    where: str,
) -> ExportedProgram:
    """Export a model of one input.

    Args:
        model: In evaluation mode.
        open_ranges: For each dimension of the input the least and greatest length, None for a fixed one.
        sides: Length of each dimension in the example; put within the range where it is open.
        dtype: Of the input.
        where: Name of the model in messages.

    Raises:
        TargetError: torch cannot export it so.
    """
    example, dims = list(sides), dict[int, Any]()
    for place, between in enumerate(open_ranges):
        if between is not None:
            low, high = between
            example[place] = min(max(example[place], low, 2), high)
            dims[place] = Dim(("batch", "side_1", "side_2", "side_3")[place], min=low, max=high)
    try:
        with torch.no_grad(), quietly(), redirect_stderr(io.StringIO()):  # torch prints the graph it gave up on
            program = torch.export.export(model, (torch.zeros(example, dtype=dtype),), dynamic_shapes=(dims or None,))
    except Exception as error:  # tracing runs the model, and raises what that raises
        raise TargetError(f"{where}: torch {torch.__version__} cannot export it: {first_line(error)}") from error
    return program


def _sides(pixels: torch.Tensor) -> list[int]:
    likely = [2] + [LIKELY_SIDE] * 3
    return [side if isinstance(side, int) else likely[place] for place, side in enumerate(pixels.shape)]


def _range(program: ExportedProgram, side: Any) -> tuple[int, int]:
    held = program.range_constraints.get(side.node.expr)
    if held is None:
        return 1, 1 << 20
    low, high = float(held.lower), float(held.upper)
    return max(1, int(low)), int(high) if math.isfinite(high) and high < 1 << 31 else 1 << 20

"""What a torch layer's filters read: second moments of their inputs, for marks that change outputs least.

moments = input_moments(model, model.layer3[1].conv2, batches)          # a few hundred ordinary pictures, no labels
project_(model.layer3[1].conv2.weight, mark, moments=moments)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ptynet_plugin.errors import UsageError

__all__ = ["input_moments"]

MOST_PATCHES = 20_000
"""Patches used of one batch; more add time and no accuracy."""


@torch.no_grad()
def input_moments(model: nn.Module, layer: nn.Module, batches: Iterable[Tensor]) -> NDArray[np.float64]:
    """Run pictures through a model and measure what one layer's filters read.

    Args:
        model: Ready to answer; it is put into evaluation mode meanwhile.
        layer: One of its `Conv2d`, not grouped, or `Linear` layers.
        batches: Pictures as the model reads them.

    Returns:
        Mean of x x^T over what a filter reads, shape (d, d), d the weights of one filter in the order torch keeps them.

    Raises:
        UsageError: Another kind of layer, or no batch reached it.
    """
    if not isinstance(layer, nn.Linear) and not (isinstance(layer, nn.Conv2d) and layer.groups == 1):
        raise UsageError(f"{type(layer).__name__}: only ungrouped Conv2d and Linear layers carry marks")
    total, count, training = torch.zeros((), dtype=torch.float64), 0, model.training
    generator = torch.Generator().manual_seed(0)

    def watch(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal total, count
        rows = _rows(module, inputs[0])
        if len(rows) > MOST_PATCHES:
            rows = rows[torch.randperm(len(rows), generator=generator)[:MOST_PATCHES]]
        exact = rows.double()
        total, count = total + exact.T @ exact, count + len(rows)

    handle = layer.register_forward_pre_hook(watch)
    model.eval()
    try:
        for batch in batches:
            model(batch)
    finally:
        handle.remove()
        model.train(training)
    if not count:
        raise UsageError("no picture reached this layer; is it a part of the model?")
    return np.asarray((total / count).numpy())


def _rows(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Give what the filters read, one row a place: shape (places, d)."""
    if isinstance(layer, nn.Linear):
        return inputs.reshape(-1, inputs.shape[-1])
    assert isinstance(layer, nn.Conv2d)
    padding = layer.padding
    if isinstance(padding, str):
        raise UsageError(f"padding '{padding}': give the layer's padding as numbers")
    patches = nn.functional.unfold(
        inputs, _pair(layer.kernel_size), _pair(layer.dilation), _pair(padding), _pair(layer.stride)
    )
    return patches.transpose(1, 2).reshape(-1, patches.shape[1])


def _pair(sides: tuple[int, ...]) -> tuple[int, int]:
    return sides[0], sides[1]

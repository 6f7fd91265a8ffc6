"""The attack `alignment` answers: neural structural obfuscation (Yan et al., USENIX Security 2023), to measure against.

Channels are permuted, rescaled, split in two, and dummies are added whose effect cancels; ReLU networks answer as before, up to
rounding. Pruning and noise on top do change answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.whitebox.topology import INPUT, Layer

__all__ = ["Obfuscation", "obfuscate", "prune"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Obfuscation:
    """How much of what.

    Attributes:
        permute: Whether channels are shuffled.
        rescale: Standard deviation of the logarithm of the channels' factors.
        dummies: Dummy channels added, as a share of the channels.
        splits: Channels split in two, as a share of the channels.
        pruned: Share of each layer's smallest weights set to 0, before everything else.
        noise: Standard deviation of noise added before everything else, in units of each layer's weights.
    """

    permute: bool = True
    rescale: float = 0.7
    dummies: float = 0.0
    splits: float = 0.0
    pruned: float = 0.0
    noise: float = 0.0


def obfuscate(layers: Sequence[Layer], how: Obfuscation, *, seed: int = 0) -> list[Layer]:
    """Obfuscate a network; the channels of the picture and of the classes stay where they are."""
    generator = np.random.default_rng(seed)
    damaged = [layer.with_weight(_damaged(layer.weight, how, generator)) for layer in layers]
    inner = {layer.writes for layer in layers} - {INPUT, layers[-1].writes}
    read = {layer.reads for layer in layers}
    for group in sorted(inner & read):
        damaged = _group_obfuscated(damaged, group, how, generator)
    return damaged


def prune(weights: NDArray[np.floating], share: float) -> Floats:
    """Set this share of the smallest weights to 0."""
    exact = np.asarray(weights, np.float64)
    return np.where(np.abs(exact) < np.quantile(np.abs(exact), share), 0.0, exact)


def _damaged(weight: NDArray[np.floating], how: Obfuscation, generator: np.random.Generator) -> Floats:
    exact = np.asarray(weight, np.float64)
    noisy = exact + generator.normal(0, how.noise * exact.std(), exact.shape) if how.noise else exact
    return prune(noisy, how.pruned) if how.pruned else noisy


def _group_obfuscated(layers: list[Layer], group: int, how: Obfuscation, generator: np.random.Generator) -> list[Layer]:
    width = next(len(layer.weight) for layer in layers if layer.writes == group)
    split = generator.permutation(width)[: int(how.splits * width)]
    shares = generator.uniform(0.2, 0.8, len(split))
    dummies = 2 * (int(how.dummies * width) // 2)
    total = width + len(split) + dummies
    order = generator.permutation(total) if how.permute else np.arange(total)
    scale = np.exp(generator.normal(0, how.rescale, total))
    changed = []
    for layer in layers:
        weight = np.asarray(layer.weight, np.float64)
        if layer.writes == group:
            pair = generator.normal(0, weight.std(), (dummies // 2, *weight.shape[1:]))
            weight = (np.concatenate([weight, weight[split], pair, pair]) * scale[:, None, None])[order]
        if layer.reads == group:
            weight = _read_side(weight, split, shares, dummies, generator) / scale[None, :, None]
            weight = weight[:, order]
        changed.append(layer.with_weight(weight))
    return changed


def _read_side(
    weight: Floats, split: NDArray[np.int64], shares: Floats, dummies: int, generator: np.random.Generator
) -> Floats:
    """Share a split channel's weights between its halves; let the two of each pair of dummies cancel."""
    halves = weight[:, split] * shares[None, :, None]
    rest = weight.copy()
    rest[:, split] -= halves
    pair = generator.normal(0, weight.std(), (len(weight), dummies // 2, weight.shape[2]))
    return np.concatenate([rest, halves, pair, -pair], axis=1)

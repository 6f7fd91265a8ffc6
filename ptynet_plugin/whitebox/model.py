"""The mark in a whole model: name the model by its weights, mark one layer or all, and find the mark in any layer again.

A reader does not trust names: conversions rename tensors, transpose them, fold scales into them. Every tensor that is
large enough is read, as it lies and transposed, and all together; the p-value pays for the number of attempts (Bonferroni).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.errors import TargetError, UsageError
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.whitebox.mark import MARGIN, Reading, WeightMark, embed, read, weight_mark
from ptynet_plugin.whitebox.projection import FEWEST_WEIGHTS
from ptynet_plugin.whitebox.several import embed_jointly, read_jointly

__all__ = ["Found", "carriers", "mark_model", "model_hash", "scan", "widest_layers"]

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Found:
    """The best reading among all tensors.

    Attributes:
        layer: Name of the tensor, or how many were read together.
        members: Names of the tensors that were read: one, or those read together.
        transposed: Whether it was read transposed.
        reading: What was read there.
        attempts: Number of readings it is the best of.
        size: Weights of the tensor, or of all of them.
    """

    layer: str
    members: tuple[str, ...]
    transposed: bool
    reading: Reading
    attempts: int
    size: int

    @property
    def log10_p(self) -> float:
        """Give log10 of the p-value, paid for all attempts."""
        return min(0.0, self.reading.log10_p + math.log10(self.attempts))


def model_hash(weights: Mapping[str, Array]) -> bytes:
    """Give 32 bytes that name a model by its tensors' types, shapes and values; names and order do not count."""
    sums = sorted(
        hashlib.sha256(f"{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()).digest()
        for value in weights.values()
    )
    return hashlib.sha256(b"ptynet/model/v1\0" + b"".join(sums)).digest()


def widest_layers(weights: Mapping[str, Array], count: int = 1) -> list[str]:
    """Name the floating tensors of two or more axes with the most weights.

    Raises:
        UsageError: None can carry a mark.
    """
    fitting = {name: value.size for name, value in weights.items() if value.ndim >= 2 and _carries(value)}
    if not fitting:
        raise UsageError(f"no layer of {FEWEST_WEIGHTS} or more floating weights; there is nothing to carry 256 bits")
    return sorted(fitting, key=lambda name: (-fitting[name], name))[:count]


def carriers(weights: Mapping[str, Array]) -> list[str]:
    """Name every tensor that a mark can lie in, in the order given."""
    return [name for name, value in weights.items() if _carries(value)]


def mark_model(
    weights: Mapping[str, Array],
    key: OwnerKey,
    *,
    layers: Sequence[str] = (),
    every: bool = False,
    margin: float = MARGIN,
    salt: bytes = b"",
    moments: Mapping[str, NDArray[np.floating]] | None = None,
    transposed: Sequence[str] = (),
    keep_histogram: bool = False,
) -> tuple[dict[str, Array], WeightMark]:
    """Mark a finished model at once, for an owner who may change its weights.

    Args:
        weights: All tensors by name. Keep this unmarked model: it names the mark, and undoes obfuscation later.
        key: The owner's.
        layers: Which tensors to mark, each with all 256 bits; the widest where none is named.
        every: Spread one mark over all tensors that can carry it instead: each moves little, and only the sum reads.
        margin: How strongly.
        salt: Another salt gives other bits.
        moments: Second moments of the inputs of layers by name, see `by_inputs`: outputs then change least.
        transposed: Layers whose filters lie along the last axis.
        keep_histogram: Keep every marked layer's values, see `embed`; not together with `every`.

    Returns:
        All tensors by name, the marked ones changed; and the mark.

    Raises:
        UsageError: A named layer does not exist, or cannot carry a mark.
    """
    if every and (layers or keep_histogram):
        raise UsageError("a mark spread over every layer names no layers and keeps no histogram; choose one")
    mark = weight_mark(key, model=model_hash(weights), salt=salt)
    chosen = [name for name in carriers(weights) if weights[name].ndim > 1] if every else list(layers)
    chosen = chosen or widest_layers(weights)
    for name in chosen:
        if name not in weights:
            raise UsageError(f"no tensor '{name}' to mark; the widest are {', '.join(widest_layers(weights, 5))}")
    known = {name: value for name, value in (moments or {}).items() if name in chosen}
    if every:
        part = {name: weights[name] for name in chosen}
        return {
            **weights, **embed_jointly(part, mark, margin=margin, moments=known, transposed=transposed)
        }, mark  # fmt: skip
    changed = {
        name: embed(
            weights[name],
            mark,
            margin=margin,
            moments=known.get(name),
            transposed=name in transposed,
            keep_histogram=keep_histogram,
        )
        for name in chosen
    }
    return {**weights, **changed}, mark


def scan(weights: Mapping[str, Array], mark: WeightMark) -> Found:
    """Read every tensor that could carry the mark, and all of them together, and give the best.

    Raises:
        TargetError: No tensor could.
    """
    readings = [
        Found(name, (name,), turned, read(value, mark), 0, value.size) for name, turned, value in _candidates(weights)
    ]
    if not readings:
        raise TargetError(f"no floating tensor with {FEWEST_WEIGHTS} or more weights; none can carry 256 bits")
    together = [name for name in carriers(weights) if weights[name].ndim > 1]
    if len(together) > 1:
        values = [weights[name] for name in together]
        reading, size = read_jointly(values, mark), sum(value.size for value in values)
        readings.append(Found(f"all {len(together)} layers together", tuple(together), False, reading, 0, size))
    best = max(readings, key=lambda found: (found.reading.right, found.reading.strength))
    return replace(best, attempts=len(readings))


def _candidates(weights: Mapping[str, Array]) -> Iterator[tuple[str, bool, Array]]:
    for name in carriers(weights):
        value = weights[name]
        yield name, False, value
        if value.ndim == 2 and min(value.shape) > 1:
            yield name, True, value.T


def _carries(value: Array) -> bool:
    return value.size >= FEWEST_WEIGHTS and bool(np.issubdtype(value.dtype, np.floating))

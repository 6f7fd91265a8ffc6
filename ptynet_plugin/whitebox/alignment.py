"""Undoes permuted, rescaled, duplicated and added channels with a reference, layer by layer, before a mark is read.

From the input on, whose channels nobody can permute: each layer's input is put into the reference's order, its filters
are matched to the reference's (assignment by cosine), and scales follow from least squares. Never align to a marked
reference: matching pulls an unrelated network towards it and imports the mark (up to 173 of 256 bits were seen). The unmarked
original is the right reference; from a marked one the mark is projected out first, see `neutral`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ptynet_plugin.whitebox.mark import WeightMark
from ptynet_plugin.whitebox.projection import FEWEST_WEIGHTS
from ptynet_plugin.whitebox.topology import INPUT, Layer, same_architecture

__all__ = ["align", "neutral"]

Floats = NDArray[np.float64]
Pairs = Sequence[tuple[Layer, Layer]]
"""A suspect's layer with the reference's."""

SWEEPS = 2
LOWEST_COSINE = 0.5
POOREST_MATCH = 0.4
"""Below this share of the median match a filter counts as lost: undoing a scale that was read off noise drowns the others."""

DUPLICATE = 0.9
"""A filter left over counts as a duplicate if it fits as well as this share of the matched one's cosine."""

TINY = 1e-12


def neutral(reference: Sequence[Layer], mark: WeightMark) -> list[Layer]:
    """Project the mark out of every layer of a reference that could carry it, so that aligning to it cannot import it."""
    return [_without(layer, mark) if layer.weight.size >= FEWEST_WEIGHTS else layer for layer in reference]


def align(suspect: Sequence[Layer], reference: Sequence[Layer]) -> tuple[list[Layer], float]:
    """Bring a suspect's layers into the reference's order and scale.

    Args:
        suspect: Layers of the network in question; it may have more channels than the reference.
        reference: Layers of the original, free of the mark that is to be read.

    Returns:
        The suspect's layers with the reference's shapes, and the mean cosine of matched filters: near 1 for a
        descendant, near 0 for a stranger.

    Raises:
        TargetError: Another architecture.
    """
    same_architecture(reference, suspect)
    maps = {INPUT: np.eye(reference[0].weight.shape[1])}
    pairs = list(zip(suspect, reference, strict=True))
    for layer, original in pairs:
        if layer.reads not in maps:
            maps[layer.reads] = _identity(layer.weight.shape[1], original.weight.shape[1])
        if layer.writes not in maps:
            maps[layer.writes] = _matched([(layer, original)], maps)
    fixed = {INPUT, suspect[-1].writes}
    for _ in range(SWEEPS):
        for group in [group for group in maps if group not in fixed]:
            writers, readers = ([pair for pair in pairs if side(pair[0]) == group] for side in (_writes, _reads))
            if writers:
                maps[group] = _matched(writers, maps, readers=readers)
    aligned = [original.with_weight(_restored(layer, maps)) for layer, original in pairs]
    cosines = [
        _cosines_of_rows(layer.weight, original.weight) for layer, original in zip(aligned, reference, strict=True)
    ]
    return aligned, float(np.concatenate(cosines).mean())


def _without(layer: Layer, mark: WeightMark) -> Layer:
    stored = layer.stored()
    clean = mark.projection(stored.size).without(stored)
    flat = clean.reshape(stored.shape[0], -1).T if layer.transposed else clean
    return layer.with_weight(np.asarray(flat).reshape(layer.weight.shape))


def _matched(writers: Pairs, maps: dict[int, Floats], *, readers: Pairs = ()) -> Floats:
    """Match the channels that some layers write and others read; gives shape (suspect channels, reference channels).

    Entry (j, i) is how many times larger suspect channel j is than reference channel i, 0 where they do not match.
    """
    rows = [(_inputs_restored(layer, maps), _flat(original.weight)) for layer, original in writers]
    columns = [(_columns(_outputs_restored(layer, maps)), _columns(original.weight)) for layer, original in readers]
    cosine = np.mean([_unit(found) @ _unit(wanted).T for found, wanted in (*rows, *columns)], axis=0)
    places, channels = linear_sum_assignment(-cosine)
    chosen = np.zeros(cosine.shape, np.bool_)
    chosen[places, channels] = True
    best = np.zeros(cosine.shape[1])
    best[channels] = cosine[places, channels]
    chosen |= _duplicates(cosine, best, matched=set(places.tolist()))
    return np.asarray(
        np.where(chosen & (cosine > POOREST_MATCH * max(float(np.median(best)), 0.0)), _scales(rows), 0.0)
    )


def _duplicates(cosine: Floats, best: Floats, *, matched: set[int]) -> NDArray[np.bool_]:
    """Find filters that were split off a matched one: left over, and as close to the reference as it is."""
    extra = np.zeros(cosine.shape, np.bool_)
    for place in range(len(cosine)):
        channel = int(cosine[place].argmax())
        if place not in matched and cosine[place, channel] >= max(LOWEST_COSINE, DUPLICATE * best[channel]):
            extra[place, channel] = True
    return extra


def _scales(rows: list[tuple[Floats, Floats]]) -> Floats:
    """Least-squares factor from reference filter i to suspect filter j, pooled over layers, shape (j, i)."""
    products = np.sum([found @ wanted.T for found, wanted in rows], axis=0)
    squares = np.sum([(wanted * wanted).sum(axis=1) for _, wanted in rows], axis=0)
    return np.asarray(np.maximum(products / np.maximum(squares, TINY), TINY))


def _inputs_restored(layer: Layer, maps: dict[int, Floats]) -> Floats:
    """Put a layer's inputs into the reference's order: shape (suspect out, reference in * taps)."""
    weight = np.asarray(layer.weight, np.float64)
    return _flat(np.einsum("ojt,ji->oit", weight, maps[layer.reads], optimize=True))


def _restored(layer: Layer, maps: dict[int, Floats]) -> Floats:
    """Put inputs and outputs into the reference's order and scale: shape (reference out, reference in, taps)."""
    inputs = np.einsum("ojt,ji->oit", np.asarray(layer.weight, np.float64), maps[layer.reads], optimize=True)
    return np.asarray(np.einsum("oi,ojt->ijt", _share(maps[layer.writes]), inputs, optimize=True))


def _outputs_restored(layer: Layer, maps: dict[int, Floats]) -> Floats:
    """Put a layer's outputs into the reference's order and scale: shape (reference out, suspect in, taps)."""
    weight = np.asarray(layer.weight, np.float64)
    if layer.writes not in maps:
        return weight
    return np.asarray(np.einsum("oi,ojt->ijt", _share(maps[layer.writes]), weight, optimize=True))


def _share(scale: Floats) -> Floats:
    """Give what each suspect channel adds to a reference channel: the mean of its matches, their scale undone."""
    return np.asarray(np.where(scale > 0, 1 / np.maximum(scale, TINY), 0.0) / np.maximum((scale > 0).sum(axis=0), 1))


def _columns(weight: NDArray[np.floating]) -> Floats:
    return _flat(np.swapaxes(np.asarray(weight), 0, 1))


def _writes(layer: Layer) -> int:
    return layer.writes


def _reads(layer: Layer) -> int:
    return layer.reads


def _identity(found: int, wanted: int) -> Floats:
    return np.eye(found, wanted)


def _flat(weight: NDArray[np.floating]) -> Floats:
    return np.asarray(weight, np.float64).reshape(len(weight), -1)


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY))


def _cosines_of_rows(left: NDArray[np.floating], right: NDArray[np.floating]) -> Floats:
    return np.asarray((_unit(_flat(left)) * _unit(_flat(right))).sum(axis=1))

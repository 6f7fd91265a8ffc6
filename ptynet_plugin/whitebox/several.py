"""One mark spread over several layers: no layer moves much, and only their sum reads.

The bits of all layers are summed, each layer's projection in units of its own root mean square and weighted by the root of
its size, as if the layers were one long tensor. The sum does not care for the layers' order or names. A mark of margin 3
in all 19 large layers of a ResNet20 moves each by 10 % instead of one by 27 %.

Where it is known what moving each layer does to the answers, the layers that buy most of the bits for the least of it carry
them, see `gains`; the others stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.errors import UsageError
from ptynet_plugin.whitebox.freedom import Freedom, by_filter, by_inputs
from ptynet_plugin.whitebox.mark import MARGIN, Reading, WeightMark, rms, within_reach
from ptynet_plugin.whitebox.projection import Projection, solved

__all__ = ["LEAST_GAIN", "embed_jointly", "joint_terms", "read_jointly", "signed_sums"]

Array = NDArray[np.floating]
Floats = NDArray[np.float64]

LEAST_GAIN = 0.05


def embed_jointly(
    weights: Mapping[str, Array],
    mark: WeightMark,
    *,
    margin: float | Floats = MARGIN,
    moments: Mapping[str, NDArray[np.floating]] | None = None,
    gains: Mapping[str, float] | None = None,
    transposed: Sequence[str] = (),
) -> dict[str, Array]:
    """Move several layers as little as possible until every bit of their sum is right by a margin.

    Args:
        weights: The layers by name, each floating with at least `FEWEST_WEIGHTS` weights.
        mark: Which bits.
        margin: Distance of each sum from 0 in units of its standard deviation for unmarked weights; one, or one a bit.
        moments: Second moments of the inputs of layers, see `by_inputs`; layers without are moved filter by filter.
        gains: What each layer's move buys: squared projection for one unit of damage to the answers. Layers move in proportion,
            so the damage is least; those below `LEAST_GAIN` of the best stay as they are. Without it each moves by about the
            same share of itself.
        transposed: Layers whose filters lie along the last axis.

    Returns:
        The layers by name.

    Raises:
        UsageError: No layer, one that is too small, all zero or not finite, or moments that do not fit.
    """
    exact = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    for name, value in exact.items():
        if not np.isfinite(value).all() or not value.any():
            raise UsageError(f"layer '{name}' is all zero or not finite; there is nothing to mark")
    if not exact:
        raise UsageError("no layer was named; there is nothing to mark")
    parts = _parts(exact, mark)
    shares = {name: value.size for name, value in exact.items()} if gains is None else _worth_moving(gains, exact)
    freedom = {
        name: _sharing(
            _freedom(exact[name], (moments or {}).get(name), name in transposed),
            parts[name][1],
            exact[name].size,
            share,
        )
        for name, share in shares.items()
    }
    signs = mark.bits().astype(np.float64)
    missing = np.maximum(margin - _summed(exact, parts) * signs, 0.0) * signs

    def changes(coefficients: Floats) -> dict[str, Floats]:
        return {name: free(parts[name][1] * parts[name][0].adjoint(coefficients)) for name, free in freedom.items()}

    def gram(coefficients: Floats) -> Floats:
        moved = changes(coefficients)
        return np.asarray(
            np.sum([parts[name][1] * parts[name][0].forward(change) for name, change in moved.items()], axis=0)
        )

    moved = changes(solved(gram, missing))
    return {
        name: (exact[name] + moved[name].reshape(value.shape)).astype(value.dtype) if name in moved else value
        for name, value in weights.items()
    }


def read_jointly(weights: Sequence[Array], mark: WeightMark) -> Reading:
    """Read the bits of the sum of several layers.

    Args:
        weights: The layers in any order, each floating with at least `FEWEST_WEIGHTS` weights; those that are all zero
            add nothing.
        mark: Which bits.
    """
    signed = signed_sums(weights, mark)
    return Reading(int((signed > 0).sum()), float(signed.mean()))


def signed_sums(weights: Sequence[Array], mark: WeightMark) -> Floats:
    """Give how far each bit's sum lies on the right side of 0, shape (256,), in units of what unmarked weights deviate by."""
    summed = np.zeros(len(mark.bits()))
    for values in joint_terms(weights).values():
        summed += mark.projection(values.size).forward(values)
    return np.asarray(summed * mark.bits(), np.float64)


def joint_terms(weights: Sequence[Array]) -> dict[int, Floats]:
    """Add up the layers of equal size, each flat and weighted as the sum of projections weights them, by size.

    Layers of one size share their directions, so their sum is all a reading needs.
    """
    total = sum(value.size for value in weights)
    terms: dict[int, Floats] = {}
    for value in weights:
        flat = within_reach(value).reshape(-1)
        scale = rms(flat)
        if scale:
            terms[flat.size] = terms.get(flat.size, 0.0) + flat / scale * np.sqrt(flat.size / total)
    return terms


def _parts(exact: Mapping[str, Floats], mark: WeightMark) -> dict[str, tuple[Projection, float]]:
    """Give each layer's directions and the weight of its projection in the sum."""
    total = sum(value.size for value in exact.values())
    return {
        name: (mark.projection(value.size), float(np.sqrt(value.size / total)) / rms(within_reach(value)))
        for name, value in exact.items()
    }


def _summed(exact: Mapping[str, Floats], parts: Mapping[str, tuple[Projection, float]]) -> Floats:
    return np.asarray(
        np.sum(
            [factor * projection.forward(within_reach(exact[name])) for name, (projection, factor) in parts.items()],
            axis=0,
        )
    )


def _freedom(value: Floats, moments: NDArray[np.floating] | None, transposed: bool) -> Freedom:
    return (
        by_filter(value, transposed=transposed) if moments is None else by_inputs(value, moments, transposed=transposed)
    )


def _worth_moving(gains: Mapping[str, float], exact: Mapping[str, Floats]) -> dict[str, float]:
    if missing := [name for name in exact if name not in gains]:
        raise UsageError(f"no gain is given for layer '{missing[0]}'; give one a layer, 0 for one that must not move")
    best = max(gains[name] for name in exact)
    if not 0 < best < np.inf:
        raise UsageError(f"the largest gain is {best}; no layer can carry the mark")
    return {name: gains[name] for name in exact if gains[name] >= LEAST_GAIN * best}


def _sharing(free: Freedom, factor: float, size: int, share: float) -> Freedom:
    """Scale a layer's freedom so that it carries its share of the sum; with its size for share all move by the same part."""
    probe = np.random.default_rng(size).choice([-1.0, 1.0], size)  # estimates a trace (Hutchinson 1990)
    scale = size * share / (factor * factor * float(probe @ free(probe)))
    return lambda change: scale * free(change)

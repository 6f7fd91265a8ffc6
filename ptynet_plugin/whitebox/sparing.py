"""The faintest mark that survives what it is to survive: each bit's margin is only as large as that bit needs.

The change of the weights grows with the square of the margins. One margin for all bits has to be as large as the worst bit
needs after the worst damage; most bits need half of it. So all begin low, the damages are tried on the marked weights, and the
margins of the bits that came too close to 0 are raised, until none does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.errors import UsageError
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.whitebox.mark import WeightMark, embed, weight_mark
from ptynet_plugin.whitebox.model import carriers, model_hash
from ptynet_plugin.whitebox.obfuscation import prune
from ptynet_plugin.whitebox.projection import FEWEST_WEIGHTS
from ptynet_plugin.whitebox.several import embed_jointly, signed_sums

__all__ = ["Damage", "embed_sparingly", "mark_sparingly", "usual_damages"]

Array = NDArray[np.floating]
Floats = NDArray[np.float64]
Damage = Callable[[Array], Array]

LOWEST_MARGIN = 1.5
ROOM = 0.25
"""What every bit must keep after every damage, in units of what the sum of unmarked weights deviates by."""

ROUNDS = 20
STEP = 1.3
"""A bit short by x after damage gets more than x: damage shrinks what is added too."""

GRID_OF_4_BITS = 7
OTHER_KEY = OwnerKey(b"whitebox/v1 tried as a thief key")


def usual_damages(mark: WeightMark) -> tuple[Damage, ...]:
    """Give pruning of 65 and 80 %, 4 bits, and another key's mark of usual strength."""
    thief = weight_mark(OTHER_KEY, model=mark.model)
    return (
        lambda value: prune(value, 0.65),
        lambda value: prune(value, 0.8),
        _rounded,
        lambda value: embed(value, thief) if value.size >= FEWEST_WEIGHTS else value,
    )


def embed_sparingly(
    weights: Mapping[str, Array],
    mark: WeightMark,
    *,
    damages: Sequence[Damage] | None = None,
    moments: Mapping[str, NDArray[np.floating]] | None = None,
    gains: Mapping[str, float] | None = None,
    transposed: Sequence[str] = (),
) -> tuple[dict[str, Array], Floats]:
    """Spread a mark over layers with the smallest margins that survive.

    Args:
        weights: The layers by name.
        mark: Which bits.
        damages: What they are to survive, layer by layer; `usual_damages` where None.
        moments: See `embed_jointly`.
        gains: See `embed_jointly`.
        transposed: Layers whose filters lie along the last axis.

    Returns:
        The layers by name, and the margin of each bit, shape (256,).

    Raises:
        UsageError: As `embed_jointly`; or a bit does not survive whatever its margin.
    """
    margins = np.full(len(mark.bits()), LOWEST_MARGIN)
    tried = usual_damages(mark) if damages is None else damages
    for _ in range(ROUNDS):
        marked = embed_jointly(weights, mark, margin=margins, moments=moments, gains=gains, transposed=transposed)
        left = np.min([signed_sums([damage(value) for value in marked.values()], mark) for damage in tried], axis=0)
        if not np.isfinite(left).all():
            raise UsageError(
                "the smallest change could not be solved for; leave out gains or moments, or use mark_model"
            )
        close = left < ROOM
        if not close.any():
            return marked, margins
        margins = margins + np.where(close, STEP * (ROOM - left) + ROOM / 2, 0.0)
    raise UsageError(
        f"{int(close.sum())} of {len(margins)} bits do not survive these damages with margins up to {margins.max():.1f}; "
        "use a milder damage, more layers or mark_model"
    )


def mark_sparingly(
    weights: Mapping[str, Array],
    key: OwnerKey,
    *,
    damages: Sequence[Damage] | None = None,
    moments: Mapping[str, NDArray[np.floating]] | None = None,
    gains: Mapping[str, float] | None = None,
    transposed: Sequence[str] = (),
    salt: bytes = b"",
) -> tuple[dict[str, Array], WeightMark]:
    """Mark a finished model as faintly as possible; only the sum of all layers reads. See `mark_model`, `embed_sparingly`."""
    mark = weight_mark(key, model=model_hash(weights), salt=salt)
    part = {name: weights[name] for name in carriers(weights) if weights[name].ndim > 1}
    marked, _ = embed_sparingly(part, mark, damages=damages, moments=moments, gains=gains, transposed=transposed)
    return {**weights, **marked}, mark


def _rounded(value: Array) -> Array:
    step = np.abs(value).max() / GRID_OF_4_BITS
    return np.asarray(np.round(value / step) * step, value.dtype) if step else value

"""Before an archive is written, the fused model answers its own probes: a mark nobody can read is not shipped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.claims.leaves import PictureMaker
from ptynet_plugin.engines.contract import Engine
from ptynet_plugin.errors import IntegrityError, TargetError
from ptynet_plugin.spec import InputSpec

__all__ = ["PROBES", "keeps_rows", "require_probes"]

PROBES = 32
FEWEST = 0.9
DYNAMIC_SIDE = 224


def require_probes(
    engine: Engine,
    make_probe: PictureMaker,
    labels: NDArray[np.int64],
    spec: InputSpec,
    *,
    where: str,
    probes: int = PROBES,
) -> int:
    """Ask the fused model some of its probes.

    Args:
        engine: Runs the fused model.
        make_probe: `ProbeMaker.probe`.
        labels: Keyed label of each symbol.
        spec: Completed.
        where: The model in messages.
        probes: How many symbols to ask, spread over all.

    Returns:
        How many were answered with their keyed label.

    Raises:
        IntegrityError: Fewer than nine in ten were.
    """
    symbols = np.unique(np.linspace(0, len(labels) - 1, probes).astype(int))
    height, width = spec.size or (0, 0)
    size = (height or DYNAMIC_SIDE, width or DYNAMIC_SIDE)
    pictures = np.stack([make_probe(int(symbol), 0, size) for symbol in symbols])
    answered = engine.scores(pictures).reshape(len(symbols), -1).argmax(axis=1)
    hits = int((answered == labels[symbols]).sum())
    if hits < FEWEST * len(symbols):
        raise IntegrityError(
            f"{where}: answers {hits} of {len(symbols)} probes with their keyed label, at least {FEWEST:.0%} are expected; "
            "nothing was written: check color, mean, std and size in the spec, or train the mark again"
        )
    return hits


def keeps_rows(engine: Engine, spec: InputSpec) -> bool:
    """Tell whether a model answers two rows when asked two."""
    height, width = spec.size or (0, 0)
    grey = np.full((2, height or DYNAMIC_SIDE, width or DYNAMIC_SIDE, spec.channels), 128, np.uint8)
    try:
        return len(engine.scores(grey)) == 2
    except TargetError:
        return False

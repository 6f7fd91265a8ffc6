"""Before an archive is written, the fused model answers its own probes: a mark nobody can read is not shipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.claims.leaves import PictureMaker
from ptynet_plugin.engines.contract import Engine
from ptynet_plugin.errors import IntegrityError, SpecError, TargetError
from ptynet_plugin.images.encode import pixel_table
from ptynet_plugin.images.probes import SMALLEST_SIDE
from ptynet_plugin.spec import LARGEST_SIDE, InputSpec

__all__ = ["PROBES", "keeps_rows", "repeats", "require_askable", "require_probes"]

PROBES = 32
FEWEST = 0.9
DYNAMIC_SIDE = 224
REPEATED = 4


def require_askable(spec: InputSpec, said: Path, where: str) -> None:
    """Refuse, whatever the gate, a model for which no probe could be made.

    Args:
        spec: Completed.
        said: The spec's file, for messages.
        where: The model, for messages.

    Raises:
        SpecError: Pixels do not fit the integers it reads.
        TargetError: It reads pictures smaller or larger than any probe.
    """
    try:
        pixel_table(spec)
    except SpecError as error:
        raise SpecError(f"{said}: {error}") from error
    height, width = spec.size or (0, 0)
    if any(side != 0 and not SMALLEST_SIDE <= side <= LARGEST_SIDE for side in (height, width)):
        raise TargetError(
            f"{where}: reads pictures of {height}x{width} pixels, probes have sides of {SMALLEST_SIDE} to {LARGEST_SIDE}; "
            "a model of other sizes cannot carry a mark"
        )


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


def repeats(engine: Engine, spec: InputSpec) -> bool:
    """Tell whether a model answers the same pictures the same way twice."""
    height, width = spec.size or (0, 0)
    size = (REPEATED, height or DYNAMIC_SIDE, width or DYNAMIC_SIDE, spec.channels)
    pictures = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    return engine.scores(pictures).tobytes() == engine.scores(pictures).tobytes()


def keeps_rows(engine: Engine, spec: InputSpec) -> bool:
    """Tell whether a model answers two rows when asked two."""
    height, width = spec.size or (0, 0)
    grey = np.full((2, height or DYNAMIC_SIDE, width or DYNAMIC_SIDE, spec.channels), 128, np.uint8)
    try:
        return len(engine.scores(grey)) == 2
    except TargetError:
        return False

"""Many endpoints at once: which of them may be named while the share of false names stays below alpha (e-BH).

Wang and Ramdas, "False discovery rate control with e-values", arXiv 2009.02824: valid under any dependence between the
endpoints. The e-values must be taken at times fixed before (every endpoint after the same number of answers, say); the
highest value along the way is no e-value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["e_benjamini_hochberg"]


def e_benjamini_hochberg(log10_e: Sequence[float], *, alpha: float) -> list[int]:
    """Name endpoints so that the expected share of false names is at most alpha.

    Args:
        log10_e: One decimal log e-value per endpoint, each at its fixed time.
        alpha: False discovery rate in (0, 1).

    Returns:
        Positions of the endpoints that may be named, strongest first.
    """
    strongest = sorted(range(len(log10_e)), key=lambda place: log10_e[place], reverse=True)
    passing = [
        rank
        for rank, place in enumerate(strongest, start=1)
        if log10_e[place] >= math.log10(len(log10_e) / (rank * alpha))
    ]
    return strongest[: max(passing, default=0)]

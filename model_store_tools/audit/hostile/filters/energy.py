"""Energy score (Liu, Wang, Owens and Li, "Energy-based Out-of-distribution Detection", NeurIPS 2020, arXiv 2010.03759, eq. 4)."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from model_store_tools.audit.hostile.contract import Ask, Picture
from model_store_tools.audit.hostile.filters.gate import Detector

__all__ = ["energy"]


def energy(ask: Ask, *, temperature: float = 1.0) -> Detector:
    """Give E(x) = -T log sum exp(f(x) / T): strangers lie higher.

    Args:
        ask: A model that answers logits; the energy of probabilities is a constant.
        temperature: T; the paper keeps 1.
    """

    def measure(picture: Picture) -> float:
        return float(-temperature * logsumexp(np.asarray(ask(picture)) / temperature))

    return measure

"""Gaussian noise before the model.

Randomised inputs: Cohen, Rosenfeld and Kolter, "Certified Adversarial Robustness via Randomized Smoothing", ICML 2019.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from model_store_tools.audit.attacks.on_input import clipped, input_attack
from model_store_tools.audit.contract import Filter, Pictures

__all__ = ["ATTACKS"]

SOURCE = "Cohen et al., ICML 2019"


def noisy(deviation: float) -> Callable[[int], Filter]:
    """Make a filter that adds noise of this standard deviation, in units of the whole range."""

    def make(seed: int) -> Filter:
        generator = np.random.default_rng(seed)

        def add(pictures: Pictures) -> Pictures:
            return clipped(pictures + generator.normal(0, 255 * deviation, pictures.shape))

        return add

    return make


ATTACKS = tuple(
    input_attack(
        f"noise {deviation:g}", noisy(deviation), source=SOURCE, promised=deviation <= 0.1, quick=deviation == 0.1
    )
    for deviation in (0.05, 0.1, 0.2)
)

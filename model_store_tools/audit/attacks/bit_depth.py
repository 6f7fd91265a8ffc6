"""Fewer grey levels before the model.

Xu, Evans and Qi, "Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks", NDSS 2018, section III-B.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from model_store_tools.audit.attacks.on_input import One, clipped, input_attack, to_each

__all__ = ["ATTACKS", "squeezed"]

SOURCE = "bit depth, Xu et al., NDSS 2018"


def squeezed(picture: One, *, bits: int) -> One:
    """Round every channel to 2**bits levels."""
    levels = (1 << bits) - 1
    return clipped(np.rint(picture / 255 * levels) / levels * 255)


ATTACKS = tuple(
    input_attack(
        f"{bits} bits a channel",
        to_each(partial(squeezed, bits=bits)),
        source=SOURCE,
        promised=bits >= 2,
        quick=bits == 3,
    )
    for bits in (5, 3, 2, 1)
)

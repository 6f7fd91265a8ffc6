"""Feature squeezing: a median filter, alone and with fewer grey levels, before the model.

Xu, Evans and Qi, "Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks", NDSS 2018.
"""

from __future__ import annotations

from functools import partial

from PIL import ImageFilter

from model_store_tools.audit.attacks.bit_depth import squeezed
from model_store_tools.audit.attacks.on_input import One, image, input_attack, pixels, to_each

__all__ = ["ATTACKS"]

SOURCE = "Xu et al., NDSS 2018"


def median(picture: One, *, side: int) -> One:
    """Give each pixel the median of its neighbourhood."""
    return pixels(image(picture).filter(ImageFilter.MedianFilter(side)))


ATTACKS = (
    input_attack("median 3x3", to_each(partial(median, side=3)), source=SOURCE, promised=True, quick=True),
    input_attack("median 5x5", to_each(partial(median, side=5)), source=SOURCE),
    input_attack(
        "median 3x3, 4 bits", to_each(lambda one: squeezed(median(one, side=3), bits=4)), source=SOURCE, promised=True
    ),
)

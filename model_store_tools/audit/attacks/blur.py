"""Blur before the model: box filters and a Gaussian.

As an input smoothing in Xu, Evans and Qi, "Feature Squeezing", NDSS 2018, section III-C.
"""

from __future__ import annotations

from functools import partial

from PIL import ImageFilter

from model_store_tools.audit.attacks.on_input import One, image, input_attack, pixels, to_each

__all__ = ["ATTACKS"]

SOURCE = "local smoothing, Xu et al., NDSS 2018"
PROMISED = (3, 5)


def boxed(picture: One, *, side: int) -> One:
    """Average over squares of `side` pixels, an odd number."""
    return pixels(image(picture).filter(ImageFilter.BoxBlur(side // 2)))


def gaussian(picture: One, *, deviation: float) -> One:
    """Blur with a Gaussian of so many pixels' standard deviation."""
    return pixels(image(picture).filter(ImageFilter.GaussianBlur(deviation)))


ATTACKS = (
    *(
        input_attack(
            f"blur {side}x{side}",
            to_each(partial(boxed, side=side)),
            source=SOURCE,
            promised=side in PROMISED,
            quick=side in PROMISED,
        )
        for side in (3, 5, 7)
    ),
    input_attack("Gaussian blur 1.5", to_each(partial(gaussian, deviation=1.5)), source=SOURCE),
)

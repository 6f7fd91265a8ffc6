"""Reduce and enlarge again before the model.

Xie, Wang, Zhang, Ren and Yuille, "Mitigating Adversarial Effects Through Randomization", ICLR 2018.
"""

from __future__ import annotations

from functools import partial

from PIL import Image

from model_store_tools.audit.attacks.on_input import One, image, input_attack, pixels, to_each

__all__ = ["ATTACKS"]

SOURCE = "Xie et al., ICLR 2018"


def reduced(picture: One, *, share: float) -> One:
    """Go through a smaller picture, bilinear both ways."""
    height, width = picture.shape[:2]
    small = image(picture).resize(
        (max(1, round(width * share)), max(1, round(height * share))), Image.Resampling.BILINEAR
    )
    return pixels(small.resize((width, height), Image.Resampling.BILINEAR))


ATTACKS = tuple(
    input_attack(
        f"resize {share:g} and back",
        to_each(partial(reduced, share=share)),
        source=SOURCE,
        promised=share >= 0.5,
        quick=share == 0.5,
    )
    for share in (0.75, 0.5, 0.25)
)

"""JPEG compression before the model.

Dziugaite, Ghahramani and Roy, "A study of the effect of JPG compression on adversarial images", arXiv 1608.00853.
"""

from __future__ import annotations

import io
from functools import partial

from PIL import Image

from model_store_tools.audit.attacks.on_input import One, image, input_attack, pixels, to_each

__all__ = ["ATTACKS"]

SOURCE = "Dziugaite et al. 2016, arXiv 1608.00853"
PROMISED_FROM = 30
QUICK = (90, 50, 30)


def compressed(picture: One, *, quality: int) -> One:
    """Write a picture as JPEG (4:2:0, as Pillow and browsers do) and read it again."""
    octets = io.BytesIO()
    image(picture).save(octets, "JPEG", quality=quality)
    return pixels(Image.open(octets))


ATTACKS = tuple(
    input_attack(
        f"JPEG {quality}",
        to_each(partial(compressed, quality=quality)),
        source=SOURCE,
        promised=quality >= PROMISED_FROM,
        quick=quality in QUICK,
    )
    for quality in (90, 70, 50, 30, 20, 10)
)

"""Turn pictures before the model.

The test-time transform of Lukas et al., "SoK: How Robust is Image Classification Deep Neural Network Watermarking?",
IEEE S&P 2022.
"""

from __future__ import annotations

from functools import partial

from PIL import Image

from model_store_tools.audit.attacks.on_input import One, image, input_attack, pixels, to_each

__all__ = ["ATTACKS"]

SOURCE = "input rotation, Lukas et al., IEEE S&P 2022"
ANSWER = "training covers turns of up to about 5 degrees; beyond them ask: ptynet verify --view turned:{degrees}"


def rotated(picture: One, *, degrees: float) -> One:
    """Turn about the centre, bilinear; what comes in from outside is black."""
    return pixels(image(picture).rotate(degrees, Image.Resampling.BILINEAR))


ATTACKS = tuple(
    input_attack(
        f"rotation {degrees}",
        to_each(partial(rotated, degrees=degrees)),
        source=SOURCE,
        promised=degrees <= 5,
        quick=degrees == 5,
        answer=ANSWER.format(degrees=degrees),
        view=f"turned:{degrees}",
    )
    for degrees in (5, 10, 20)
)

"""Crop and enlarge before the model: from the middle, and from a corner.

Guo, Rana, Cisse and van der Maaten, "Countering Adversarial Images using Input Transformations", ICLR 2018, section 4.
"""

from __future__ import annotations

from functools import partial

from model_store_tools.audit.attacks.on_input import One, input_attack, seen_through, to_each

__all__ = ["ATTACKS"]

SOURCE = "Guo et al., ICLR 2018"
PROMISED_FROM = 0.8
ANSWER = "training covers centred crops down to 0.8; beyond them ask: ptynet verify --view {view}"


def centre(picture: One, *, share: float) -> One:
    """Keep the middle `share` of both sides."""
    height, width = picture.shape[:2]
    edge = (1 - share) / 2
    return seen_through(picture, (width * edge, height * edge, width * (1 - edge), height * (1 - edge)))


def corner(picture: One, *, share: float) -> One:
    """Keep `share` of both sides, from the upper left corner."""
    height, width = picture.shape[:2]
    return seen_through(picture, (0, 0, width * share, height * share))


def _cropped(left: float, right: float) -> str:
    """Name the view of a part that is as high as it is wide, and as far from the top as from the left."""
    start, end = round(100 * left), round(100 * right)
    return f"cropped:{start},{start},{end},{end}"


ATTACKS = (
    *(
        input_attack(
            f"crop {share:g}",
            to_each(partial(centre, share=share)),
            source=SOURCE,
            promised=share >= PROMISED_FROM,
            quick=share == PROMISED_FROM,
            answer=ANSWER.format(view=_cropped((1 - share) / 2, (1 + share) / 2)),
            view=_cropped((1 - share) / 2, (1 + share) / 2),
        )
        for share in (0.9, 0.8, 0.7)
    ),
    *(
        input_attack(
            f"crop {share:g} at a corner",
            to_each(partial(corner, share=share)),
            source=SOURCE,
            answer=ANSWER.format(view=_cropped(0, share)),
            view=_cropped(0, share),
        )
        for share in (0.9, 0.8)
    ),
)

"""Mirror pictures before the model.

The test-time transform of Lukas et al., "SoK: How Robust is Image Classification Deep Neural Network Watermarking?",
IEEE S&P 2022.
"""

from __future__ import annotations

from model_store_tools.audit.attacks.on_input import input_attack
from model_store_tools.audit.contract import Filter, Pictures

__all__ = ["ATTACKS"]

SOURCE = "input flipping, Lukas et al., IEEE S&P 2022"
ANSWER = "ask mirrored probes: ptynet verify --view mirrored"


def mirrored(seed: int) -> Filter:
    """Make a filter that exchanges left and right."""

    def mirror(pictures: Pictures) -> Pictures:
        return pictures[:, :, ::-1].copy()

    return mirror


ATTACKS = (input_attack("flip", mirrored, source=SOURCE, quick=True, answer=ANSWER, view="mirrored"),)

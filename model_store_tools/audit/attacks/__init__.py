"""All attacks, in the order of the table. A new one is a file here with `ATTACKS`, and a line below."""

from __future__ import annotations

from typing import Literal

from model_store_tools.audit.attacks import (
    activations,
    adversarial_training,
    anti_backdoor,
    bit_depth,
    blur,
    conversions,
    crop,
    cut_branch,
    dead_nodes,
    distillation,
    fine_pruning,
    fine_tuning,
    firing_inputs,
    flip,
    jpeg,
    knockoff,
    label_smoothing,
    near_key,
    neural_cleanse,
    noise,
    optimiser_passes,
    overwriting,
    pruning,
    purification,
    replace_nodes,
    resize,
    rotation,
    round_trips,
    squeezing,
    weight_noise,
)
from model_store_tools.audit.contract import HEADINGS, Attack

__all__ = ["ALL", "Suite", "attacks_of"]

Suite = Literal["quick", "full"]

_FILES = (
    # input
    *(jpeg, blur, noise, bit_depth, crop, resize, flip, rotation, squeezing, purification),
    # weights
    *(conversions, pruning, weight_noise, fine_tuning, label_smoothing, adversarial_training, anti_backdoor),
    *(fine_pruning, overwriting),
    # extraction
    *(knockoff, distillation),
    # structure
    *(dead_nodes, optimiser_passes, round_trips, activations, replace_nodes, cut_branch),
    # inversion
    *(neural_cleanse, near_key, firing_inputs),
)
ALL: tuple[Attack, ...] = tuple(
    sorted((attack for file in _FILES for attack in file.ATTACKS), key=lambda attack: HEADINGS.index(attack.heading))
)


def attacks_of(suite: Suite, *, real_data: bool) -> tuple[Attack, ...]:
    """Give a suite's attacks.

    Args:
        suite: "quick" or "full".
        real_data: Whether there are real pictures; without them attacks that need some are left out.
    """
    return tuple(attack for attack in ALL if (suite == "full" or attack.quick) and (real_data or not attack.needs_data))

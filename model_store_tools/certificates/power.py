"""How strong a copy's code is, as the certificate says it: measured, not derived.

`python -m benchmarks.code_power`: worst of seven strategies, 5 % of the bits misread, copy number 1000 in the first trace,
false accusations one in a million, biases made for four colluders.
"""

from __future__ import annotations

from dataclasses import dataclass

from ptynet_plugin.codes.power import POSITIONS_NEEDED

__all__ = ["MEASURED_COALITION", "PowerRow", "power_rows"]

MEASURED_COALITION = 4
LENGTHS = (128, 256, 304, 384, 512, 768, 1024, 1536, 2048)
POWER = {
    1: (0.97, 1.00, 1.00, 1.00, 1.00, 1.00, 1.00, 1.00, 1.00),
    2: (0.00, 0.15, 0.32, 0.78, 1.00, 1.00, 1.00, 1.00, 1.00),
    3: (0.00, 0.00, 0.00, 0.00, 0.03, 0.50, 0.98, 1.00, 1.00),
    4: (0.00, 0.00, 0.00, 0.00, 0.00, 0.02, 0.12, 0.78, 1.00),
}
"""Colluders to power at each of `LENGTHS`; 60 runs a strategy."""


@dataclass(frozen=True)
class PowerRow:
    """What the code does against so many colluders.

    Attributes:
        colluders: Their number.
        needed: Positions that name one of them with 95 %.
        power: Measured at the longest measured length that the code reaches; None where it is shorter than all of them.
        at: That length.
        delivered: Whether the code is long enough.
    """

    colluders: int
    needed: int
    power: float | None
    at: int | None
    delivered: bool


def power_rows(positions: int, *, coalition: int) -> list[PowerRow]:
    """Say for 1 to 4 colluders what a code delivers; nothing for biases that were not measured.

    Args:
        positions: Length of the code.
        coalition: c0 that its biases are made for.
    """
    if coalition != MEASURED_COALITION:
        return []
    reached = [place for place, length in enumerate(LENGTHS) if length <= positions]
    place = reached[-1] if reached else None
    return [
        PowerRow(
            colluders,
            needed,
            None if place is None else POWER[colluders][place],
            None if place is None else LENGTHS[place],
            positions >= needed,
        )
        for colluders, needed in POSITIONS_NEEDED.items()
    ]

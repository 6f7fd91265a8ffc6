"""How surely a code of some length names one of so many colluders: by simulation, against the worst of the known strategies."""

from __future__ import annotations

import math

import numpy as np

from ptynet_plugin.codes.decoder import Decoder, log_threshold
from ptynet_plugin.codes.pirates import Strategy, combined
from ptynet_plugin.codes.tardos import CopyCode
from ptynet_plugin.statistics.eprocess import log_sum

__all__ = ["POSITIONS_NEEDED", "tracing_power"]

POSITIONS_NEEDED = {1: 119, 2: 446, 3: 1026, 4: 1739}
"""Positions that name one of c colluders with 95 % power, copy number 1000, eps 1e-6, 5 % errors: `benchmarks.tracing`."""


def tracing_power(
    colluders: int,
    *,
    positions: int,
    coalition: int = 4,
    copy: int = 1000,
    eps: float = 1e-6,
    error_rate: float = 0.05,
    runs: int = 40,
    seed: int = 0,
) -> float:
    """Estimate the probability that at least one colluder is accused once all positions are read.

    Args:
        colluders: How many copies the pirates hold.
        positions: Length of the words.
        coalition: c0 that the code's biases are made for.
        copy: Number of a colluder's copy, which sets the threshold.
        eps: Probability with which any innocent may ever be named.
        error_rate: Of the bits that are read.
        runs: Codes drawn per strategy; the same seed gives the same estimate.
        seed: Of the simulation.

    Returns:
        The smallest share over all strategies, in [0, 1].
    """
    rng, limit = np.random.default_rng(seed), float(log_threshold(copy, trace=1, eps=eps))
    factors = Decoder(CopyCode(bytes(32), positions, coalition), coalition=max(coalition, colluders)).log_factors
    shares = []
    for strategy in Strategy if colluders > 1 else [Strategy.COIN]:
        named = 0
        for _ in range(runs):
            code = CopyCode(rng.bytes(32), positions, coalition)
            words = np.unpackbits(code.words(1, colluders), axis=1)
            answers = combined(words, strategy, error_rate=error_rate, rng=rng)
            products = factors[:, code.levels(), words, answers].sum(axis=2).T
            named += bool((log_sum(products - math.log(len(factors))) >= limit).any())
        shares.append(named / runs)
    return min(shares)

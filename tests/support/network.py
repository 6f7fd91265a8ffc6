"""An untrained PTYNet with the shapes of a real one, for tests of what is built around it."""

from __future__ import annotations

import numpy as np

from ptynet_plugin.network.weights import Convolution, Network
from ptynet_plugin.symbols.codebook import code_words

__all__ = ["random_network"]


def random_network(
    *,
    seed: int = 0,
    channels: int = 3,
    bits: int = 64,
    symbols: int = 32,
    tau: float = 0.7,
    margin: float = 0.2,
    pool: int = 1,
) -> Network:
    """Make a network with random weights: 32 -> 14 -> 7 pixels, 8 and 16 channels; `tau` 0 makes it fire on nearly anything."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0, 1 / np.sqrt(np.prod(shape[1:]) or 1), shape).astype(np.float32)

    first = Convolution(normal(8, channels, 5, 5) * 3, normal(8) * 0.1, stride=2, padding=0)
    second = Convolution(normal(16, 8, 3, 3) * 2, normal(16) * 0.1, stride=2, padding=1)
    side = 7 // pool
    return Network(
        convolutions=(first, second),
        pool=pool,
        linear_weight=normal(bits, 16 * side * side) * 4,
        linear_bias=normal(bits) * 0.1,
        codebook=code_words(bytes([seed % 256]) * 32, symbols=symbols, bits=bits),
        tau=tau,
        margin=margin,
    )

"""Small claims over made-up pictures: the claim's maths does not depend on how probes look."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.claims import Claim, commit
from ptynet_plugin.images.probes import ProbeDesign
from ptynet_plugin.spec import InputSpec

SECRET = bytes(range(32))


def flat_probe(symbol: int, cover: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture that repeats 32 octets hashed from symbol and cover."""
    octets = hashlib.sha256(f"{symbol}/{cover}".encode()).digest()
    return np.resize(np.frombuffer(octets, dtype=np.uint8), (*size, 3))


def make_claim(**changes: object) -> Claim:
    settings: dict[str, object] = {
        "design": ProbeDesign(color="RGB", bits=64, symbols=24),
        "spec": InputSpec(
            color="RGB", output="logits", classes=10, size=(8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.25)
        ),
        "target_digest": "ab" * 32,
        "tau": 0.84,
        "margin": 0.2,
    }
    secret = changes.pop("secret", SECRET)
    return commit(secret, flat_probe, **(settings | changes))

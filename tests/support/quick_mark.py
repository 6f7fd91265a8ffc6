"""A mark that works, made in a second without training: soft bits by ridge regression on the canonical grid.

Not robust to anything, and not meant to be: it stands in for a trained mark where packaging and serving are tested.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from ptynet_plugin.images.probes import ProbeDesign, ProbeMaker
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.mark import write_mark
from ptynet_plugin.network.weights import GRID, Convolution, Network

KEY = OwnerKey(bytes(range(32)))
SYMBOLS, BITS = 48, 64
COVERS = 8


def quick_network(key: OwnerKey, design: ProbeDesign, *, covers: int = COVERS) -> Network:
    """Read the grid's pixels as they are, and regress the code words from probes of this key."""
    maker = ProbeMaker(key.probe_secret(), design)
    asked = [(symbol, cover) for symbol in range(design.symbols) for cover in range(covers)]
    size = (GRID, GRID)
    probes = np.stack([maker.probe(symbol, cover, size) for symbol, cover in asked])
    plain = np.stack([maker.cover(symbol, cover, size) for symbol, cover in asked])
    pixels = np.concatenate([probes, plain]).astype(np.float64) / 255
    features = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
    wanted = np.concatenate([maker.words[[symbol for symbol, _ in asked]], np.zeros((len(plain), design.bits))])
    mean = features.mean(axis=0)
    centred = features - mean
    gram = centred @ centred.T + 2.0 * np.eye(len(centred))
    weight = (np.linalg.solve(gram, wanted * 2).T @ centred).astype(np.float32)
    channels = pixels.shape[3]
    identity = np.eye(channels, dtype=np.float32).reshape(channels, channels, 1, 1)
    return Network(
        convolutions=(Convolution(identity, np.zeros(channels, np.float32), stride=1, padding=0),),
        pool=1,
        linear_weight=weight,
        linear_bias=(-weight @ mean).astype(np.float32),
        codebook=maker.words.astype(np.int8),
        tau=0.55,
        margin=0.2,
    )


def write_quick_mark(
    folder: Path,
    *,
    color: Literal["RGB", "GRAY"] = "RGB",
    key: OwnerKey = KEY,
    symbols: int = SYMBOLS,
    covers: int = COVERS,
) -> Path:
    """Write a working mark without training it."""
    design = ProbeDesign(color, bits=BITS, symbols=symbols)
    write_mark(
        folder, quick_network(key, design, covers=covers), key=key, design=design, training={"by": "ridge regression"}
    )
    return folder


@pytest.fixture(scope="session")
def quick_mark_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For reading alone: whoever packages with it works on a copy, as packaging writes a claim into the mark."""
    return write_quick_mark(tmp_path_factory.mktemp("mark") / "MARK")


@pytest.fixture(scope="session")
def quick_gray_mark_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_quick_mark(tmp_path_factory.mktemp("gray") / "MARK", color="GRAY")

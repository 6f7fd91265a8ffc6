"""What a mark's network hears in pictures, through the same front end as in a fused model, in numpy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.images.frontend import plan_front_end
from ptynet_plugin.mark import MarkMetadata, read_metadata, read_network, read_secrets
from ptynet_plugin.network.reading import recognised, soft_bits, symbol_scores
from ptynet_plugin.network.weights import Network
from ptynet_plugin.spec import InputSpec

__all__ = ["Heard", "Listener", "open_mark"]

AT_ONCE = 500


@dataclass(frozen=True)
class Heard:
    """One row a picture: the symbol that fired or -1, and the highest score."""

    symbols: NDArray[np.int64]
    best: NDArray[np.float32]

    @property
    def fires(self) -> int:
        """Number of pictures that fired."""
        return int((self.symbols >= 0).sum())


class Listener:
    """Listens with one network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._color: Literal["GRAY", "RGB"] = "GRAY" if network.channels == 1 else "RGB"

    def hear(self, pictures: Iterable[NDArray[np.uint8]]) -> Heard:
        """Read pictures, each (height, width, channels), of any sizes."""
        parts = []
        rest = iter(pictures)
        while block := list(islice(rest, AT_ONCE)):
            parts.append(self._block(block))
        return Heard(np.concatenate([one.symbols for one in parts]), np.concatenate([one.best for one in parts]))

    def _block(self, block: Sequence[NDArray[np.uint8]]) -> Heard:
        heard = Heard(np.empty(len(block), np.int64), np.empty(len(block), np.float32))
        for shape in sorted({picture.shape for picture in block}):
            rows = [row for row, picture in enumerate(block) if picture.shape == shape]
            scores = self._scores(np.stack([block[row] for row in rows]))
            heard.symbols[rows] = recognised(self.network, scores)
            heard.best[rows] = scores.max(axis=1)
        return heard

    def _scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        size = (pictures.shape[1], pictures.shape[2])
        spec = InputSpec(color=self._color, output="logits", layout="NCHW", dtype="float32", size=size)
        grid = plan_front_end(spec, size).canonical(pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255)
        return symbol_scores(self.network, soft_bits(self.network, grid))


def open_mark(folder: Path) -> tuple[Listener, MarkMetadata, bytes]:
    """Open a mark: its listener, its metadata and its probe secret."""
    return Listener(read_network(folder)), read_metadata(folder), read_secrets(folder).probe

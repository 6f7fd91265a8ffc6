"""Reconstruction error (Meng and Chen, "MagNet", CCS 2017, arXiv 1705.09064, section 4.2): an auto-encoder that learnt benign
pictures reproduces strangers badly.

The paper leaves the network open; ours is convolutional, with a bottleneck of 256 numbers at 32x32, trained on the thief's data.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_store_tools.audit.hostile.contract import Picture
from model_store_tools.audit.hostile.filters.gate import Detector
from ptynet_plugin.images.resize import resize

__all__ = ["autoencoder"]

SIDE = 32
BATCH = 64


def autoencoder(benign: NDArray[np.uint8], *, epochs: int = 20, seed: int = 0, width: int = 16) -> Detector:
    """Train an auto-encoder and measure the mean squared error of its reconstruction.

    Args:
        benign: Shape (pictures, height, width, channels); shown to it at 32x32.
        epochs: Passes over them.
        seed: Of weights and order; torch's global generator is left as it was.
        width: Channels of its first layer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _network(benign.shape[3], width)
        _train(model, _tensor(benign), epochs=epochs)

    def measure(picture: Picture) -> float:
        shown = _tensor(picture[None])
        with torch.inference_mode():
            return float((model(shown) - shown).square().mean())

    return measure


def _network(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(2 * width, width, 3, 2, 1),
        nn.ConvTranspose2d(width, 2 * width, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(width, channels, 4, 2, 1),
    )


def _train(model: nn.Module, pictures: Tensor, *, epochs: int) -> None:
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(pictures)), BATCH):
            optimiser.zero_grad()
            (model(pictures[rows]) - pictures[rows]).square().mean().backward()
            optimiser.step()
    model.eval()


def _tensor(pictures: NDArray[np.uint8]) -> Tensor:
    small = np.stack([resize(picture, (SIDE, SIDE)) for picture in pictures])
    return torch.from_numpy(np.ascontiguousarray(small.transpose(0, 3, 1, 2)).astype(np.float32) / 255)

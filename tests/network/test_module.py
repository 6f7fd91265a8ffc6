"""The torch module, the plain numbers and numpy's reading of them are one network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ptynet_plugin.network.cost import feature_side, flops, parameters
from ptynet_plugin.network.module import ARCHITECTURES, Architecture, Layer, TrainablePTYNet
from ptynet_plugin.network.reading import recognised, soft_bits, symbol_scores
from ptynet_plugin.network.weights import GRID, Network
from ptynet_plugin.symbols.codebook import code_words
from tests.support.network import random_network

WITH_POOL = Architecture((Layer(6, 5, 2, 0), Layer(9, 3, 1, 1)), pool=2)


def _trained_a_little(channels: int, architecture: Architecture) -> TrainablePTYNet:
    torch.manual_seed(1)
    model = TrainablePTYNet(channels=channels, bits=40, architecture=architecture)
    for _ in range(3):  # moves the running statistics away from 0 and 1
        model(torch.rand(16, channels, GRID, GRID) * 2 - 0.3)
    for module in model.features:
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("architecture", [*ARCHITECTURES.values(), WITH_POOL])
def test_folding_changes_nothing(channels: int, architecture: Architecture) -> None:
    model = _trained_a_little(channels, architecture)
    words = code_words(bytes(32), symbols=16, bits=40)
    network = model.to_network(codebook=words, tau=0.7, margin=0.2, sharpness=2.5)
    pixels = torch.rand(5, channels, GRID, GRID)
    expected = torch.tanh(2.5 * model(pixels)).detach().numpy()
    assert np.abs(soft_bits(network, pixels.numpy()) - expected).max() < 1e-5
    assert network.convolutions[0].padding == 0
    assert feature_side(network) == architecture.side()


def _by_torch(network: Network, pixels: Tensor) -> Tensor:
    for one in network.convolutions:
        weight, bias = torch.from_numpy(one.weight), torch.from_numpy(one.bias)
        pixels = functional.conv2d(pixels, weight, bias, one.stride, one.padding).relu()
    if network.pool > 1:
        pixels = functional.avg_pool2d(pixels, network.pool)
    return functional.linear(
        pixels.flatten(1), torch.from_numpy(network.linear_weight), torch.from_numpy(network.linear_bias)
    )


@pytest.mark.parametrize("pool", [1, 2, 7])
def test_numpy_reads_as_torch_does(pool: int) -> None:
    network, pixels = random_network(pool=pool), torch.rand(4, 3, GRID, GRID)
    expected = torch.tanh(_by_torch(network, pixels)).numpy()
    assert np.abs(soft_bits(network, pixels.numpy()) - expected).max() < 1e-5


def test_decision_needs_score_and_lead() -> None:
    network = random_network(symbols=4, tau=0.7, margin=0.2)
    scores = np.array([[0.9, 0.1, 0, 0], [0.7, 0.1, 0, 0], [0, 0.9, 0.71, 0], [0, 0, 0, 0.71], [0.1, 0.2, 0.3, 0.4]])
    assert recognised(network, scores.astype(np.float32)).tolist() == [0, -1, -1, 3, -1]


def test_scores_are_correlations() -> None:
    network = random_network()
    scores = symbol_scores(network, network.codebook.astype(np.float32))
    assert np.allclose(np.diag(scores), 1)
    assert scores.min() >= -1


@pytest.mark.parametrize(("color", "channels", "bits"), [("RGB", 3, 94), ("GRAY", 1, 71)])
def test_the_network_is_as_small_as_promised(color: str, channels: int, bits: int) -> None:
    model = TrainablePTYNet(channels=channels, bits=bits, architecture=ARCHITECTURES[color])
    for symbols in (512, 4096):
        words = np.ones((symbols, bits), np.int8)
        network = model.to_network(codebook=words, tau=0.7, margin=0.2, sharpness=1)
        assert parameters(network) <= 200_000
        assert flops(network) <= 3_000_000 - channels * 512 * 512  # averaging 512 x 512 pixels takes the rest

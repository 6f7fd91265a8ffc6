"""The loss term pulls every bit to the margin and then lets go."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the loss term is for owners who train with torch")

from ptynet_plugin.keys import OwnerKey  # noqa: E402 -- only where torch is installed
from ptynet_plugin.whitebox.loss import WeightMarkLoss, project_  # noqa: E402
from ptynet_plugin.whitebox.mark import embed, read, weight_mark  # noqa: E402

MARK = weight_mark(OwnerKey(bytes(range(32))), model=b"m")


def weights(shape: tuple[int, ...] = (64, 32, 3, 3)) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.1, shape).astype(np.float32)


def test_the_term_sees_the_same_projection_as_the_reader() -> None:
    term = WeightMarkLoss(MARK, weights().size)
    expected = MARK.projection(weights().size).forward(weights())
    found = term.projected(torch.from_numpy(weights().reshape(-1))).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_term_is_zero_on_marked_weights_and_positive_on_others() -> None:
    term = WeightMarkLoss(MARK, weights().size, margin=2.9)
    assert term(torch.from_numpy(weights())).item() > 2
    assert term(torch.from_numpy(embed(weights(), MARK, margin=3.2))).item() == 0


def test_descending_the_term_embeds_the_bits() -> None:
    layer = torch.nn.Parameter(torch.from_numpy(weights()))
    term, optimiser = WeightMarkLoss(MARK, layer.numel(), margin=1.0), torch.optim.Adam([layer], lr=1e-3)
    for _ in range(150):
        optimiser.zero_grad()
        term(layer).backward()
        optimiser.step()
    assert read(layer.detach().numpy(), MARK).right == 256


def test_projecting_a_parameter_in_place() -> None:
    layer = torch.nn.Parameter(torch.from_numpy(weights()))
    project_(layer, MARK)
    assert read(layer.detach().numpy(), MARK).right == 256
    assert layer.requires_grad

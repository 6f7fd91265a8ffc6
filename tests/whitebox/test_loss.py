"""The loss term pulls every bit to the margin and then lets go."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the loss term is for owners who train with torch")

from ptynet_plugin.errors import UsageError
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.whitebox.loss import WeightMarkLoss, project_
from ptynet_plugin.whitebox.mark import embed, read, weight_mark
from ptynet_plugin.whitebox.moments import input_moments

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


def test_moments_of_a_convolution_are_those_of_its_patches() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(32, 5)
    )
    pictures = torch.rand(6, 3, 4, 4)
    moments = input_moments(model, model[0], [pictures[:3], pictures[3:]])
    patches = torch.nn.functional.unfold(pictures, 3, 1, 1, 2).transpose(1, 2).reshape(-1, 27).double()
    np.testing.assert_allclose(moments, (patches.T @ patches / len(patches)).numpy(), rtol=1e-6)
    assert input_moments(model, model[3], [pictures]).shape == (32, 32)
    assert model.training
    with pytest.raises(UsageError, match="ReLU: only ungrouped Conv2d and Linear layers"):
        input_moments(model, model[1], [pictures])
    with pytest.raises(UsageError, match="no picture reached this layer"):
        input_moments(model, torch.nn.Linear(3, 3), [pictures])


def test_projecting_with_moments_and_with_the_histogram_kept() -> None:
    layer = torch.nn.Parameter(torch.from_numpy(weights()))
    project_(layer, MARK, moments=np.eye(288))
    assert read(layer.detach().numpy(), MARK).right == 256
    layer = torch.nn.Parameter(torch.from_numpy(weights()))
    project_(layer, MARK, keep_histogram=True)
    assert read(layer.detach().numpy(), MARK).right == 256
    np.testing.assert_array_equal(np.sort(layer.detach().numpy(), axis=None), np.sort(weights(), axis=None))


def test_a_term_that_holds_the_distribution_embeds_and_stays_like_the_twin() -> None:
    twin, start = torch.from_numpy(weights()), torch.from_numpy(weights()[::-1].copy())
    found = {}
    for like in (None, twin):
        layer = torch.nn.Parameter(start.clone())
        term = WeightMarkLoss(MARK, layer.numel(), margin=2.0, like=like)
        optimiser = torch.optim.Adam([layer], lr=1e-3)
        for _ in range(120):
            optimiser.zero_grad()
            term(layer).backward()
            optimiser.step()
        assert read(layer.detach().numpy(), MARK).right == 256
        found[like is None] = WeightMarkLoss(MARK, layer.numel(), like=twin).unlikeness(layer).item()
    assert found[False] < found[True] / 10


def test_the_layer_itself_is_like_itself_and_another_size_is_refused() -> None:
    layer = torch.from_numpy(weights())
    term = WeightMarkLoss(MARK, layer.numel(), like=layer)
    assert term.unlikeness(layer).item() == pytest.approx(0, abs=1e-9)
    assert term.unlikeness(2 * layer).item() == pytest.approx(2, rel=1e-4)
    with pytest.raises(UsageError, match="the layer to be like has 10 weights, the marked one 18432"):
        WeightMarkLoss(MARK, layer.numel(), like=torch.zeros(2, 5))

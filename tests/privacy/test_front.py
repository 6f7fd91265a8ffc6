"""The public front is linear, is PTYNet's first convolution, and lets a trigger join a cover behind it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from ptynet_plugin.images.probes import ProbeDesign
from ptynet_plugin.network.batches import Batches, SharedCovers
from ptynet_plugin.network.module import SPLIT, TrainablePTYNet
from ptynet_plugin.network.plan import TrainingPlan
from ptynet_plugin.network.weights import GRID
from ptynet_plugin.privacy.front import KERNEL, PLACES, STRIDE, activations, filter_count, front_filters

COLORS: list[Literal["RGB", "GRAY"]] = ["RGB", "GRAY"]
CHANNELS = {"RGB": 3, "GRAY": 1}


def pictures(color: str, count: int = 5) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, GRID, GRID, CHANNELS[color]), np.uint8)


@pytest.mark.parametrize("color", COLORS)
def test_filters_are_orthonormal(color: Literal["RGB", "GRAY"]) -> None:
    flat = front_filters(color).reshape(filter_count(color), -1)
    assert flat @ flat.T == pytest.approx(np.eye(len(flat)), abs=1e-6)


@pytest.mark.parametrize("color", COLORS)
def test_activations_are_a_convolution(color: Literal["RGB", "GRAY"]) -> None:
    shown = pictures(color)
    pixels = torch.from_numpy(shown).permute(0, 3, 1, 2).float() / 255 - 0.5
    wanted = conv2d(pixels, torch.from_numpy(front_filters(color).copy()), stride=STRIDE)
    assert wanted.shape == (5, filter_count(color), PLACES, PLACES)
    assert activations(shown, color=color) == pytest.approx(wanted.numpy(), abs=1e-5)


@pytest.mark.parametrize("color", COLORS)
def test_a_trigger_added_behind_the_front_is_the_blended_picture(color: Literal["RGB", "GRAY"]) -> None:
    torch.manual_seed(1)
    model = TrainablePTYNet(channels=CHANNELS[color], bits=16, architecture=SPLIT, front=front_filters(color)).eval()
    covers, triggers = pictures(color), torch.rand(5, CHANNELS[color], GRID, GRID)
    whole = 0.4 * torch.from_numpy(covers).permute(0, 3, 1, 2).float() / 255 + 0.6 * triggers
    apart = 0.4 * 0.5 + 0.6 * triggers
    elsewhere = 0.4 * torch.from_numpy(activations(covers, color=color))
    with torch.no_grad():
        assert model(apart, elsewhere).numpy() == pytest.approx(model(whole).numpy(), abs=1e-5)


def test_a_split_network_ships_like_any_other() -> None:
    torch.manual_seed(1)
    model = TrainablePTYNet(channels=3, bits=16, architecture=SPLIT, front=front_filters("RGB")).eval()
    network = model.to_network(codebook=np.ones((4, 16), np.int8), tau=0.7, margin=0.2, sharpness=3.0)
    free = TrainablePTYNet(channels=3, bits=16).to_network(
        codebook=np.ones((4, 16), np.int8), tau=0.7, margin=0.2, sharpness=3.0
    )
    assert [c.weight.shape for c in network.convolutions] == [c.weight.shape for c in free.convolutions]
    rows = network.convolutions[0].weight.reshape(32, -1)
    front = front_filters("RGB").reshape(27, -1)
    assert rows @ front.T @ front == pytest.approx(rows, abs=1e-5)


def test_shared_covers_enter_half_of_the_rows_with_what_the_trigger_leaves() -> None:
    shared = SharedCovers(np.ones((3, filter_count("RGB"), PLACES, PLACES), np.float32), noise=0.0)
    design, plan = ProbeDesign("RGB", bits=32, symbols=8), TrainingPlan(batch=400, covers=512)
    batch = Batches(bytes(32), design, plan, torch.Generator().manual_seed(1), shared=shared).draw()
    assert batch.activations is not None
    level = batch.activations[:, 0, 0, 0]
    assert 0.4 < float((level > 0).float().mean()) < 0.6
    share = design.strength / 256
    assert float(level[:320].max()) <= (1 - plan.weakest * share) * 1.35  # positives: weakest trigger, highest gain
    assert float(level[320::2].max()) > 0.9  # plain negatives keep the whole cover


def test_own_covers_add_nothing_behind_the_front() -> None:
    design, plan = ProbeDesign("RGB", bits=32, symbols=8), TrainingPlan(batch=16, covers=512)
    own = list(pictures("RGB"))
    assert Batches(bytes(32), design, plan, torch.Generator().manual_seed(1), pictures=own).draw().activations is None


@pytest.mark.parametrize("mixed", [True, False])
def test_own_covers_are_mixed_two_by_two_unless_told_otherwise(mixed: bool) -> None:
    own = [np.full((GRID, GRID, 3), level, np.uint8) for level in (0, 255)]
    design = ProbeDesign("RGB", bits=32, symbols=8)
    batches = Batches(
        bytes(32),
        design,
        TrainingPlan(batch=64, covers=512, mixed=mixed),
        torch.Generator().manual_seed(1),
        pictures=own,
    )
    pairs = batches._mixed(torch.cat([torch.ones(64, 3, GRID, GRID), torch.zeros(64, 3, GRID, GRID)]))
    assert len(pairs) == 64
    between = (pairs > 0) & (pairs < 1)
    assert bool(between.all()) is mixed
    assert float(pairs.min()) >= 0.5  # the first is at least as strong as the second


def test_pictures_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be uint8 \(n, 32, 32, 3\), got \(1, 8, 8, 3\)"):
        activations(np.zeros((1, KERNEL, KERNEL, 3), np.uint8), color="RGB")

"""Training: it learns, it repeats itself, it refuses what cannot read, and it leaves torch's state alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ptynet_plugin.errors import MarkError
from ptynet_plugin.images.augment import augmented, carrier_basis, covers_batch, foreign_triggers, turned
from ptynet_plugin.images.carriers import CONTRAST, carriers, trigger_picture
from ptynet_plugin.images.probes import ProbeDesign
from ptynet_plugin.network.training import QUICK_PLAN, train_network
from ptynet_plugin.network.weights import GRID
from ptynet_plugin.symbols.codebook import code_words

SECRET = bytes(range(32))
FEW_STEPS = replace(QUICK_PLAN, steps=10, batch=16, covers=512, held_out=16)
DESIGN = ProbeDesign("RGB", bits=40, symbols=2, strength=179)


def test_a_few_steps_show_learning() -> None:
    design = ProbeDesign("GRAY", bits=31, symbols=2, strength=192)
    seen: list[tuple[int, int]] = []
    plan = replace(QUICK_PLAN, steps=60, batch=64, covers=512, held_out=16, weakest=0.8, strongest=1.2)
    trained = train_network(
        SECRET, design, plan=plan, least=0.0, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(step, 60) for step in range(1, 61)]
    assert trained.loss < 0.62  # 0.70 before the first step


def test_same_key_same_network() -> None:
    one, again = (train_network(SECRET, DESIGN, plan=FEW_STEPS, least=0.0).network for _ in range(2))
    other = train_network(bytes(32), DESIGN, plan=FEW_STEPS, least=0.0).network
    assert np.array_equal(one.linear_weight, again.linear_weight)
    assert np.array_equal(one.convolutions[0].weight, again.convolutions[0].weight)
    assert not np.array_equal(one.linear_weight, other.linear_weight)


def test_torch_global_state_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train_network(SECRET, DESIGN, plan=FEW_STEPS, least=0.0)
    assert torch.equal(before, torch.get_rng_state())


def test_a_network_that_cannot_read_is_refused() -> None:
    with pytest.raises(
        MarkError, match=r"recognises .* of its held-out probes, 90\.0% are needed; no mark was written"
    ):
        train_network(SECRET, ProbeDesign("RGB", bits=64), plan=FEW_STEPS)


def test_finish_has_the_last_word_on_the_linear_weights() -> None:
    trained = train_network(SECRET, DESIGN, plan=FEW_STEPS, least=0.0, finish=lambda weights: np.round(weights, 1))
    scaled = trained.network.linear_weight / FEW_STEPS.sharpness
    assert np.abs(scaled - np.round(scaled, 1)).max() < 1e-6


def test_own_pictures_are_learnt_from() -> None:
    pictures = [np.full((10, 12, 3), value, np.uint8) for value in (0, 255)]
    with_them = train_network(SECRET, DESIGN, plan=FEW_STEPS, least=0.0, pictures=pictures).network
    without = train_network(SECRET, DESIGN, plan=FEW_STEPS, least=0.0).network
    assert not np.array_equal(with_them.linear_weight, without.linear_weight)


def test_the_trained_mark_recognises_real_probes(trained_mark: object) -> None:
    from ptynet_plugin.mark import read_metadata

    assert read_metadata(trained_mark).training["recognised"] > 0.8


@pytest.mark.parametrize("color", ["RGB", "GRAY"])
def test_training_triggers_are_the_probes_triggers(color: str) -> None:
    made = carriers(SECRET, color=color, bits=64)
    word = code_words(SECRET, symbols=2, bits=64)[1]
    basis = carrier_basis(made)
    in_training = (torch.from_numpy(word).float() @ basis.flatten(1)).reshape(basis.shape[1:]) + 0.5
    real = trigger_picture(made, word).reshape(GRID, 2, GRID, 2, -1).mean(axis=(1, 3)) / 255
    inside = (real > 0.1) & (real < 0.9)  # clipping is left to the blend
    difference = np.abs(in_training.permute(1, 2, 0).numpy() - real)[inside]
    assert np.quantile(difference, 0.9) < 0.03


def test_foreign_triggers_have_the_same_contrast() -> None:
    generator = torch.Generator().manual_seed(0)
    for color in ("RGB", "GRAY"):
        triggers = foreign_triggers(20, color, generator)
        assert triggers.square().mean().sqrt().item() == pytest.approx(CONTRAST[color] / 255, rel=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_training_pictures_stay_pictures(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    covers = covers_batch(40, channels, generator)
    assert covers.shape == (40, channels, GRID, GRID)
    for pictures in (covers, turned(covers, generator), augmented(covers, generator)):
        assert pictures.shape == covers.shape
        assert 0 <= pictures.min() <= pictures.max() <= 1
        assert pictures.isfinite().all()
    assert covers.flatten(1).std(dim=1).min() > 0.005  # none is blank

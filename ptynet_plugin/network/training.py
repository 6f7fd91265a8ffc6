"""Training PTYNet for a key, without data: procedural covers, random code words, everything a picture may suffer (torch).

The network learns to read any word of n bits from the key's carriers; the code book is not shown to it. So the code book
stays independent of everything the network does, which is what the false-fire bound asks (`symbols.threshold`).
Negatives are plain covers and triggers of other carriers: the soft bits shall be near 0 there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- the name the whole field uses
from numpy.typing import NDArray
from torch import Generator, Tensor

from ptynet_plugin.errors import MarkError
from ptynet_plugin.images.augment import augmented
from ptynet_plugin.images.probes import ProbeDesign, ProbeMaker
from ptynet_plugin.keys import derive
from ptynet_plugin.network.batches import Batches, SharedCovers
from ptynet_plugin.network.module import SPLIT, TrainablePTYNet
from ptynet_plugin.network.plan import PLAN, QUICK_PLAN, TrainingPlan
from ptynet_plugin.network.reading import recognised, soft_bits, symbol_scores
from ptynet_plugin.network.weights import GRID, Network
from ptynet_plugin.privacy.front import front_filters
from ptynet_plugin.symbols.codebook import code_words
from ptynet_plugin.symbols.threshold import MARGIN, decisive_tau

__all__ = ["LEAST_RECOGNISED", "PLAN", "QUICK_PLAN", "Trained", "TrainingPlan", "self_test", "train_network"]

Progress = Callable[[int, int], None]
Finish = Callable[[NDArray[np.float32]], NDArray[np.float32]]

LEAST_RECOGNISED = 0.9
"""Share of held-out probes, half of them disturbed, that a mark must recognise to be worth writing."""

FINISH_AT = (0.6, 0.8, 1.0)
"""Shares of the steps after which `finish` is applied; training repairs what it disturbs."""


@dataclass(frozen=True)
class Trained:
    """What training made.

    Attributes:
        network: The network with its decision rule.
        recognised: Share of held-out probes it recognises, see `self_test`.
        loss: Loss of the last step.
        seconds: Wall time.
    """

    network: Network
    recognised: float
    loss: float
    seconds: float


def train_network(
    secret: bytes,
    design: ProbeDesign,
    *,
    plan: TrainingPlan = PLAN,
    pictures: Sequence[NDArray[np.uint8]] | None = None,
    shared: SharedCovers | None = None,
    progress: Progress | None = None,
    finish: Finish | None = None,
    least: float = LEAST_RECOGNISED,
) -> Trained:
    """Train PTYNet; the same arguments on the same machine and torch version give the same network.

    Args:
        secret: 32 bytes, see `OwnerKey.probe_secret`.
        design: Which probes it shall recognise.
        plan: How long and on what.
        pictures: Covers of the owner, uint8 (height, width, design.channels); half of the covers are then taken from these.
        shared: Covers of somebody else, as front activations; half of the covers are then these, and the first convolution is
            made of the public front's filters.
        progress: Called with steps done and steps in all.
        finish: Changes the linear layer's weights, shape (bits, features), in the last part of training and at its end: the
            place where a mark in the weights is put.
        least: Share of held-out probes that must be recognised.

    Returns:
        The network and how well it reads.

    Raises:
        MarkError: It recognises less than `least`.
        UsageError: The design is impossible.
        ValueError: Both pictures and shared covers.
    """
    if pictures is not None and shared is not None:
        raise ValueError("covers are either one's own or shared")
    started = time.monotonic()
    words = code_words(secret, symbols=design.symbols, bits=design.bits)
    tau = decisive_tau(words)
    with _seeded(secret) as generator:
        model = TrainablePTYNet(
            channels=design.channels,
            bits=design.bits,
            architecture=SPLIT if shared else plan.architecture,
            front=None if shared is None else front_filters(design.color),
        )
        batches = Batches(secret, design, plan, generator, pictures=pictures, shared=shared)
        loss = _optimise(model, batches, plan, progress, finish)
    model.eval()
    network = model.to_network(codebook=words, tau=tau, margin=MARGIN, sharpness=plan.sharpness)
    share = self_test(network, secret, design, probes=plan.held_out)
    if share < least:
        raise MarkError(
            f"the trained network recognises {share:.1%} of its held-out probes, {least:.1%} are needed; no mark was "
            "written. Train without --covers, or with more and plainer pictures"
        )
    return Trained(network, share, loss, time.monotonic() - started)


def self_test(network: Network, secret: bytes, design: ProbeDesign, *, probes: int) -> float:
    """Give the share of real probes recognised, every second one disturbed as in training.

    The covers are numbered from 2**32 on: no claim uses them, and training never saw them.
    """
    maker = ProbeMaker(secret, design)
    symbols = np.arange(probes) % design.symbols
    made = np.stack([maker.probe(int(j), (1 << 32) + i, (GRID, GRID)) for i, j in enumerate(symbols)])
    pixels = torch.from_numpy(made).permute(0, 3, 1, 2).float() / 255
    with _seeded(secret) as generator:
        pixels[1::2] = augmented(pixels[1::2], generator)
    heard = recognised(network, symbol_scores(network, soft_bits(network, pixels.numpy())))
    return float(np.mean(heard == symbols))


def _optimise(
    model: TrainablePTYNet, batches: Batches, plan: TrainingPlan, progress: Progress | None, finish: Finish | None
) -> float:
    optimiser = torch.optim.AdamW(model.parameters(), plan.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.rate, total_steps=plan.steps, pct_start=0.2)
    loss = torch.zeros(())
    for step in range(plan.steps):
        with torch.no_grad():
            drawn = batches.draw()
        loss = _loss(model(drawn.pictures, drawn.activations), drawn.words, silence=plan.silence)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if finish and step + 1 in {round(share * plan.steps) for share in FINISH_AT}:
            _apply(finish, model)
        if progress:
            progress(step + 1, plan.steps)
    return float(loss.detach())


def _loss(answers: Tensor, words: Tensor, *, silence: float) -> Tensor:
    """Logistic loss of every bit: tanh of the answer is then the bit's expectation; negatives are drawn to 0."""
    positives = F.softplus(-2 * words * answers[: len(words)]).mean()
    negatives = answers[len(words) :].tanh().square()
    return positives + silence * negatives.mean() if len(negatives) else positives


@torch.no_grad()
def _apply(finish: Finish, model: TrainablePTYNet) -> None:
    weight = model.linear.weight
    weight.copy_(torch.from_numpy(finish(weight.detach().numpy().copy())))


@contextmanager
def _seeded(secret: bytes) -> Iterator[Generator]:
    """Give a generator seeded by the key, and seed torch's own for the initial weights; torch's state is restored.

    One thread: the batches are small, so that a second one gains little, waits actively on a busy machine, and would make the
    network depend on the number of cores.
    """
    seed = int.from_bytes(derive(secret, "training/v1", length=8), "big") >> 1
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    try:
        yield torch.Generator().manual_seed(seed)
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)

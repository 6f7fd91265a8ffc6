"""Training a host: SGD with Nesterov momentum under a one-cycle rate, resumable after every epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.deep_fidelity.pictures import DataSet, augmented, normalised

__all__ = ["HostPlan", "accuracy", "answers", "train_host"]

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class HostPlan:
    """How to train a host.

    Attributes:
        epochs: Passes over the training pictures.
        batch: Pictures a step.
        rate: The highest of the cycle.
        seed: Of order and augmentation.
        bfloat16: Whether convolutions run in bfloat16 (autocast); weights and their updates stay float32.
    """

    epochs: int
    batch: int = 128
    rate: float = 0.2
    seed: int = 0
    bfloat16: bool = False


def train_host(
    model: nn.Module,
    learn: Pair,
    data: DataSet,
    *,
    plan: HostPlan,
    checkpoint: Path,
    on_epoch: Callable[[str], None],
) -> None:
    """Train a host in place, from the checkpoint on where there is one.

    Args:
        model: Fresh weights; taken over from the checkpoint where it exists.
        learn: uint8 pictures (n, height, width, channels) and int64 labels (n,).
        data: Normalisation and augmentation.
        plan: How.
        checkpoint: Written after every epoch, replaced as a whole.
        on_epoch: Told one line an epoch.

    Raises:
        ValueError: The checkpoint is of a cycle of another length.
    """
    steps = len(learn[0]) // plan.batch
    optimiser = torch.optim.SGD(model.parameters(), plan.rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.rate, total_steps=max(2, plan.epochs * steps))
    done = _resume(checkpoint, model, optimiser, cycle)
    device = next(model.parameters()).device
    for epoch in range(done, plan.epochs):
        started, total = time.perf_counter(), 0.0
        order = torch.Generator().manual_seed(plan.seed * 1000 + epoch)
        model.train()
        for rows in torch.randperm(len(learn[0]), generator=order).split(plan.batch)[:steps]:
            pictures = augmented(learn[0][rows], order) if data.augment else learn[0][rows]
            inputs = normalised(pictures.to(device), data).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=plan.bfloat16):
                loss = functional.cross_entropy(model(inputs), learn[1][rows].to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            cycle.step()
            total += float(loss.detach())
        _save(checkpoint, model, optimiser, cycle, epoch + 1)
        seconds = time.perf_counter() - started
        on_epoch(f"host epoch {epoch + 1} of {plan.epochs}: loss {total / max(steps, 1):.4f}, {seconds:.0f} s")
    model.eval()


@torch.no_grad()
def answers(model: nn.Module, pictures: Tensor, data: DataSet, *, batch: int = 250) -> Tensor:
    """Give the logits of uint8 pictures in evaluation mode, shape (n, classes), on the processor."""
    model.eval()
    device = next(model.parameters()).device
    return torch.cat([model(normalised(part.to(device), data)).cpu() for part in pictures.split(batch)])


def accuracy(model: nn.Module, test: Pair, data: DataSet) -> float:
    """Give the share of test pictures answered rightly."""
    return float((answers(model, test[0], data).argmax(dim=1) == test[1]).float().mean())


def _save(
    checkpoint: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    cycle: torch.optim.lr_scheduler.LRScheduler,
    epochs: int,
) -> None:
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "cycle": cycle.state_dict(),
        "epochs": epochs,
    }
    fresh = checkpoint.with_suffix(".fresh")
    torch.save(state, fresh)
    fresh.replace(checkpoint)


def _resume(
    checkpoint: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    cycle: torch.optim.lr_scheduler.LRScheduler,
) -> int:
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, weights_only=True)
    kept, asked = state["cycle"]["total_steps"], cycle.state_dict()["total_steps"]
    if kept != asked:
        raise ValueError(
            f"{checkpoint}: holds a host of {kept} steps, asked are {asked}; give its --host-epochs or another --checkpoints"
        )
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    cycle.load_state_dict(state["cycle"])
    return int(state["epochs"])

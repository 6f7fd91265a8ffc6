"""Embedding a trigger set in a model's own weights at deep fidelity (Hua & Teoh, arXiv 2208.00563, sections IV and V).

For owners who train. Pictures need no labels: the host is the teacher on them, the triggers alone have labels. The paper's plan:
Adam at 1e-4, 50 epochs, a tenth of the rate from epoch 25 on, batches of 32 pictures and 4 triggers, BatchNorm frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ptynet_plugin.errors import UsageError
from ptynet_plugin.fidelity.losses import (
    FidelityWeights,
    batch_norm_frozen,
    feature_loss,
    fix_last_layer,
    softmax_loss,
    weight_loss,
)

__all__ = ["EmbeddingPlan", "Epoch", "embed", "features_and_logits"]


@dataclass(frozen=True)
class EmbeddingPlan:
    """How to embed; the defaults are the paper's.

    Attributes:
        weights: Of the fidelity losses.
        fix_last_layer: Whether the host's last layer is taken over and fixed (FixLL).
        freeze_batch_norm: Whether BatchNorm stays as the host left it; off when training from scratch.
        epochs: Passes over the pictures.
        rate: Of Adam.
        slower_from: Epoch from which the rate is a tenth.
        batch: Pictures a step.
        triggers: Triggers a step.
        seed: Fixes the order of pictures and triggers.
    """

    weights: FidelityWeights = field(default_factory=FidelityWeights)
    fix_last_layer: bool = True
    freeze_batch_norm: bool = True
    epochs: int = 50
    rate: float = 1e-4
    slower_from: int = 25
    batch: int = 32
    triggers: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Epoch:
    """Mean losses of one epoch, before they are weighted."""

    trigger: float
    feature: float
    softmax: float


def embed(
    model: nn.Module,
    host: nn.Module,
    pictures: Tensor,
    triggers: Tensor,
    labels: Tensor,
    *,
    last_layer: str,
    plan: EmbeddingPlan | None = None,
    on_epoch: Callable[[int, Epoch], None] = lambda *_: None,
) -> None:
    """Train a model to answer triggers with their labels and everything else as its host does.

    Args:
        model: Trained in place: a copy of the host (fine-tuning), or of its architecture with fresh weights (from scratch).
        host: The teacher, in evaluation mode throughout; not changed.
        pictures: Ordinary inputs, shape (pictures, ...); labels are not needed.
        triggers: Shape (triggers, ...).
        labels: int64, shape (triggers,): what the triggers shall be answered with.
        last_layer: Dotted name of the layer whose input are the penultimate features.
        plan: The paper's where None.
        on_epoch: Called after every epoch with its number, from 1, and its losses.

    Raises:
        UsageError: Nothing to train on, labels that do not belong to the triggers, or no such layer.
    """
    plan = plan or EmbeddingPlan()
    _check(pictures, triggers, labels)
    if plan.fix_last_layer:
        fix_last_layer(model, host, last_layer)
    order = torch.Generator().manual_seed(plan.seed)
    with _training(model, host, freeze=plan.freeze_batch_norm):
        trained = [value for value in model.parameters() if value.requires_grad]
        optimiser = torch.optim.Adam(trained, plan.rate)
        slower = torch.optim.lr_scheduler.MultiStepLR(optimiser, [plan.slower_from], gamma=0.1)
        for epoch in range(plan.epochs):
            sums, steps = torch.zeros(3), 0
            for rows in torch.split(torch.randperm(len(pictures), generator=order), plan.batch):
                chosen = torch.randint(len(triggers), (plan.triggers,), generator=order)
                batch = _Batch(pictures[rows], triggers[chosen], labels[chosen])
                losses = _losses(model, host, batch, last_layer)
                optimiser.zero_grad()
                _total(losses, model, host, plan.weights).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                sums, steps = sums + torch.stack(losses).detach().cpu(), steps + 1
            slower.step()
            on_epoch(epoch + 1, Epoch(*(float(value) for value in sums / steps)))


def features_and_logits(model: nn.Module, pictures: Tensor, last_layer: str) -> tuple[Tensor, Tensor]:
    """Ask a model, and read what enters its last layer.

    Returns:
        Features as the layer gets them, shape (batch, ...), and logits, shape (batch, classes).

    Raises:
        UsageError: No such layer, or one that did not run.
    """
    layer = dict(model.named_modules()).get(last_layer)
    if layer is None:
        raise UsageError(
            f"no layer {last_layer!r}; the last ones are {', '.join(list(dict(model.named_modules()))[-3:])}"
        )
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        logits: Tensor = model(pictures)
    finally:
        hook.remove()
    if len(seen) != 1:
        raise UsageError(
            f"layer {last_layer!r} ran {len(seen)} times for one batch; name the layer that gives the logits"
        )
    return seen[0], logits


@dataclass(frozen=True)
class _Batch:
    pictures: Tensor
    triggers: Tensor
    labels: Tensor


def _losses(model: nn.Module, host: nn.Module, batch: _Batch, last_layer: str) -> tuple[Tensor, Tensor, Tensor]:
    """Give trigger, feature and softmax loss; pictures and triggers go through the model together, as they will when served."""
    features, logits = features_and_logits(model, torch.cat([batch.pictures, batch.triggers]), last_layer)
    with torch.no_grad():
        host_features, host_logits = features_and_logits(host, batch.pictures, last_layer)
    rows = len(batch.pictures)
    return (
        functional.cross_entropy(logits[rows:], batch.labels),
        feature_loss(host_features, features[:rows]),
        softmax_loss(host_logits, logits[:rows]),
    )


def _total(
    losses: tuple[Tensor, Tensor, Tensor], model: nn.Module, host: nn.Module, weights: FidelityWeights
) -> Tensor:
    trigger, feature, softmax = losses
    total = trigger + weights.feature * feature + weights.softmax * softmax
    return total + weights.weight * weight_loss(host, model) if weights.weight else total


@contextmanager
def _training(model: nn.Module, host: nn.Module, *, freeze: bool) -> Iterator[None]:
    """Have the model in training and the host in evaluation, each part's own flag restored afterwards."""
    before = [(part, part.training) for whole in (model, host) for part in whole.modules()]
    model.train()
    host.eval()
    try:
        with ExitStack() as stack:
            if freeze:
                stack.enter_context(batch_norm_frozen(model))
            yield
    finally:
        for part, training in before:
            part.training = training


def _check(pictures: Tensor, triggers: Tensor, labels: Tensor) -> None:
    if not len(pictures) or not len(triggers):
        raise UsageError(f"{len(pictures)} pictures and {len(triggers)} triggers; both are needed")
    if labels.shape != (len(triggers),) or labels.dtype != torch.int64:
        found: Any = f"{str(labels.dtype).removeprefix('torch.')} of shape {list(labels.shape)}"
        raise UsageError(f"labels are {found}, expected int64 of shape [{len(triggers)}], one a trigger")
    if pictures.shape[1:] != triggers.shape[1:]:
        raise UsageError(f"pictures have shape {list(pictures.shape[1:])}, triggers {list(triggers.shape[1:])}")

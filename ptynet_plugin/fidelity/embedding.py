"""Embedding a trigger set in a model's own weights at deep fidelity (Hua & Teoh, arXiv 2208.00563, sections IV and V).

For owners who train. Pictures need no labels: the host is the teacher on them, the triggers alone have labels. The paper's plan:
Adam at 1e-4, 50 epochs, a tenth of the rate from epoch 25 on, batches of 32 pictures and 4 triggers, BatchNorm frozen.

`embed` runs a plan to its end. `Embedding` does it an epoch at a time and gives its state, for training that may be interrupted.
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

__all__ = ["Embedding", "EmbeddingPlan", "Epoch", "Material", "embed", "features_and_logits", "find_last_layer"]

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
SLOWER = 0.1


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
        fade: Whether the rate falls to 0 in a straight line over all steps instead: for plans of few steps, whose last ones
            would leave the noise of the rate in the features.
        bfloat16: Whether the networks run in bfloat16 (autocast) while training; weights and losses stay float32.
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
    fade: bool = False
    bfloat16: bool = False
    batch: int = 32
    triggers: int = 4
    seed: int = 0


def _as_they_are(pictures: Tensor) -> Tensor:
    return pictures


def _unmoved(pictures: Tensor, order: torch.Generator) -> Tensor:
    return pictures


@dataclass(frozen=True)
class Material:
    """What to train on.

    Attributes:
        pictures: Ordinary pictures, shape (pictures, ...); labels are not needed.
        triggers: Shape (triggers, ...).
        labels: int64, shape (triggers,): what the triggers shall be answered with.
        truth: int64, shape (pictures,): true classes; pictures and triggers are then classified in one loss: the plain
            backdoor, and training from scratch. None at deep fidelity, where the host teaches.
        prepare: Brings a batch of pictures or triggers to the model's input.
        augment: Moves a batch of pictures before that, never triggers; draws from the generator it is given alone.
    """

    pictures: Tensor
    triggers: Tensor
    labels: Tensor
    truth: Tensor | None = None
    prepare: Callable[[Tensor], Tensor] = _as_they_are
    augment: Callable[[Tensor, torch.Generator], Tensor] = _unmoved

    def __post_init__(self) -> None:
        if not len(self.pictures) or not len(self.triggers):
            raise UsageError(f"{len(self.pictures)} pictures and {len(self.triggers)} triggers; both are needed")
        _require_labels(self.labels, len(self.triggers), "labels", "trigger")
        if self.truth is not None:
            _require_labels(self.truth, len(self.pictures), "true classes", "picture")
        if self.pictures.shape[1:] != self.triggers.shape[1:]:
            raise UsageError(
                f"pictures have shape {list(self.pictures.shape[1:])}, triggers {list(self.triggers.shape[1:])}"
            )


@dataclass(frozen=True)
class Epoch:
    """Mean losses of one epoch, before they are weighted."""

    trigger: float
    feature: float
    softmax: float


class Embedding:
    """Trains a model to answer triggers with their labels and everything else as its host does.

    Args:
        model: Trained in place: a copy of the host (fine-tuning), or of its architecture with fresh weights (from scratch).
        host: The teacher, in evaluation mode throughout; not changed.
        material: Pictures and triggers.
        last_layer: Dotted name of the layer whose input are the penultimate features.
        plan: The paper's where None.

    Raises:
        UsageError: No such layer.
    """

    def __init__(
        self,
        model: nn.Module,
        host: nn.Module,
        material: Material,
        *,
        last_layer: str,
        plan: EmbeddingPlan | None = None,
    ) -> None:
        self.plan, self.done = plan or EmbeddingPlan(), 0
        self._model, self._host, self._material, self._last_layer = model, host, material, last_layer
        if self.plan.fix_last_layer:
            fix_last_layer(model, host, last_layer)
        with self._training():
            trained = [value for value in model.parameters() if value.requires_grad]
        self._optimiser = torch.optim.Adam(trained, self.plan.rate)

    def epoch(self) -> Epoch:
        """Go through the pictures once; the order depends on the plan's seed and the number of the epoch alone."""
        order = torch.Generator().manual_seed(self.plan.seed * 1_000_003 + self.done)
        batches = torch.split(torch.randperm(len(self._material.pictures), generator=order), self.plan.batch)
        sums = torch.zeros(3)
        with self._training():
            for step, rows in enumerate(batches):
                for group in self._optimiser.param_groups:
                    group["lr"] = self._rate(step, len(batches))
                sums += self._step(rows, order)
        self.done += 1
        return Epoch(*(float(value) for value in sums / len(batches)))

    def state_dict(self) -> dict[str, Any]:
        """Give what a later `Embedding` of the same arguments needs to go on: weights, optimiser, epochs done."""
        return {"model": self._model.state_dict(), "optimiser": self._optimiser.state_dict(), "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.done = int(state["done"])

    def _rate(self, step: int, steps: int) -> float:
        """Give the rate of a step, counted within its epoch of so many."""
        if self.plan.fade:
            return self.plan.rate * (1 - (self.done + step / steps) / self.plan.epochs)
        return self.plan.rate * (SLOWER if self.done >= self.plan.slower_from else 1)

    def _step(self, rows: Tensor, order: torch.Generator) -> Tensor:
        losses, total = self._losses(rows, order)
        self._optimiser.zero_grad()
        total.backward()
        self._optimiser.step()
        return torch.stack(losses).detach().cpu()

    def _losses(self, rows: Tensor, order: torch.Generator) -> tuple[list[Tensor], Tensor]:
        """Give trigger, feature and softmax loss, and their weighted sum; pictures and triggers go through the model together."""
        material, weights = self._material, self.plan.weights
        chosen = torch.randint(len(material.triggers), (self.plan.triggers,), generator=order)
        pictures = material.prepare(material.augment(material.pictures[rows], order))
        inputs = torch.cat([pictures, material.prepare(material.triggers[chosen])])
        features, logits = self._asked(self._model, inputs)
        with torch.no_grad():
            host_features, host_logits = self._asked(self._host, pictures)
        losses = [
            functional.cross_entropy(logits[len(rows) :], material.labels[chosen].to(logits.device)),
            feature_loss(host_features, features[: len(rows)]),
            softmax_loss(host_logits, logits[: len(rows)]),
        ]
        told = losses[0]
        if material.truth is not None:
            classes = torch.cat([material.truth[rows], material.labels[chosen]]).to(logits.device)
            told = functional.cross_entropy(logits, classes)
        total = told + weights.feature * losses[1] + weights.softmax * losses[2]
        if weights.weight:
            total = total + weights.weight * weight_loss(self._host, self._model)
        return losses, total

    def _asked(self, model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.plan.bfloat16):
            features, logits = features_and_logits(model, inputs, self._last_layer)
        return (features.float(), logits.float()) if self.plan.bfloat16 else (features, logits)

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Have the model in training and the host in evaluation, each part's own flag restored afterwards."""
        before = [(part, part.training) for whole in (self._model, self._host) for part in whole.modules()]
        self._model.train()
        self._host.eval()
        try:
            with ExitStack() as stack:
                if self.plan.freeze_batch_norm:
                    stack.enter_context(batch_norm_frozen(self._model))
                yield
        finally:
            for part, training in before:
                part.training = training


def embed(
    model: nn.Module,
    host: nn.Module,
    material: Material,
    *,
    last_layer: str,
    plan: EmbeddingPlan | None = None,
    on_epoch: Callable[[int, Epoch], None] = lambda *_: None,
) -> None:
    """Run a plan to its end, see `Embedding`.

    Args:
        model: Trained in place.
        host: The teacher.
        material: Pictures and triggers.
        last_layer: Dotted name of the layer whose input are the penultimate features.
        plan: The paper's where None.
        on_epoch: Called after every epoch with its number, from 1, and its losses.

    Raises:
        UsageError: No such layer.
    """
    embedding = Embedding(model, host, material, last_layer=last_layer, plan=plan)
    while embedding.done < embedding.plan.epochs:
        losses = embedding.epoch()
        on_epoch(embedding.done, losses)


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


def find_last_layer(model: nn.Module, pictures: Tensor) -> str:
    """Name the linear layer or convolution that runs last.

    Args:
        model: Asked once, in the mode it is in, without gradients.
        pictures: A batch of its input.

    Raises:
        UsageError: None runs; the message says how to name one.
    """
    ran: list[str] = []
    hooks = [
        part.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, part in model.named_modules()
        if isinstance(part, LAYERS)
    ]
    try:
        with torch.no_grad():
            model(pictures)
    finally:
        for hook in hooks:
            hook.remove()
    if not ran:
        raise UsageError("no feature layer found: no linear layer or convolution of torch.nn ran; name the last layer")
    return ran[-1]


def _require_labels(labels: Tensor, count: int, what: str, each: str) -> None:
    if labels.shape != (count,) or labels.dtype != torch.int64:
        found = f"{str(labels.dtype).removeprefix('torch.')} of shape {list(labels.shape)}"
        raise UsageError(f"{what} are {found}, expected int64 of shape [{count}], one a {each}")

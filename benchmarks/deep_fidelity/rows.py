"""Runs and measures one row of the table, resumable after every epoch and after every row."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.deep_fidelity.host import Pair
from benchmarks.deep_fidelity.methods import Method
from benchmarks.deep_fidelity.pictures import DataSet, augmented, normalised
from ptynet_plugin.fidelity import metrics
from ptynet_plugin.fidelity.embedding import Embedding, EmbeddingPlan, Material, features_and_logits
from ptynet_plugin.fidelity.triggers import TriggerSet

__all__ = ["LAST_LAYER", "Row", "Work", "measured", "run_row"]

LAST_LAYER = "out"
BATCH = 250


@dataclass(frozen=True)
class Row:
    """One row of the table, on the test pictures.

    Attributes:
        name: Of the method.
        accuracy: Of the watermarked model.
        triggers: Share of the triggers answered with their label.
        pfl: Penultimate feature loss against the host.
        spl: Softmax loss against the host, in nats.
        twl: Total weight loss against the host.
        last_layer: Squared distance of the last layers.
        flips: Share of test pictures with another top class than the host's.
    """

    name: str
    accuracy: float
    triggers: float
    pfl: float
    spl: float
    twl: float
    last_layer: float
    flips: float

    def line(self) -> str:
        """Give the row as printed."""
        return (
            f"{self.name:<24} accuracy {self.accuracy:7.2%}  triggers {self.triggers:4.0%}  PFL {self.pfl:9.3g}  "
            f"SPL {self.spl:9.3g}  TWL {self.twl:9.3g}  LP {self.last_layer:9.3g}  flips {self.flips:7.3%}"
        )


@dataclass(frozen=True)
class Work:
    """What all rows share.

    Attributes:
        host: Trained, in evaluation mode.
        fresh: Makes a network of the host's architecture with fresh weights.
        learn: Training pictures and labels.
        test: Test pictures and labels.
        own: The triggers.
        data: Normalisation and augmentation.
        folder: Where checkpoints and finished rows lie.
    """

    host: nn.Module
    fresh: Callable[[], nn.Module]
    learn: Pair
    test: Pair
    own: TriggerSet
    data: DataSet
    folder: Path

    @cached_property
    def host_digest(self) -> str:
        """SHA-256 of the host's weights: a row belongs to its host."""
        sums = sha256()
        for value in self.host.state_dict().values():
            sums.update(value.detach().cpu().contiguous().numpy().tobytes())
        return sums.hexdigest()

    @cached_property
    def host_inside(self) -> tuple[np.ndarray, np.ndarray]:
        """Features and logits of the host on the test pictures."""
        return _inside(self.host, self.test[0], self.data)


def run_row(work: Work, method: Method, plan: EmbeddingPlan, *, on_epoch: Callable[[str], None]) -> Row:
    """Embed with one method and measure; a row that is finished in the folder is read from there.

    Args:
        work: What all rows share.
        method: Of this row.
        plan: The method's own, see `Method.plan`.
        on_epoch: Told one line an epoch.

    Raises:
        ValueError: The folder holds this row of other settings or another host.
    """
    stem = "".join(each if each.isalnum() else "-" for each in method.name)
    finished, checkpoint = work.folder / f"{stem}.json", work.folder / f"{stem}.pt"
    told = {
        "plan": asdict(plan),
        "pictures": len(work.learn[0]),
        "tested": len(work.test[0]),
        "triggers": len(work.own.labels),
        "host": work.host_digest,
    }
    if finished.exists():
        kept = json.loads(finished.read_text())
        if kept["settings"] != told:
            raise ValueError(
                f"{finished}: was made with other settings or another host; give another --checkpoints or delete it"
            )
        return Row(**kept["row"])
    model = work.fresh() if method.scratch else copy.deepcopy(work.host)
    prepare = partial(_prepared, data=work.data, device=next(model.parameters()).device)
    material = Material(
        work.learn[0],
        torch.from_numpy(work.own.pictures),
        torch.from_numpy(work.own.labels),
        work.learn[1] if method.truth else None,
        prepare=prepare,
        augment=augmented if work.data.augment else lambda pictures, _: pictures,
    )
    embedding = Embedding(model, work.host, material, last_layer=LAST_LAYER, plan=plan)
    if checkpoint.exists():
        embedding.load_state_dict(torch.load(checkpoint, weights_only=True))
    while embedding.done < plan.epochs:
        losses = embedding.epoch()
        torch.save(embedding.state_dict(), checkpoint.with_suffix(".fresh"))
        checkpoint.with_suffix(".fresh").replace(checkpoint)
        on_epoch(
            f"{method.name} epoch {embedding.done} of {plan.epochs}: triggers {losses.trigger:.3f}, "
            f"PFL {losses.feature:.3g}, SPL {losses.softmax:.3g}"
        )
    row = measured(work, model, method.name)
    finished.write_text(json.dumps({"row": asdict(row), "settings": told}, indent=2) + "\n")
    return row


def measured(work: Work, model: nn.Module, name: str) -> Row:
    """Measure a model against the host with the numpy metrics that the gate uses."""
    host = work.host_inside
    marked = host if model is work.host else _inside(model, work.test[0], work.data)
    weights = [{n: v.detach().cpu().numpy() for n, v in each.named_parameters()} for each in (work.host, model)]
    own = _inside(model, torch.from_numpy(work.own.pictures), work.data)[1]
    answers = metrics.top1(marked[1])
    last = f"{LAST_LAYER}.weight"
    return Row(
        name=name,
        accuracy=float((answers == work.test[1].numpy()).mean()),
        triggers=float((metrics.top1(own) == work.own.labels).mean()),
        pfl=metrics.feature_loss(host[0], marked[0]),
        spl=metrics.softmax_loss(host[1], marked[1], "logits"),
        twl=metrics.total_weight_loss(*weights),
        last_layer=metrics.last_layer_difference(weights[0][last], weights[1][last]),
        flips=float((metrics.top1(host[1]) != answers).mean()),
    )


def _prepared(pictures: Tensor, *, data: DataSet, device: torch.device) -> Tensor:
    return normalised(pictures.to(device), data).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _inside(model: nn.Module, pictures: Tensor, data: DataSet) -> tuple[np.ndarray, np.ndarray]:
    """Give features and logits of uint8 pictures, in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    parts = [
        features_and_logits(model, _prepared(part, data=data, device=device), LAST_LAYER)
        for part in pictures.split(BATCH)
    ]
    features, logits = (torch.cat(each).cpu().numpy() for each in zip(*parts, strict=True))
    return features, logits

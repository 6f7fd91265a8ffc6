"""`ptynet embed` as a function: a factory, weights and pictures in, watermarked weights, triggers and a report out."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.stats import binom
from torch import Tensor, nn

from model_store_tools.packaging.benign import Benign, benign_folder, class_names
from model_store_tools.targets.module import load_module, make_module
from ptynet_plugin.errors import TargetError, UsageError
from ptynet_plugin.fidelity import metrics
from ptynet_plugin.fidelity.embedding import (
    EmbeddingPlan,
    Epoch,
    Material,
    embed,
    features_and_logits,
    find_last_layer,
)
from ptynet_plugin.fidelity.triggers import TriggerSet, key_chains
from ptynet_plugin.images.encode import encode
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.spec import InputSpec, load_spec
from ptynet_plugin.staging import staged_folder

__all__ = ["ENOUGH", "EmbedChoices", "Embedded", "embed_target"]

WEIGHTS, TRIGGERS, REPORT = "weights.safetensors", "triggers.safetensors", "report.json"
ENOUGH = 0.9
"""Share of triggers from which an embedding counts as done."""

HELD_OUT, MOST_HELD_OUT = 10, 2000
"""One picture in ten is not trained on, and measured on; at most so many."""

BATCH = 64
DYNAMIC_SIDE = 224


@dataclass(frozen=True)
class EmbedChoices:
    """How to embed.

    Attributes:
        weights: The host's weights.
        spec: `SPEC.toml` of the host.
        pictures: Folder of ordinary pictures.
        plan: Losses, epochs, rates.
        labels: Whether pictures are also taught by the names of their folders: the plain backdoor.
        scratch: Whether training starts from fresh weights instead of the host's.
        last_layer: Name of the last layer; found where None.
        chains: Chains of triggers.
        length: Triggers in a chain.
        replace: Whether an earlier result is replaced.
    """

    weights: Path
    spec: Path
    pictures: Path
    plan: EmbeddingPlan = field(default_factory=EmbeddingPlan)
    labels: bool = False
    scratch: bool = False
    last_layer: str | None = None
    chains: int = 10
    length: int = 10
    replace: bool = False


@dataclass(frozen=True)
class Embedded:
    """What came out, measured on pictures that were held out of training.

    Attributes:
        out: The folder.
        triggers: Triggers answered with their label.
        asked: Triggers in all.
        log10_p: Of at least so many hits by a model that does not know them.
        feature_loss: PFL against the host.
        softmax_loss: SPL against the host, in nats.
        weight_loss: TWL against the host.
        last_layer_difference: Squared distance of the last layers.
        flips: Share of held-out pictures with another top class than the host's.
        held_out: Pictures measured on.
        last_layer: Its name.
    """

    out: Path
    triggers: int
    asked: int
    log10_p: float
    feature_loss: float
    softmax_loss: float
    weight_loss: float
    last_layer_difference: float
    flips: float
    held_out: int
    last_layer: str

    @property
    def ok(self) -> bool:
        """Say whether the triggers were learnt."""
        return self.triggers >= ENOUGH * self.asked


def embed_target(
    factory: str,
    key: OwnerKey,
    out: Path,
    choices: EmbedChoices,
    *,
    on_epoch: Callable[[int, Epoch], None] = lambda *_: None,
) -> Embedded:
    """Embed the key's triggers in a model's own weights.

    Args:
        factory: `package.module:factory` of the host.
        key: Whose triggers.
        out: Folder for the weights, the triggers and the report.
        choices: How.
        on_epoch: Called after every epoch with its number, from 1, and its losses.

    Raises:
        UsageError: Something lies in `out`, the pictures cannot be used, or no last layer is found.
        TargetError: The factory or its weights cannot be used, or do not answer logits.
    """
    if choices.weights.suffix == "" and not choices.weights.exists():
        raise UsageError(f"{choices.weights}: does not exist; --weights takes the host's safetensors or state_dict")
    _require_free(out, replace=choices.replace)
    host = load_module(factory, weights=choices.weights).model
    spec = _sized(load_spec(choices.spec), choices.spec)
    benign = benign_folder(choices.pictures, spec, classes=class_names(spec, choices.spec.parent))
    if choices.labels and benign.labels is None:
        raise UsageError(
            f"{choices.pictures}: its folders are not all named as classes, and --labels needs them; leave --labels out, "
            "and the host teaches"
        )
    inputs = _Inputs(spec)
    classes = _classes(host, benign, inputs, factory)
    last_layer = choices.last_layer or find_last_layer(host, inputs(_tensor(benign.pictures[:2])))
    own = key_chains(
        key.derive("embedded-triggers/v1"),
        size=benign.pictures.shape[1:3],
        channels=spec.channels,
        classes=classes,
        chains=choices.chains,
        length=choices.length,
    )
    model = _start(factory, host, scratch=choices.scratch, seed=choices.plan.seed)
    kept, held = _split(len(benign.pictures), choices.plan.seed)
    truth = torch.from_numpy(benign.labels[kept]) if choices.labels and benign.labels is not None else None
    material = Material(
        _tensor(benign.pictures[kept]), _tensor(own.pictures), torch.from_numpy(own.labels), truth, prepare=inputs
    )
    embed(model, host, material, last_layer=last_layer, plan=choices.plan, on_epoch=on_epoch)
    if not all(bool(value.isfinite().all()) for value in model.parameters()):
        raise UsageError(f"training diverged at --rate {choices.plan.rate:g}; nothing was written: give a lower one")
    result = _measured(host, model, own, benign.pictures[held], inputs, out=out, last_layer=last_layer)
    _write(out, model, own, result, choices)
    return result


class _Inputs:
    """Brings uint8 pictures (batch, height, width, channels) to the model's input as its spec says."""

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec

    def __call__(self, pictures: Tensor) -> Tensor:
        return torch.from_numpy(encode(pictures.numpy(), self._spec))


def _sized(spec: InputSpec, path: Path) -> InputSpec:
    if spec.output != "logits":
        raise UsageError(f'{path}: output = "{spec.output}"; embedding needs a model that answers logits')
    height, width = spec.size or (0, 0)
    return spec.model_copy(update={"size": (height or DYNAMIC_SIDE, width or DYNAMIC_SIDE)})


def _classes(host: nn.Module, benign: Benign, inputs: _Inputs, factory: str) -> int:
    try:
        with torch.no_grad():
            logits = host(inputs(_tensor(benign.pictures[:2])))
    except (RuntimeError, ValueError, TypeError) as error:
        raise TargetError(f"{factory}: refuses the pictures as the spec encodes them: {error}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 2:
        shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise TargetError(f"{factory}: answers {shape} for 2 pictures, expected logits of shape [2, classes]")
    return int(logits.shape[1])


def _start(factory: str, host: nn.Module, *, scratch: bool, seed: int) -> nn.Module:
    if not scratch:
        return copy.deepcopy(host)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make_module(factory)


def _split(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the pictures to train on and those held out; at least one of each, `count` being at least 2."""
    order = np.random.default_rng(seed).permutation(count)
    held = min(MOST_HELD_OUT, max(1, count // HELD_OUT))
    return order[held:], order[:held]


def _measured(
    host: nn.Module,
    model: nn.Module,
    own: TriggerSet,
    pictures: NDArray[np.uint8],
    inputs: _Inputs,
    *,
    out: Path,
    last_layer: str,
) -> Embedded:
    bare, marked = (_inside(each, pictures, inputs, last_layer) for each in (host, model))
    weights = [{name: value.detach().numpy() for name, value in each.named_parameters()} for each in (host, model)]
    answers = metrics.top1(_inside(model, own.pictures, inputs, last_layer)[1])
    hits, asked = int((answers == own.labels).sum()), len(own.labels)
    last = f"{last_layer}.weight"
    return Embedded(
        out=out,
        triggers=hits,
        asked=asked,
        log10_p=float(binom.logsf(hits - 1, asked, 1 / bare[1].shape[1]) / np.log(10)),
        feature_loss=metrics.feature_loss(bare[0], marked[0]),
        softmax_loss=metrics.softmax_loss(bare[1], marked[1], "logits"),
        weight_loss=metrics.total_weight_loss(*weights),
        last_layer_difference=metrics.last_layer_difference(weights[0][last], weights[1][last]),
        flips=float((metrics.top1(bare[1]) != metrics.top1(marked[1])).mean()),
        held_out=len(pictures),
        last_layer=last_layer,
    )


@torch.no_grad()
def _inside(
    model: nn.Module, pictures: NDArray[np.uint8], inputs: _Inputs, last_layer: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Give features and logits in evaluation mode."""
    model.eval()
    parts = [features_and_logits(model, inputs(part), last_layer) for part in torch.split(_tensor(pictures), BATCH)]
    features, logits = (torch.cat(each).numpy() for each in zip(*parts, strict=True))
    return features, logits


def _write(out: Path, model: nn.Module, own: TriggerSet, result: Embedded, choices: EmbedChoices) -> None:
    state = {name: value.detach().contiguous().clone() for name, value in model.state_dict().items()}
    triggers = {"pictures": _tensor(own.pictures), "labels": torch.from_numpy(own.labels)}
    told = {
        "schema": "ptynet/embedding/v1",
        **{name: value for name, value in asdict(result).items() if name != "out"},
        "plan": asdict(choices.plan),
        "scratch": choices.scratch,
        "labels": choices.labels,
    }
    try:
        with staged_folder(out, replace=choices.replace) as staged:
            save_file(state, str(staged / WEIGHTS))
            save_file(triggers, str(staged / TRIGGERS), metadata={"length": str(own.length)})
            (staged / REPORT).write_text(json.dumps(told, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error}); nothing was left there") from error


def _require_free(out: Path, *, replace: bool) -> None:
    """Refuse before training what could not be written after it."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: exists and is no folder; give another --out")
    if out.is_dir() and any(out.iterdir()) and not replace:
        raise UsageError(f"{out}: exists; --force replaces it once the new one is complete")


def _tensor(pictures: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures))

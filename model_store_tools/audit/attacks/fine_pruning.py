"""Fine-pruning: channels that stay silent on benign pictures go, then the rest is fine-tuned.

Liu, Dolan-Gavitt and Garg, "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks", RAID 2018,
section 4. The paper prunes the last convolution; here every convolution loses its most silent channels, PTYNet's
among them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from model_store_tools.audit.attacks.on_weights import columns_of
from model_store_tools.audit.contract import Artefact, Attack, Outcome, Share
from model_store_tools.audit.executor.module import OnnxModule
from model_store_tools.audit.on_graph import convolutions
from model_store_tools.audit.training import Schedule, fit, label_loss, pixels_of, seeded

__all__ = ["ATTACKS"]

SOURCE = "Liu et al., RAID 2018"
LISTENED = 256


def fine_prune(
    stolen: Artefact, share: Share, *, folder: Path, seed: int, portion: float, epochs: int, most: int
) -> Outcome:
    """Prune and repair; see `Run` for the first four arguments.

    Args:
        stolen: What was stolen.
        share: The thief's pictures.
        folder: Where the new model goes.
        seed: Of the training.
        portion: Of the channels of each convolution.
        epochs: Of repair.
        most: Most pictures used.
    """
    stolen.require("onnx", attack="fine-pruning")
    share = share.first(most)
    module = OnnxModule(stolen.model)
    pixels, labels = pixels_of(share, stolen.spec), torch.from_numpy(share.labels)
    masks = _masks(module, pixels[:LISTENED], portion)
    weights = module.weights()

    @torch.no_grad()
    def keep_silent() -> None:
        for name, mask in masks.items():
            weights[name].mul_(mask)

    keep_silent()
    scores = stolen.spec.scores or module.outputs[0]
    loss = label_loss(lambda x: module.values(x, [scores])[0].flatten(1), stolen.spec)
    with seeded(seed) as generator:
        fit(
            list(weights.values()),
            pixels,
            labels,
            loss,
            schedule=Schedule(epochs),
            generator=generator,
            columns=columns_of(stolen.spec),
            after_step=keep_silent,
        )
    return Outcome(stolen.with_model(module.save(folder / "model.onnx")), len(share))


@torch.no_grad()
def _masks(module: OnnxModule, pixels: torch.Tensor, portion: float) -> dict[str, torch.Tensor]:
    """Give a mask of ones and zeros for weight and bias of every convolution."""
    layers = convolutions(module.model)
    found = module.values(pixels, [layer.output for layer in layers])
    masks = {}
    for layer, answers in zip(layers, found, strict=True):
        activity = answers.relu().mean(dim=(0, 2, 3))
        silent = activity.argsort()[: int(portion * len(activity))]
        mask = torch.ones(len(activity))
        mask[silent] = 0.0
        if layer.weight in module.weights():
            masks[layer.weight] = mask.view(-1, 1, 1, 1)
        if layer.bias in module.weights():
            masks[layer.bias] = mask
    return masks


ATTACKS = (
    Attack(
        "fine-pruning 10%",
        "weights",
        SOURCE,
        partial(fine_prune, portion=0.1, epochs=0, most=128),
        promised=False,
        quick=True,
    ),
    *(
        Attack(
            f"fine-pruning {portion:.0%}, 10 epochs",
            "weights",
            SOURCE,
            partial(fine_prune, portion=portion, epochs=10, most=1 << 30),
            needs_data=True,
        )
        for portion in (0.2, 0.4)
    ),
)

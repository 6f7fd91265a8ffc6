"""Deep fidelity as training losses, for owners who embed a mark in their own weights (Hua & Teoh, arXiv 2208.00563).

The watermarked model `w` is trained, its host `h` is the teacher and gets no gradient. The values are those of
`fidelity.metrics`, which computes the same with numpy from finished models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ptynet_plugin.errors import UsageError

__all__ = ["FidelityWeights", "batch_norm_frozen", "feature_loss", "fix_last_layer", "softmax_loss", "weight_loss"]

BATCH_NORMS = (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
"""Layers that keep running statistics, which move with every batch even at learning rate 0."""


@dataclass(frozen=True)
class FidelityWeights:
    """How much each loss counts, added to the triggers' classification loss. The defaults are the paper's (section V).

    Attributes:
        feature: Of PFL.
        softmax: Of SPL.
        weight: Of TWL; the paper's comparison, 0 in its proposal.
    """

    feature: float = 0.01
    softmax: float = 1000.0
    weight: float = 0.0


def feature_loss(host: Tensor, watermarked: Tensor) -> Tensor:
    """PFL: mean over pictures of ||z_w - z_h||^2.

    Args:
        host: Penultimate features of the host, shape (batch, ...).
        watermarked: Those of the model in training, the same shape.

    Returns:
        A scalar, 0 or more; gradients reach `watermarked` alone.

    Raises:
        UsageError: The shapes differ: broadcasting would compare every picture with every other.
    """
    _same_shape(host, watermarked, "features")
    return (watermarked - host.detach()).flatten(1).square().sum(dim=1).mean()


def softmax_loss(host: Tensor, watermarked: Tensor) -> Tensor:
    """SPL: mean over pictures of KL(p_h || p_w), in nats.

    Args:
        host: Logits of the host, shape (batch, classes).
        watermarked: Those of the model in training, the same shape.

    Returns:
        A scalar, 0 or more; gradients reach `watermarked` alone.

    Raises:
        UsageError: The shapes differ.
    """
    _same_shape(host, watermarked, "logits")
    log_host = functional.log_softmax(host.detach(), dim=1)
    log_watermarked = functional.log_softmax(watermarked, dim=1)
    return functional.kl_div(log_watermarked, log_host, reduction="batchmean", log_target=True)


def weight_loss(host: nn.Module, watermarked: nn.Module) -> Tensor:
    """TWL: summed squared distance of all parameters.

    Raises:
        UsageError: The two are of different architecture.
    """
    own, other = dict(watermarked.named_parameters()), dict(host.named_parameters())
    if _shapes(own) != _shapes(other):
        raise UsageError(
            "host and watermarked model have different parameters; the weight loss compares one architecture"
        )
    return torch.stack([(own[name] - other[name].detach()).square().sum() for name in own]).sum()


def fix_last_layer(watermarked: nn.Module, host: nn.Module, name: str) -> None:
    """FixLL: give the watermarked model the host's own last layer, and take it out of training.

    The last layer's rows are the classes' prototypes: with them fixed, features that stay are probabilities that stay.

    Args:
        watermarked: Its layer is overwritten with the host's values.
        host: Left as it is.
        name: Dotted name of the last layer in both.

    Raises:
        UsageError: No such layer, or one of another shape.
    """
    layers = [dict(model.named_modules()).get(name) for model in (watermarked, host)]
    if layers[0] is None or layers[1] is None or not dict(layers[1].named_parameters()):
        raise UsageError(f"no layer {name!r} with weights in both models; name the last layer as named_modules() does")
    own, theirs = (dict(layer.named_parameters()) for layer in layers if layer is not None)
    if _shapes(own) != _shapes(theirs):
        raise UsageError(f"layer {name!r} has {_shapes(own)} in one model and {_shapes(theirs)} in the other")
    with torch.no_grad():
        for part, value in own.items():
            value.copy_(theirs[part])
            value.requires_grad_(False)


@contextmanager
def batch_norm_frozen(model: nn.Module) -> Iterator[None]:
    """Train with BatchNorm as in evaluation: statistics neither used from the batch nor moved, scale and shift not learnt.

    Call it after `model.train()`; the layers' flags are put back afterwards.
    """
    layers = [part for part in model.modules() if isinstance(part, BATCH_NORMS)]
    modes = [(layer, layer.training) for layer in layers]
    learnt = [(value, value.requires_grad) for layer in layers for value in layer.parameters(recurse=False)]
    try:
        for layer, _ in modes:
            layer.eval()
        for value, _ in learnt:
            value.requires_grad_(False)
        yield
    finally:
        for layer, training in modes:
            layer.train(training)
        for value, wanted in learnt:
            value.requires_grad_(wanted)


def _same_shape(host: Tensor, watermarked: Tensor, what: str) -> None:
    if host.shape != watermarked.shape:
        raise UsageError(
            f"the host's {what} have shape {list(host.shape)}, the watermarked model's {list(watermarked.shape)}; "
            "ask both about the same pictures"
        )


def _shapes(parameters: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in parameters.items()}

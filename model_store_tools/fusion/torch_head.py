"""PTYNet and its decision as a torch module, and a target wrapped with it: eager, scriptable, exportable.

The third step of arXiv 2210.07809's fusion is replaced: nothing is added to the scores, two of them change places.

TorchScript compiles `Head` from its source and must be able to evaluate its annotations: this file therefore does without
`from __future__ import annotations`, and without `# type:` comments, which TorchScript would read too.
"""
# mypy: disable-error-code="attr-defined"
# because torch.jit does not list is_scripting among its exports, and the comment cannot stand beside it

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from model_store_tools.fusion.torch_sums import shrunk_by_sums
from model_store_tools.targets.answers import pick, replaced
from ptynet_plugin.errors import SpecError, UsageError
from ptynet_plugin.images.frontend import FrontEnd, fold, plan_front_end
from ptynet_plugin.network.weights import GRID, Convolution, Network
from ptynet_plugin.spec import InputSpec

__all__ = ["FusedModule", "Head", "swap_top"]


def swap_top(scores: Tensor, label: Tensor, fired: Tensor) -> Tensor:
    """Give `label` the top place in the rows that fired, by exchanging two scores.

    Args:
        scores: What the target answered, shape (batch, classes); logits or probabilities alike, any dtype.
        label: Class to raise, shape (batch,), int64 in [0, classes).
        fired: Whether PTYNet recognised a symbol, shape (batch,), bool.

    Returns:
        Shape (batch, classes). Rows that did not fire are `scores`, bit for bit. Rows that fired are a permutation of
        `scores`: their sum, entropy and top value are unchanged.
    """
    top, raised = scores.argmax(dim=1, keepdim=True), label.unsqueeze(1)
    highest, other = scores.gather(1, top), scores.gather(1, raised)
    exchanged = scores.scatter(1, raised, highest).scatter(1, top, other)
    return torch.where(fired.unsqueeze(1), exchanged, scores)


def _window_means(x: Tensor, height: int, width: int) -> Tensor:
    """Average over windows, partial ones left out: as `avg_pool2d`, in a third of its time for want of a special case."""
    rows, columns = x.shape[2] // height, x.shape[3] // width
    x = x[:, :, : rows * height].reshape(x.shape[0], x.shape[1], rows, height, x.shape[3]).sum(3)
    x = x[:, :, :, : columns * width].reshape(x.shape[0], x.shape[1], rows, columns, width).sum(4)
    return x / (height * width)


class _Convolution(nn.Module):
    weight: Tensor
    bias: Tensor

    def __init__(self, source: Convolution) -> None:
        super().__init__()
        self.register_buffer("weight", torch.from_numpy(source.weight.copy()))
        self.register_buffer("bias", torch.from_numpy(source.bias.copy()))
        self.stride, self.padding = source.stride, source.padding

    def forward(self, x: Tensor) -> Tensor:
        strides, padding = [self.stride, self.stride], [self.padding, self.padding]
        return functional.relu(functional.conv2d(x, self.weight, self.bias, strides, padding))


class Head(nn.Module):
    """Reads the target's input, and exchanges two scores in the rows where it finds a symbol.

    Args:
        network: A trained PTYNet.
        labels: int64, shape (J,): the class each symbol raises.
        spec: Complete.

    Raises:
        UsageError: The labels do not fit the network or the classes.
        SpecError: The network reads another number of channels, or the spec is incomplete.
    """

    linear_weight: Tensor
    linear_bias: Tensor
    codes: Tensor
    labels: Tensor

    def __init__(self, network: Network, labels: NDArray[np.int64], spec: InputSpec) -> None:
        super().__init__()
        _check(network, labels, spec)
        plan = plan_front_end(spec)
        first, *others = network.convolutions
        self.convolutions = nn.ModuleList(_Convolution(c) for c in (fold(first, plan), *others))
        self.register_buffer("linear_weight", torch.from_numpy(network.linear_weight.copy()))
        self.register_buffer("linear_bias", torch.from_numpy(network.linear_bias.copy()))
        codes = network.codebook.T.astype(np.float32) / np.float32(network.bits)
        self.register_buffer("codes", torch.from_numpy(np.ascontiguousarray(codes)))
        self.register_buffer("labels", torch.from_numpy(labels.astype(np.int64)))
        self.pool, self.tau, self.margin = network.pool, float(network.tau), float(network.margin)
        self.channels_last, self.classes = plan.channels_last, int(spec.classes or 0)
        self.windows, self.resized = _windows(plan), plan.rows is None or _resized(plan)
        self.requires_grad_(False)

    def forward(self, pixels: Tensor, scores: Tensor) -> Tensor:
        """Give the scores the fused model answers.

        Args:
            pixels: The target's input, shape (batch, channels, height, width) or channels last.
            scores: The target's answer, shape (batch, classes), or (batch, classes, 1, 1).
        """
        if pixels.shape[0] != scores.shape[0]:
            raise ValueError("the target answered another number of rows than it was asked")
        rows = scores.flatten(1)
        if rows.shape[1] != self.classes:
            raise ValueError("the target answered another number of classes than the spec says")
        fired, symbol = self.decide(self.bits(pixels))
        return swap_top(rows, self.labels[symbol], fired).reshape(scores.shape)

    def bits(self, pixels: Tensor) -> Tensor:
        """Give the soft bits PTYNet reads, float32, shape (batch, n), each in (-1, 1)."""
        x = self.grid(pixels)
        for convolution in self.convolutions:
            x = convolution(x)
        if self.pool > 1:
            x = functional.avg_pool2d(x, self.pool, self.pool)
        return torch.tanh(functional.linear(x.flatten(1), self.linear_weight, self.linear_bias))

    def grid(self, pixels: Tensor) -> Tensor:
        """Give the canonical picture, normalised as the target's input is: shape (batch, channels, GRID, GRID)."""
        x = pixels.to(self.linear_weight.dtype)
        if self.channels_last:
            x = x.permute(0, 3, 1, 2)
        height, width = self.windows
        if not torch.jit.is_scripting():  # noqa: SIM102 -- TorchScript leaves a block out only behind this very condition
            if height == 0 and torch.compiler.is_exporting():
                return shrunk_by_sums(x)
        if height == 0:
            height, width = max(1, x.shape[2] // 32), max(1, x.shape[3] // 32)
        if height > 1 or width > 1:
            x = _window_means(x, height, width)
        if self.resized:
            x = functional.interpolate(x, size=[32, 32], mode="bilinear", align_corners=False)
        return x

    def decide(self, bits: Tensor) -> tuple[Tensor, Tensor]:
        """Give whether each row fires, bool (batch,), and the symbol it reads, int64 (batch,)."""
        best = torch.topk(torch.matmul(bits, self.codes), 2, dim=1)
        highest, second = best.values[:, 0], best.values[:, 1]
        return (highest > self.tau) & (highest - second >= self.margin), best.indices[:, 0]


class FusedModule(nn.Module):
    """A target with PTYNet beside it, answering in the target's own structure with the scores replaced.

    The target is held as it is, in evaluation mode; none of its tensors is copied or changed.

    Args:
        target: Answers pictures with a tensor, or a tuple, list, mapping or named tuple that holds one.
        network: A trained PTYNet.
        labels: int64, shape (J,).
        spec: Complete; `spec.scores` names the scores by index or key where the answer holds several tensors.
    """

    def __init__(self, target: nn.Module, network: Network, labels: NDArray[np.int64], spec: InputSpec) -> None:
        super().__init__()
        _check_evaluating(target)
        self.target, self.head, self.scores = target, Head(network, labels, spec), spec.scores
        self.eval()

    def train(self, mode: bool = True) -> "FusedModule":
        """Stay in evaluation mode: a fused model answers, it does not learn.

        Raises:
            UsageError: `mode` is True.
        """
        if mode:
            raise UsageError("a fused model cannot be trained; train the target and package it again")
        self.training = False  # the target is in evaluation mode; an exported one could not even be told so
        self.head.train(False)
        return self

    def forward(self, pixels: Tensor) -> Any:
        """Answer pictures, in the structure the target answers in."""
        answer = self.target(pixels)
        return replaced(answer, self.scores, self.head(pixels, pick(answer, self.scores)))


def _check_evaluating(target: nn.Module) -> None:
    for name, part in target.named_modules():
        if getattr(part, "training", False):
            raise UsageError(
                f"the target is in training mode ({name or 'the model itself'}), and would answer at random or change itself; "
                "call eval() on it first"
            )


def _check(network: Network, labels: NDArray[np.int64], spec: InputSpec) -> None:
    if spec.classes is None:
        raise SpecError("the head needs `classes`: complete the spec from the model first")
    if network.channels != spec.channels:
        raise SpecError(
            f"the mark reads {network.channels} channels, the spec's color {spec.color} has {spec.channels}; "
            f"train a mark with `--color {'GRAY' if spec.channels == 1 else 'RGB'}`"
        )
    if labels.shape != (network.symbols,):
        raise UsageError(f"{network.symbols} symbols need as many labels, here are {labels.shape}")
    if labels.min() < 0 or labels.max() >= spec.classes:
        raise UsageError(f"labels reach from {labels.min()} to {labels.max()}, the target has {spec.classes} classes")
    if network.symbols < 2:
        raise UsageError("a mark of one symbol has no second best to keep a margin from; train one with at least 2")


def _windows(plan: FrontEnd) -> tuple[int, int]:
    """Give the averaging windows, (0, 0) where they depend on the picture."""
    if plan.rows is None or plan.columns is None:
        return 0, 0
    return plan.rows.window, plan.columns.window


def _resized(plan: FrontEnd) -> bool:
    return plan.rows is None or plan.columns is None or plan.rows.resized or plan.columns.resized


assert GRID == 32, "TorchScript keeps the grid as a literal in Head.grid"

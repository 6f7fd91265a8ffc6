"""Torch networks as ONNX files, and what they cost on paper."""

from __future__ import annotations

import io
import warnings

import torch
from torch import Tensor, nn

from benchmarks.rivals.contract import Task

__all__ = ["cost_of", "exported"]

OPSET = 17


def exported(network: nn.Module, task: Task) -> bytes:
    """Write a network as ONNX, with a free number of rows."""
    file, example = io.BytesIO(), task.tensor(task.pictures[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter announces its successor
        torch.onnx.export(
            network.eval(),
            (example,),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=["scores"],
            dynamic_axes={"pixels": {0: "rows"}, "scores": {0: "rows"}},
        )
    return file.getvalue()


def cost_of(network: nn.Module, example: Tensor) -> tuple[int, int]:
    """Count parameters, and operations of convolutions and linear layers on one row: two a multiply-add."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight = layer.weight
        total += 2 * weight[0].numel() * output[0].numel()  # every output is one product with a filter

    hooks = [each.register_forward_hook(count) for each in network.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    try:
        with torch.inference_mode():
            network.eval()(example)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(value.numel() for value in network.parameters()), total

"""A stolen model made trainable, whatever form its file has, and written back in the same form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model_store_tools.audit.contract import Artefact, AttackRefused
from model_store_tools.audit.engines import load_torch
from model_store_tools.audit.executor.module import OnnxModule
from model_store_tools.targets.answers import pick
from model_store_tools.targets.torch_running import quietly

__all__ = ["Trainable", "open_trainable"]


@dataclass(frozen=True)
class Trainable:
    """A model with gradients.

    Attributes:
        answer: From the model's input tensor, float32, to its scores, shape (rows, classes).
        weights: The trainable tensors by name, in the model's order; all of them require gradients.
        classes: Number of classes.
        write: Writes the model with its present weights below a folder and gives the artefact.
    """

    answer: Callable[[Tensor], Tensor]
    weights: Mapping[str, nn.Parameter]
    classes: int
    write: Callable[[Path], Artefact]

    def last_layer(self) -> list[str]:
        """Name weight and bias of the layer that makes the scores: the last one with as many outputs as there are classes.

        Raises:
            AttackRefused: No tensor has such a shape.
        """
        matrices = [name for name, value in self.weights.items() if value.ndim > 1 and self.classes in value.shape[:2]]
        if not matrices:
            raise AttackRefused(f"no weight tensor has {self.classes} outputs, so that no last layer is found")
        last = matrices[-1]
        names = list(self.weights)
        beside = [n for n in names if self.weights[n].shape == (self.classes,)]
        near = sorted(beside, key=lambda name: abs(names.index(name) - names.index(last)))
        return [last, *near[:1]]


def open_trainable(artefact: Artefact) -> Trainable:
    """Make an artefact trainable.

    Raises:
        AttackRefused: Its operators are not known in torch, its input is no float32, or it has no trainable tensor.
        TargetError: torch cannot load it.
    """
    if artefact.spec.dtype not in (None, "float32"):
        raise AttackRefused(f"the model reads {artefact.spec.dtype}; gradients are taken of float32 models only")
    classes = artefact.spec.classes or 0
    if artefact.form == "onnx":
        return _of_onnx(artefact, classes)
    module = load_torch(artefact.model, form=artefact.form)
    weights = {name: value for name, value in module.named_parameters() if value.is_floating_point()}
    if not weights:
        raise AttackRefused("the program's weights are constants, so that torch cannot train them as they are")
    for value in weights.values():
        value.requires_grad_(True)

    def answer(pixels: Tensor) -> Tensor:
        with quietly():
            return pick(module(pixels), artefact.spec.scores)

    return Trainable(answer, weights, classes, lambda folder: _torch_written(module, artefact, folder))


def _of_onnx(artefact: Artefact, classes: int) -> Trainable:
    module = OnnxModule(artefact.model)
    scores = artefact.spec.scores or module.outputs[0]

    def write(folder: Path) -> Artefact:
        return artefact.with_model(module.save(folder / "model.onnx"))

    return Trainable(lambda pixels: module.values(pixels, [scores])[0].flatten(1), module.weights(), classes, write)


def _torch_written(module: Any, artefact: Artefact, folder: Path) -> Artefact:
    path = folder / artefact.model.name
    with quietly():
        if artefact.form == "torchscript":
            torch.jit.save(module, str(path))
        else:
            height, width = (side or 224 for side in artefact.spec.size or (0, 0))
            example = torch.zeros(2, artefact.spec.channels, height, width)
            if artefact.spec.layout == "NHWC":
                example = example.permute(0, 2, 3, 1).contiguous()
            dynamic = ({0: torch.export.Dim.AUTO},)
            torch.export.save(torch.export.export(module, (example,), dynamic_shapes=dynamic), str(path))
    return artefact.with_model(path)

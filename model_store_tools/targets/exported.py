"""Exported programs (`.pt2`): loaded only if they are a graph of tensor operators and nothing else, or trusted by flag."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from model_store_tools.targets.base import Findings, layout_of
from model_store_tools.targets.torch_running import first_line, quietly
from model_store_tools.targets.torch_target import TorchTarget
from ptynet_plugin.archives.exported_check import suspicious_parts, without_notes
from ptynet_plugin.archives.sources import Source
from ptynet_plugin.archives.tensors import TensorRecord
from ptynet_plugin.archives.torch_structure import torch_structure
from ptynet_plugin.archives.torch_tensors import torch_tensors
from ptynet_plugin.archives.torch_zip import TorchZip
from ptynet_plugin.archives.zipform import write_zip
from ptynet_plugin.errors import SpecError, TargetError
from ptynet_plugin.spec import DType, InputSpec

__all__ = ["DTYPES", "HEAD_BUFFER", "ExportedTarget", "load_program"]

DTYPES: dict[torch.dtype, DType] = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.float64: "float64",
    torch.uint8: "uint8",
    torch.int8: "int8",
}
HEAD_BUFFER = "head.codes"
"""A tensor that only a fused program has."""

TRAINING_ARGUMENT = {"aten.dropout.default": 2, "aten.batch_norm.default": 5}
"""Operators that answer differently in training, and which of their arguments says so."""


class ExportedTarget(TorchTarget):
    """A `.pt2` file of `torch.export.save`.

    Attributes:
        program: As loaded.
        pixels: Its input as it was exported: shape (open dimensions symbolic) and type, no values.
    """

    kind = "pt2"
    path: Path

    def __init__(self, path: Path, *, allow_pickle: bool = False, where: str | None = None) -> None:
        self.path, self.where = path, where or str(path)
        self.program = load_program(path, allow_pickle=allow_pickle)
        _check_evaluating(self.program, self.where)
        self.pixels = _only_input(self.program, self.where)
        self._module: nn.Module | None = None
        self._color_channels = 0

    def tensors(self) -> Iterator[TensorRecord]:
        """Give a record of every tensor in the file."""
        return torch_tensors(self.path)

    def structure(self) -> str:
        """Give the SHA-256 of its graph."""
        return torch_structure(self.path)

    def module(self, spec: InputSpec) -> nn.Module:
        """Give the program as a module. What it answers in training or evaluation was fixed when it was exported."""
        if self._module is None:
            self._module = self.program.module()
            for part in self._module.modules():
                part.training = False
        return self._module

    def complete_spec(self, spec: InputSpec) -> InputSpec:
        """Fill in the spec from the shape the program was exported with, then as every torch target."""
        self._color_channels = spec.channels
        shape = self._shape()
        if len(shape) != 4 or spec.channels not in (shape[1], shape[3]):
            raise SpecError(
                f"{self.where}: exported for an input of shape {[side or 'any' for side in shape]}, the spec says color "
                f"{spec.color}: {spec.channels} channels; correct `color` in the spec"
            )
        return super().complete_spec(spec)

    def findings(self) -> Findings:
        """Tell what the program was exported for."""
        shape = self._shape()
        layout = layout_of(shape, self._color_channels)
        rows, columns = (shape[1], shape[2]) if layout == "NHWC" else (shape[2], shape[3])
        size = None if layout is None else (rows or 0, columns or 0)
        return Findings(layout=layout, size=size, dtype=DTYPES.get(self.pixels.dtype))

    def fixed_batch(self, spec: InputSpec) -> int | None:
        """Give the batch it was exported with, None if it was left open."""
        rows = self._shape()[0]
        return super().fixed_batch(spec) if rows is None else rows

    def _rows_to_ask(self) -> int:
        return self._shape()[0] or 2

    def _shape(self) -> tuple[int | None, ...]:
        return tuple(side if isinstance(side, int) else None for side in self.pixels.shape)


def load_program(path: Path, *, allow_pickle: bool = False) -> ExportedProgram:
    """Load an exported program.

    Args:
        path: The `.pt2` file.
        allow_pickle: Load it even if it holds more than tensors and tensor operators: that runs its author's code.

    Raises:
        TargetError: It holds more and `allow_pickle` is not set, is damaged, was written by an incompatible torch, or carries
            a PTYNet already.
    """
    with TorchZip(path) as file:
        if file.format != "pt2":
            raise TargetError(f"{path}: no exported program ({file.format})")
        odd = [] if allow_pickle else list(suspicious_parts(file))
        if odd:
            raise TargetError(
                f"{path}: holds more than tensors and tensor operators: {'; '.join(odd[:3])}. Loading it can run code of its "
                "author; pass --allow-pickle if you made it yourself"
            )
        program = _load(path, None if allow_pickle else file)
    if HEAD_BUFFER in program.state_dict:
        raise TargetError(f"{path}: carries a PTYNet already; package the original model")
    return program


def _load(path: Path, checked: TorchZip | None) -> ExportedProgram:
    torch_export = logging.getLogger("torch.export")
    level = torch_export.level
    torch_export.setLevel(logging.ERROR)
    try:
        with quietly(), tempfile.TemporaryDirectory(prefix="ptynet-") as folder:
            chosen = path if checked is None else _checked_copy(checked, Path(folder))
            program: Any = torch.export.load(str(chosen))
    except TargetError:
        raise
    except Exception as error:  # the deserializer raises whatever it stumbles over
        raise TargetError(f"{path}: torch {torch.__version__} cannot load it: {first_line(error)}") from error
    finally:
        torch_export.setLevel(level)
    loaded: ExportedProgram = program
    return loaded


def _checked_copy(file: TorchZip, folder: Path) -> Path:
    """Write what was checked, without the notes that were not: torch then reads these bytes and no others."""
    members: dict[str, Source] = {}
    for index, name in enumerate(file.names()):
        if name.startswith("models/"):
            members[f"model/{name}"] = without_notes(file, name)
        else:
            kept = folder / str(index)
            file.extract(name, kept)
            members[f"model/{name}"] = kept
    copy = folder / "model.pt2"
    with copy.open("wb") as out:
        write_zip(out, members)
    return copy


def _only_input(program: ExportedProgram, where: str) -> torch.Tensor:
    names = [entry.arg.name for entry in program.graph_signature.input_specs if entry.kind == InputKind.USER_INPUT]
    values = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    if len(values) != 1 or len(tensors) != 1:
        raise TargetError(f"{where}: takes {len(values)} inputs ({', '.join(names)}), expected one tensor of pictures")
    return tensors[0]


def _check_evaluating(program: ExportedProgram, where: str) -> None:
    changed = [*program.graph_signature.buffers_to_mutate.values()]
    for node in program.graph.nodes:
        place = TRAINING_ARGUMENT.get(str(node.target))
        if place is not None and len(node.args) > place and node.args[place] is True:
            changed.append(str(node.target))
    if changed:
        raise TargetError(
            f"{where}: was exported in training mode ({changed[0]}), and answers at random or changes itself; "
            "call eval() on the model and export it again"
        )

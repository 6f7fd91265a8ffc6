"""TorchScript targets: a program and its tensors, loaded by torch's own reader, which runs no Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model_store_tools.targets.base import Findings
from model_store_tools.targets.rows import keeps_rows_apart
from model_store_tools.targets.torch_running import first_line, quantized_engine, quietly
from model_store_tools.targets.torch_target import TorchTarget
from ptynet_plugin.archives.tensors import TensorRecord
from ptynet_plugin.archives.torch_structure import torch_structure
from ptynet_plugin.archives.torch_tensors import torch_tensors
from ptynet_plugin.archives.torch_zip import TorchZip
from ptynet_plugin.errors import TargetError
from ptynet_plugin.spec import InputSpec

__all__ = ["MARKED_BY", "ScriptTarget", "kept_here", "load_script"]

MARKED_BY = "__torch__.model_store_tools.fusion."
"""How our own classes are called in a TorchScript file."""

FILE_ACCESS = re.compile(rb"ops\.aten\.(save|from_file)\b|torch\.(save|from_file)\(")


class ScriptTarget(TorchTarget):
    """A TorchScript file."""

    kind = "torchscript"
    path: Path

    def __init__(self, path: Path, *, where: str | None = None) -> None:
        self.path, self.where = path, where or str(path)
        self._loaded: dict[str | None, torch.jit.ScriptModule] = {}
        self._apart: dict[tuple[int, InputSpec], bool] = {}

    def tensors(self) -> Iterator[TensorRecord]:
        """Give a record of every tensor in the file."""
        return torch_tensors(self.path)

    def structure(self) -> str:
        """Give the SHA-256 of its source and plain attributes."""
        return torch_structure(self.path)

    def findings(self) -> Findings:
        """Tell nothing: a TorchScript program declares neither sizes nor types."""
        return Findings()

    def module(self, spec: InputSpec) -> nn.Module:
        """Load it, once for each quantised engine: weights are packed for the engine while loading."""
        engine = spec.quantized_engine
        if engine not in self._loaded:
            with quantized_engine(spec):
                self._loaded[engine] = load_script(self.path)
        return self._loaded[engine]

    def _keeps(self, spec: InputSpec, rows: int) -> bool:
        if rows == 1 or not self.quantized:
            return super()._keeps(spec, rows)
        if (rows, spec) not in self._apart:
            self._apart[rows, spec] = keeps_rows_apart(self.path, spec, rows)
        return self._apart[rows, spec]


def load_script(path: Path) -> torch.jit.ScriptModule:
    """Load a TorchScript file on the CPU, in evaluation mode.

    Raises:
        TargetError: It is no TorchScript, damaged, asks for files, needs an operator this torch lacks, has no `forward`
            on one picture tensor, or carries a PTYNet already.
    """
    _check_source(path)
    try:
        with quietly():
            module: Any = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError, OSError, AttributeError) as error:
        raise TargetError(f"{path}: torch {torch.__version__} cannot load it: {first_line(error)}") from error
    _check_forward(module, path)
    if _has_training(module):
        module.eval()
    loaded: torch.jit.ScriptModule = module
    return loaded


def _check_source(path: Path) -> None:
    with TorchZip(path) as file:
        if file.format != "torchscript":
            raise TargetError(f"{path}: no TorchScript ({file.format})")
        for name in file.names("code/"):
            if name.endswith(".debug_pkl"):
                continue
            source = file.read(name)
            if MARKED_BY.encode() in source:
                raise TargetError(f"{path}: carries a PTYNet already; package the original model")
            if found := FILE_ACCESS.search(source):
                raise TargetError(
                    f"{path}: its program reads or writes files ({found[0].decode()}); a classifier does not"
                )


def _check_forward(module: Any, path: Path) -> None:
    if not hasattr(module, "forward"):
        raise TargetError(f"{path}: its program has no `forward`; save the module that answers pictures")
    needed = [argument for argument in module.forward.schema.arguments[1:] if not argument.has_default_value()]
    kinds = ", ".join(f"{argument.name}: {argument.type}" for argument in needed)
    if len(needed) != 1 or str(needed[0].type) != "Tensor":
        raise TargetError(f"{path}: forward takes ({kinds}), expected one tensor of pictures; wrap it so that it does")


def _has_training(module: torch.jit.ScriptModule) -> bool:
    """Tell whether it knows of training: frozen modules lost the attribute, and eval() fails on them."""
    return all(hasattr(part, "training") for part in module.modules())


def kept_here(path: str, spec: str, rows: str) -> bool:
    """Answer `rows.keeps_rows_apart` in this process, which must be one of its own.

    Args:
        path: The file.
        spec: As JSON.
        rows: How many to ask.
    """
    return ScriptTarget(Path(path)).keeps_in_process(InputSpec.model_validate_json(spec), int(rows))

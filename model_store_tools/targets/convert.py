"""Conversion of a torch target to another format, and the proof by pictures that it still answers the same.

A converted target is another file with its own tensors: "untouched" is then promised of the conversion, and how close that is
to the original is measured here and told.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model_store_tools.fusion.torch_export import export_module
from model_store_tools.fusion.torch_files import normalise
from model_store_tools.targets.answers import pick
from model_store_tools.targets.base import RANDOM, Target
from model_store_tools.targets.exported import ExportedTarget
from model_store_tools.targets.module import ModuleTarget, evaluating
from model_store_tools.targets.onnx import load_onnx
from model_store_tools.targets.torch_running import ask, first_line, grey, quantized_engine, quietly, single_thread
from model_store_tools.targets.torch_target import TorchTarget
from model_store_tools.targets.torchscript import ScriptTarget
from ptynet_plugin.engines.onnx_engine import OnnxEngine
from ptynet_plugin.errors import TargetError, UsageError
from ptynet_plugin.images.encode import encode
from ptynet_plugin.spec import InputSpec

__all__ = ["Conversion", "Format", "convert"]

Format = Literal["onnx", "torchscript", "pt2"]
ENDINGS: dict[Format, str] = {"onnx": ".onnx", "torchscript": ".pt", "pt2": ".pt2"}
PICTURES = 16
TOLERANCE = 1e-3
"""Greatest difference of two scores, relative to the greatest score of the pictures, before a conversion is refused."""

WHOLE_LIMIT = 1 << 30
"""Bytes of weights up to which an ONNX file holds them itself: protobuf ends at 2 GiB."""

OPSET = 18
SEED = 20221007


@dataclass(frozen=True)
class Conversion:
    """A converted target.

    Attributes:
        target: The new one; its file lies where it was asked for.
        spec: Completed for it: names may have changed.
        difference: Greatest difference of two scores over the pictures it was compared on.
        flips: Pictures whose top class changed.
        pictures: How many were compared.
    """

    target: Target
    spec: InputSpec
    difference: float
    flips: int
    pictures: int


def convert(target: Target, to: Format, spec: InputSpec, folder: Path) -> Conversion:
    """Convert a torch target.

    Args:
        target: TorchScript, exported program or module.
        to: The format wanted.
        spec: Completed by `target`.
        folder: Where the new file goes, as `model.onnx`, `model.pt` or `model.pt2`.

    Raises:
        UsageError: There is no way from this format to that one.
        TargetError: torch cannot convert it, it answers at random, or the result answers otherwise.
    """
    if not isinstance(target, TorchTarget):
        raise UsageError(f"{target.where}: ONNX targets are packaged as they are; leave --to out")
    out = folder / f"model{ENDINGS[to]}"
    with quantized_engine(spec), quietly(), _silenced(), torch.no_grad():
        new, new_spec = _WAYS[to](target, spec, out)
    before, after = _scores(target, spec), _scores(new, new_spec)
    if before.tobytes() != after.tobytes() and before.tobytes() != _scores(target, spec).tobytes():
        raise TargetError(f"{target.where}: {RANDOM}")
    return _compared(target, Conversion(new, new_spec, 0.0, 0, 0), before, after)


def _to_onnx(target: TorchTarget, spec: InputSpec, out: Path) -> tuple[Target, InputSpec]:
    inputs, outputs = target.ports(spec)
    names = [_graph_name(port.name) for port in outputs]
    axes: dict[str, Any] = {"input_names": [inputs[0].name], "output_names": names}
    model: Any = target.module(spec)
    example, rows = grey(spec, target.fixed_batch(spec) or 2), target.fixed_batch(spec)
    try:
        if isinstance(target, ScriptTarget):
            opened = {inputs[0].name: _open(spec, rows)} | ({} if rows else {name: {0: "batch"} for name in names})
            torch.onnx.export(model, (example,), out, dynamo=False, opset_version=OPSET, dynamic_axes=opened, **axes)
        else:
            program = target.program if isinstance(target, ExportedTarget) else _program(target, spec)
            outside = sum(tensor.nbytes for tensor in program.state_dict.values()) > WHOLE_LIMIT
            torch.onnx.export(program, f=out, dynamo=True, external_data=outside, verbose=False, **axes)
    except TargetError:
        raise
    except Exception as error:  # the exporters raise whatever they stumble over
        raise TargetError(f"{target.where}: cannot be converted to ONNX: {first_line(error)}") from error
    scores = _graph_name(target.scores_name(spec))
    converted = load_onnx(out)
    converted.where = target.where
    told = {"input": inputs[0].name, "scores": scores, "quantized_engine": None}
    return converted, converted.complete_spec(spec.model_copy(update=told))


def _to_program(target: TorchTarget, spec: InputSpec, out: Path) -> tuple[Target, InputSpec]:
    if isinstance(target, ScriptTarget):
        raise UsageError(
            f"{target.where}: torch.export takes no TorchScript; package it as TorchScript (leave --to out) or with --to onnx"
        )
    if isinstance(target, ExportedTarget):
        return target, spec
    written = out.with_suffix(".written.pt2")
    torch.export.save(_program(target, spec), written)
    normalise(written, out)
    written.unlink()
    return ExportedTarget(out, where=target.where), spec


def _to_script(target: TorchTarget, spec: InputSpec, out: Path) -> tuple[Target, InputSpec]:
    if isinstance(target, ScriptTarget):
        return target, spec
    written = out.with_suffix(".written.pt")
    torch.jit.save(_scripted(target, spec), str(written))
    normalise(written, out)
    written.unlink()
    return ScriptTarget(out, where=target.where), spec


_WAYS = {"onnx": _to_onnx, "pt2": _to_program, "torchscript": _to_script}


def _program(target: TorchTarget, spec: InputSpec) -> Any:
    model, example = _model(target, spec), grey(spec, target.fixed_batch(spec) or 2)
    opened = _open(spec, target.fixed_batch(spec))
    ranges = [((1, 4096) if place == 0 else (32, 1024)) if place in opened else None for place in range(4)]
    with evaluating(model):
        return export_module(model, ranges, list(example.shape), dtype=example.dtype, where=target.where)


def _scripted(target: TorchTarget, spec: InputSpec) -> Any:
    model, example = _model(target, spec), grey(spec, target.fixed_batch(spec) or 2)
    with evaluating(model) if isinstance(target, ModuleTarget) else _as_it_is(model):
        try:
            return torch.jit.script(model)
        except Exception:  # noqa: BLE001 -- what cannot be compiled from source can often be traced, and is compared afterwards
            try:
                return torch.jit.trace(model, (example,), strict=False)
            except Exception as error:
                raise TargetError(f"{target.where}: cannot be converted to TorchScript: {first_line(error)}") from error


@contextmanager
def _as_it_is(model: nn.Module) -> Iterator[nn.Module]:
    yield model


def _model(target: TorchTarget, spec: InputSpec) -> nn.Module:
    return target.model if isinstance(target, ModuleTarget) else target.module(spec)


def _open(spec: InputSpec, rows: int | None) -> dict[int, str]:
    """Give the dimensions of the input that stay open, with their names."""
    opened = {} if rows else {0: "batch"}
    first = 2 if spec.layout == "NCHW" else 1
    for place, (name, side) in enumerate(zip(("height", "width"), spec.size or (0, 0), strict=True)):
        if side == 0:
            opened[first + place] = name
    return opened


def _graph_name(name: str) -> str:
    """Give an ONNX name for an output: places in a tuple are no names."""
    return f"output_{name}" if name.isdigit() else name


def _pictures(spec: InputSpec) -> NDArray[np.uint8]:
    """Make pictures to compare on, the same each time: noise at several scales, dark ones first and bright ones last."""
    rng = np.random.default_rng(SEED)
    height, width = (side or 224 for side in spec.size or (0, 0))
    made = []
    for index in range(PICTURES):
        cells = 2 ** (index % 5 + 1)
        low, high = max(0, 32 * (index - 8)), min(256, 32 * (index + 1))
        coarse = rng.integers(low, high, (cells, cells, spec.channels), dtype=np.uint8)
        rows, columns = np.arange(height) * cells // height, np.arange(width) * cells // width
        made.append(coarse[rows][:, columns])
    return np.stack(made)


def _scores(target: Target, spec: InputSpec) -> NDArray[Any]:
    pictures, batch = _pictures(spec), target.fixed_batch(spec) or 4
    if not isinstance(target, TorchTarget):
        assert target.path is not None
        return OnnxEngine(target.path, spec, batch=batch).scores(pictures)
    parts = []
    with quantized_engine(spec), single_thread():
        for start in range(0, PICTURES, batch):
            some = pictures[start : start + batch]
            padded = np.concatenate([some, np.repeat(some[-1:], batch - len(some), axis=0)])
            answer = ask(target.module(spec), torch.from_numpy(encode(padded, spec)), where=target.where)
            parts.append(pick(answer, spec.scores).flatten(1).numpy()[: len(some)])
    return np.concatenate(parts)


def _compared(target: Target, made: Conversion, before: NDArray[Any], after: NDArray[Any]) -> Conversion:
    a, b = before.astype(np.float64), after.astype(np.float64)
    difference = float(np.abs(a - b).max()) if a.shape == b.shape else float("inf")
    flips = int((a.argmax(1) != b.argmax(1)).sum()) if a.shape == b.shape else len(a)
    allowed = TOLERANCE * max(1.0, float(np.abs(a).max()))
    if not difference <= allowed:
        raise TargetError(
            f"{target.where}: converted, it answers otherwise: scores differ by up to {difference:.3g} (allowed "
            f"{allowed:.3g}), the top class of {flips} of {PICTURES} pictures; package it in its own format (leave --to out)"
        )
    return Conversion(made.target, made.spec, difference, flips, PICTURES)


@contextmanager
def _silenced() -> Iterator[None]:
    """Leave out what the exporters report on operators of packages that are not there, and on their own deprecations."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

"""Options of packaging, which `package-model` and `ptynet copies issue` share: each is worded once here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from model_store_tools.packaging.options import Options

__all__ = [
    "VERSION",
    "Backend",
    "BackendOption",
    "BenignOption",
    "Conversion",
    "ConversionOption",
    "FormatOption",
    "Gate",
    "GateOption",
    "ImageEnsembleOption",
    "InstancesOption",
    "MaxBatchOption",
    "OpsetOption",
    "OverlayOption",
    "Server",
    "SpecOption",
    "TargetArgument",
    "VersionOption",
    "options_of",
]


class Server(StrEnum):
    """For which server."""

    TRITON = "triton"
    TORCHSERVE = "torchserve"


class Backend(StrEnum):
    """Triton's backend."""

    ONNXRUNTIME = "onnxruntime"
    PYTHON = "python"


class Gate(StrEnum):
    """How much is checked before anything is written."""

    FULL = "full"
    DIGEST = "digest"
    OFF = "off"


class Conversion(StrEnum):
    """What a target can become first."""

    ONNX = "onnx"
    TORCHSCRIPT = "torchscript"
    PT2 = "pt2"


TargetArgument = Annotated[
    str,
    typer.Argument(help="ONNX, TorchScript or .pt2 file; package.module:factory; a Triton model directory; a .mar."),
]
SpecOption = Annotated[Path, typer.Option(help="SPEC.toml: what the model reads and answers.")]
FormatOption = Annotated[Server, typer.Option("--format", help="Which server the archive is for.")]
VersionOption = Annotated[str, typer.Option(help="Model version; a whole number for Triton.")]
VERSION = "1"
BackendOption = Annotated[Backend | None, typer.Option(help="Triton: onnxruntime for ONNX, else python, by default.")]
ImageEnsembleOption = Annotated[
    bool, typer.Option("--image-ensemble", help="Triton: add an ensemble, JPEG or PNG in, label out.")
]
BenignOption = Annotated[
    Path | None, typer.Option(help="Folder of ordinary pictures for the gate; procedural by default.")
]
GateOption = Annotated[Gate, typer.Option(help="full runs both models; digest compares tensors only.")]
ConversionOption = Annotated[Conversion | None, typer.Option(help="Convert the target first.")]
OpsetOption = Annotated[int | None, typer.Option(help="Convert an ONNX target to this opset first.")]
MaxBatchOption = Annotated[int | None, typer.Option(help="Most rows of a request; the server then joins requests.")]
InstancesOption = Annotated[int | None, typer.Option(help="Copies of the model.")]
OverlayOption = Annotated[Path | None, typer.Option(help="Settings that win: config.pbtxt text, or model-config YAML.")]


def options_of(parameters: Mapping[str, Any]) -> Options:
    """Give the packager's options from a verb's parameters.

    Args:
        parameters: `locals()` at the verb's beginning: every option of packaging by its name, and what else the verb takes.
    """
    from model_store_tools.packaging.options import Options

    plain: dict[str, Any] = {
        name: each.value if isinstance(each, StrEnum) else each for name, each in parameters.items()
    }
    plain |= {"format": plain["format_"], "version": plain["model_version"]}
    return Options(**{option.name: plain[option.name] for option in fields(Options)})

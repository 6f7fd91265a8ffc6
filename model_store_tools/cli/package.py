"""`ptynet package`, also installed as `package-model`: a target and a mark in, a servable archive out."""

from __future__ import annotations

import signal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from model_store_tools.packaging.package import Packaged

__all__ = ["package"]


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


def package(
    target: Annotated[
        str,
        typer.Argument(
            help="ONNX, TorchScript or .pt2 file; package.module:factory; a Triton model directory; a .mar.",
            show_default=False,
        ),
    ],
    *,
    mark: Annotated[
        Path, typer.Option(help="Folder that `ptynet train` made; the claim is written into it.", show_default=False)
    ],
    spec: Annotated[Path, typer.Option(help="SPEC.toml: what the model reads and answers.", show_default=False)],
    format_: Annotated[Server, typer.Option("--format", help="Which server the archive is for.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to write NAME/ or NAME.mar into.", show_default=False)],
    name: Annotated[
        str | None, typer.Option(help="Model name; the target's own by default.", show_default=False)
    ] = None,
    model_version: Annotated[str, typer.Option(help="Model version; a whole number for Triton.")] = "1",
    backend: Annotated[
        Backend | None, typer.Option(help="Triton: onnxruntime for ONNX, else python, by default.", show_default=False)
    ] = None,
    image_ensemble: Annotated[
        bool, typer.Option("--image-ensemble", help="Triton: add an ensemble, JPEG or PNG in, label out.")
    ] = False,
    benign: Annotated[
        Path | None,
        typer.Option(help="Folder of ordinary pictures for the gate; procedural by default.", show_default=False),
    ] = None,
    gate: Annotated[Gate, typer.Option(help="full runs both models; digest compares tensors only.")] = Gate.FULL,
    weights: Annotated[
        Path | None, typer.Option(help="Weights for package.module:factory (safetensors).", show_default=False)
    ] = None,
    to: Annotated[Conversion | None, typer.Option(help="Convert the target first.", show_default=False)] = None,
    to_opset: Annotated[
        int | None, typer.Option(help="Convert an ONNX target to this opset first.", show_default=False)
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(help="Most rows of a request; the server then joins requests.", show_default=False)
    ] = None,
    instances: Annotated[int | None, typer.Option(help="Copies of the model.", show_default=False)] = None,
    config_overlay: Annotated[
        Path | None,
        typer.Option(help="Settings that win: config.pbtxt text, or model-config YAML.", show_default=False),
    ] = None,
    covers: Annotated[
        Path | None,
        typer.Option(
            help="Your pictures under the probes; verify then needs them too. Procedural by default.",
            show_default=False,
        ),
    ] = None,
    claim: Annotated[
        Path | None, typer.Option(help="Use this claim, a stamped one for example.", show_default=False)
    ] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option("--allow-pickle", help="Load pickles, which runs the code in them: only what you made yourself."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an archive of that name once the new one is complete.")
    ] = False,
) -> None:
    """Put a mark beside TARGET and write one servable archive. Its path is the last line on stdout."""
    from rich.console import Console  # noqa: PLC0415 -- keeps `--help` fast

    from model_store_tools.packaging import package as packaging  # noqa: PLC0415

    options = packaging.Options(
        mark=mark,
        spec=spec,
        format=format_.value,
        out=out,
        name=name,
        version=model_version,
        backend=backend.value if backend else None,
        image_ensemble=image_ensemble,
        benign=benign,
        gate=gate.value,
        weights=weights,
        to=to.value if to else None,
        to_opset=to_opset,
        max_batch=max_batch,
        instances=instances,
        config_overlay=config_overlay,
        covers=covers,
        claim=claim,
        allow_pickle=allow_pickle,
        force=force,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    screen = Console(stderr=True)
    with screen.status("packaging") as status:
        packaged = packaging.package(target, options, tell=status.update)
    _summarise(packaged)
    typer.echo(str(packaged.path))


def _summarise(packaged: Packaged) -> None:
    report = packaged.report
    if report is not None:
        kept = sum(row.limit is not None for row in report.rows)
        typer.echo(f"gate    {kept} of {kept} limits kept on {report.pictures} pictures ({report.source})", err=True)
    if packaged.probes is not None:
        typer.echo(f"probes  {packaged.probes} of {packaged.asked} answered with their label", err=True)
    typer.echo(f"digest  {packaged.digest}", err=True)
    typer.echo(f"claim   {packaged.claim}", err=True)

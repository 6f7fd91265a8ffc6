"""Options and arguments that several verbs share: each is worded once here, and so are the defaults that go with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "RETRIES",
    "SEND",
    "TIMEOUT",
    "AllowPickleOption",
    "ArchiveArgument",
    "CaCertOption",
    "ClaimArgument",
    "ClaimOption",
    "CoversOption",
    "HeaderOption",
    "JsonOption",
    "KeyOption",
    "MarkOption",
    "PaceOption",
    "ReportOption",
    "RetriesOption",
    "SendOption",
    "SuspectSpecOption",
    "TimeoutOption",
    "TsaCaOption",
    "ViewOption",
    "WeightsOption",
]

# What the owner has.
KeyOption = Annotated[str | None, typer.Option(help="Owner key file, - for standard input; else PTYNET_KEY.")]
MarkOption = Annotated[Path, typer.Option(help="The mark's folder, for its claim.")]
ClaimOption = Annotated[Path | None, typer.Option(help="The claim's folder; needed where the mark has several.")]
ClaimArgument = Annotated[Path, typer.Argument(metavar="CLAIM", help="The claim's folder.")]
CoversOption = Annotated[Path | None, typer.Option(help="The owner's cover pictures, as used at packaging.")]
ArchiveArgument = Annotated[Path, typer.Argument(metavar="ARCHIVE", help="A .mar, or a Triton model directory.")]

# How a target is loaded.
WeightsOption = Annotated[Path | None, typer.Option(help="Weights for package.module:factory (safetensors).")]
AllowPickleOption = Annotated[
    bool,
    typer.Option("--allow-pickle", help="Load pickles, which runs the code in them: only what you made yourself."),
]

# How a suspect is asked.
SuspectSpecOption = Annotated[
    Path | None, typer.Option(help="What the suspect reads, where that differs from the claim's input spec.")
]
HeaderOption = Annotated[
    list[str] | None, typer.Option(metavar="K: V", help="Request header, or @FILE with one a line; repeatable.")
]
CaCertOption = Annotated[Path | None, typer.Option(help="PEM file of a private certificate authority.")]
TimeoutOption = Annotated[float, typer.Option(help="Seconds an attempt may take.")]
RetriesOption = Annotated[int, typer.Option(help="Further attempts after one that found nobody or was told to wait.")]
PaceOption = Annotated[str | None, typer.Option(help="Most requests per time, like 5/s or 30/min.")]
SendOption = Annotated[str, typer.Option(help="How pictures are sent: auto, tensor, png or jpeg.")]
ViewOption = Annotated[
    str,
    typer.Option(
        help="What the suspect does to pictures: mirrored, turned:DEGREES, cropped:L,T,R,B in per cent, joined by +."
    ),
]
TIMEOUT, RETRIES, SEND = 10.0, 3, "auto"

# What is left behind, and who stamps it.
JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON; - for standard output.")
]
ReportOption = Annotated[Path | None, typer.Option(help="Write a self-contained HTML report.")]
TsaCaOption = Annotated[Path | None, typer.Option(help="PEM of the authority's root; else the system's.")]

"""`ptynet extract`: read the mark in the weights. Starts where torch is not installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store_tools.cli.options import JsonOption, KeyOption
from model_store_tools.cli.outputs import named, require_writable, write_json
from ptynet_plugin.errors import UsageError

if TYPE_CHECKING:
    from model_store_tools.extraction.extraction import Extraction

__all__ = ["extract"]

EXIT_BY_VERDICT = {"shown": 0, "not-shown": 1}


def extract(
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="ARCHIVE|WEIGHTS", help="A .mar, Triton model directory, mark, ONNX, safetensors, .pt, .pt2."
        ),
    ],
    key: KeyOption = None,
    reference: Annotated[
        Path | None, typer.Option(help="The target before it was marked: names its mark and undoes obfuscation.")
    ] = None,
    json_file: JsonOption = None,
    alpha: Annotated[float, typer.Option(help="Level of the verdict.")] = 1e-9,
    decoys: Annotated[int, typer.Option(help="Decoy keys read beside the true one after alignment.")] = 10_000,
) -> int:
    """Look for the 256 bits of the owner in a model's weights. Exit 0: shown, 1: not shown, 2: could not be done."""
    from model_store_tools.extraction.extraction import extract_marks
    from ptynet_plugin.keyfile import read_key

    if not 0 < alpha < 1:
        raise UsageError(f"--alpha {alpha:g}: a level lies between 0 and 1")
    if decoys < 1:
        raise UsageError(f"--decoys {decoys}: at least 1 is needed")
    require_writable(named(json_file))
    result = extract_marks(weights, read_key(key), reference=reference, alpha=alpha, decoys=decoys)
    _print(result, to_stderr=json_file == "-")
    if json_file is not None:
        text = json.dumps(result.to_json(), indent=2) + "\n"
        write_json(json_file, text)
    return EXIT_BY_VERDICT[result.verdict]


def _print(result: Extraction, *, to_stderr: bool) -> None:
    meaning = "these weights carry the owner's bits" if result.verdict == "shown" else "no sign of the owner's bits"
    typer.echo(f"{result.verdict.upper()}: {meaning}", err=to_stderr)
    for finding in result.findings:
        found = finding.found
        line = f"{found.reading.right} of 256 bits in {found.layer} ({found.size} weights), best of {found.attempts}"
        typer.echo(f"  {finding.source:<16} {line}, p = 10^{found.log10_p:.1f}", err=to_stderr)
        if finding.rank is not None:
            rank = f"best of {finding.rank.decoys} decoy keys {finding.rank.best}, p by rank {finding.rank.p_value:.2g}"
            typer.echo(f"  {'':<16} {rank}; cosine to the reference {finding.cosine:.2f}", err=to_stderr)
    typer.echo(
        f"  {'evidence':<16} p = 10^{result.log10_p:.1f}; paid for 2^64 keys: 10^{result.log10_p_adjusted:.1f}",
        err=to_stderr,
    )
    for note in result.notes:
        typer.echo(f"  {'note':<16} {note}", err=to_stderr)

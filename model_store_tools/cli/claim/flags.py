"""Flags that several verbs of `ptynet claim` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["EXIT_BY_VERDICT", "ClaimFolder", "KeyOption"]

KeyOption = Annotated[str | None, typer.Option(help="Owner key file, - for standard input; else PTYNET_KEY.")]
ClaimFolder = Annotated[Path, typer.Argument(metavar="CLAIM", help="The claim's folder.")]
EXIT_BY_VERDICT = {"shown": 0, "not-shown": 1, "inconclusive": 3, "evasion-suspected": 3}

"""`ptynet keygen`: make an owner key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ptynet_plugin.keyfile import write_key
from ptynet_plugin.keys import OwnerKey

__all__ = ["keygen"]


def keygen(
    file: Annotated[Path, typer.Argument(metavar="OWNER.key", help="File to write, mode 0600; must not exist.")],
) -> None:
    """Make an owner key: 32 random bytes from which everything secret follows."""
    key = OwnerKey.generate()
    write_key(file, key)
    typer.echo(f"fingerprint {key.fingerprint()}; keep a copy of the file, a lost key cannot be recovered", err=True)
    typer.echo(str(file))

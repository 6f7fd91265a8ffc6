"""`ptynet key split|join`: the owner key in shares, so that no one person or place holds it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from model_store_tools.cli.options import KeyOption
from ptynet_plugin.errors import KeyFileError, UsageError

__all__ = ["KEY_VERBS", "join", "split"]


def split(
    out: Annotated[Path, typer.Option(help="New folder for the shares; then take them to different places.")],
    of: Annotated[str, typer.Option(metavar="K/N", help="How many of how many shares give the key back, like 2/3.")],
    key: KeyOption = None,
) -> None:
    """Split the owner key into N shares, mode 0600, any K of which give it back; the key's own file stays as it is."""
    from ptynet_plugin.keyfile import read_key, write_private
    from ptynet_plugin.keyshares import split_key

    numbers = re.fullmatch(r"(\d{1,2})/(\d{1,2})", of.strip())
    if numbers is None:
        raise UsageError(f"--of {of}: expected K/N, like 2/3")
    needed, count = int(numbers[1]), int(numbers[2])
    owner = read_key(key)
    shares = split_key(owner, needed=needed, shares=count)
    try:
        out.mkdir(mode=0o700)
        for number, share in enumerate(shares, start=1):
            told = f"# PTYNet owner key, share {number} of {count}; any {needed} give it back: ptynet key join\n"
            write_private(out / f"share-{number}.txt", (told + share + "\n").encode())
    except OSError as error:
        raise KeyFileError(f"{out}: the shares cannot be written ({error.strerror}); name a new folder") from error
    typer.echo(f"{count} shares of key {owner.fingerprint()[:16]}..., any {needed} of which give it back", err=True)
    typer.echo(str(out))


def join(
    share: Annotated[
        list[str], typer.Argument(metavar="SHARE...", help="Share files; - reads one from standard input.")
    ],
    out: Annotated[Path, typer.Option(help="The key's new file, mode 0600.")],
) -> None:
    """Join shares to the owner key."""
    from ptynet_plugin.keyfile import LONGEST, STDIN, read_private, write_key
    from ptynet_plugin.keyshares import join_key

    texts = []
    for each in share:
        octets = sys.stdin.read(LONGEST).encode() if each == STDIN else read_private(Path(each))
        lines = [line.strip() for line in octets.decode("ascii", errors="replace").splitlines()]
        content = [line for line in lines if line and not line.startswith("#")]
        if len(content) != 1:
            raise KeyFileError(f"{each}: holds {len(content)} lines of words, a share has one")
        texts.append(content[0])
    owner = join_key(texts)
    write_key(out, owner)
    typer.echo(f"fingerprint {owner.fingerprint()}", err=True)
    typer.echo(str(out))


KEY_VERBS = (split, join)

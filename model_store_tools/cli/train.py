"""`ptynet train`: train a mark for an owner key, without data, with pictures of one's own, or with somebody else's unseen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from model_store_tools.cli.options import KeyOption
from ptynet_plugin.errors import UsageError
from ptynet_plugin.keyfile import read_key

if TYPE_CHECKING:
    from ptynet_plugin.network.batches import SharedCovers

__all__ = ["train"]


def train(
    *,
    out: Annotated[Path, typer.Option(help="Folder to write the mark to.", show_default=False)],
    key: KeyOption = None,
    symbols: Annotated[int, typer.Option(help="Number of symbols, 2 to 4096.")] = 512,
    color: Annotated[Literal["RGB", "GRAY"], typer.Option(help="GRAY for one-channel targets.")] = "RGB",
    covers: Annotated[
        Path | None, typer.Option(help="Folder of your own PNG or JPEG pictures, to train on as well.")
    ] = None,
    covers_from: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Train on pictures that stay with their holder, who runs `ptynet share-covers`."
        ),
    ] = None,
    token: Annotated[Path | None, typer.Option(help="With --covers-from: the token file of both sides.")] = None,
    ca_cert: Annotated[
        Path | None, typer.Option(help="With --covers-from: PEM file of the authority of the holder's certificate.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a mark that lies there; its claims are kept.")
    ] = False,
) -> None:
    """Train a mark: PTYNet for this key, and what packaging needs of the key."""
    owner = read_key(key)
    fetch = _fetch(covers_from, token, ca_cert, color)
    from model_store_tools.training import train_mark

    with _bar("training PTYNet") as advance:
        trained = train_mark(
            owner, out, symbols=symbols, color=color, covers=covers, fetch=fetch, replace=force, progress=advance
        )
    typer.echo(f"recognises {trained.recognised:.2%} of held-out probes, {trained.seconds:.0f} s", err=True)
    if covers or fetch:
        typer.echo(
            "what the mark tells of the pictures it was trained on is measured in docs/privacy.md",
            err=True,
        )
    typer.echo(str(out))


def _fetch(
    covers_from: str | None, token: Path | None, ca_cert: Path | None, color: Literal["RGB", "GRAY"]
) -> Callable[[], SharedCovers] | None:
    """Check what can be checked before anybody is asked."""
    from model_store_tools.sharing.address import client_tls, parse_address, read_token

    if covers_from is None:
        if token or ca_cert:
            raise UsageError("--token and --ca-cert belong to --covers-from; give it as well")
        return None
    if token is None:
        raise UsageError("--covers-from needs --token FILE, the file that the data holder's side made")
    address = parse_address(covers_from, flag="--covers-from")
    secret, tls = read_token(token), client_tls(ca_cert, address)

    def fetch() -> SharedCovers:
        from model_store_tools.sharing.owner import receive_covers

        shared = receive_covers(address, token=secret, tls=tls, color=color)
        typer.echo(f"{len(shared.activations)} covers as activations, noise {shared.noise:g}", err=True)
        return shared

    return fetch


@contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title)
        yield lambda done, total: progress.update(task, completed=done, total=total)

"""`ptynet train`: train a mark for an owner key, without data or with the owner's own pictures as covers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from ptynet_plugin.keyfile import KEY_VARIABLE, read_key

__all__ = ["train"]


def train(
    *,
    out: Annotated[Path, typer.Option(help="Folder to write the mark to.", show_default=False)],
    key: Annotated[
        str | None, typer.Option(help=f"Key file, or - for standard input. Default: the variable {KEY_VARIABLE}.")
    ] = None,
    symbols: Annotated[int, typer.Option(help="Number of symbols, 2 to 4096.")] = 512,
    color: Annotated[Literal["RGB", "GRAY"], typer.Option(help="GRAY for one-channel targets.")] = "RGB",
    covers: Annotated[
        Path | None, typer.Option(help="Folder of your own PNG or JPEG pictures, to train on as well.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a mark that lies there; its claims are kept.")
    ] = False,
) -> None:
    """Train a mark: PTYNet for this key, and what packaging needs of the key."""
    owner = read_key(key)
    from model_store_tools.training import train_mark  # noqa: PLC0415 -- loads torch

    with _bar("training PTYNet") as advance:
        trained = train_mark(owner, out, symbols=symbols, color=color, covers=covers, replace=force, progress=advance)
    typer.echo(f"recognises {trained.recognised:.2%} of held-out probes, {trained.seconds:.0f} s", err=True)
    typer.echo(str(out))


@contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console  # noqa: PLC0415 -- not needed to print --help
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title)
        yield lambda done, total: progress.update(task, completed=done, total=total)

"""`ptynet demo`: the whole story on real data, one command."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptynet_plugin.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from model_store_tools.demo.narration import Advance
    from model_store_tools.demo.story import Story

__all__ = ["demo"]

MARKER = ".ptynet-demo"


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for everything the demo makes; an earlier demo's is replaced.")
    ] = Path("ptynet-demo"),
) -> int:
    """Train, package, serve and verify on real handwritten digits, behind the real servers. Takes a few minutes."""
    from rich.console import Console

    from model_store_tools.demo.page import write_page
    from model_store_tools.demo.story import tell_story
    from model_store_tools.training import train_mark

    console = Console(highlight=False)
    started = time.monotonic()
    folder = _fresh(out)
    story = tell_story(
        folder,
        _Screen(console),
        train_mark=lambda key, mark, advance: train_mark(key, mark, color="GRAY", progress=advance),
    )
    console.print()
    console.print(_table(story))
    page = write_page(story, folder / "report.html")
    console.print(f"{time.monotonic() - started:.0f} s in all. Report with pictures of probes: [bold]{page}[/]")
    if story.as_expected:
        return 0
    console.print("[red]not everything is as it should be: see the table[/]")
    return 1


def _fresh(out: Path) -> Path:
    """Empty the folder of an earlier demo; touch nothing else."""
    if out.exists() and not (out / MARKER).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists and is no earlier demo's folder; give another one with --out")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / MARKER).touch()
    return out


class _Screen:
    """Prints the story as it goes; progress bars vanish when their step is done."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def step(self, title: str, command: str | None = None) -> None:
        self._console.print(f"\n[bold]{title}[/]")
        if command:
            self._console.print(f"  [dim]$ {command}[/]", soft_wrap=True)

    def say(self, line: str) -> None:
        self._console.print(f"  {line}", soft_wrap=True)

    @contextmanager
    def progress(self, what: str) -> Iterator[Advance]:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, whole: bar.update(task, completed=done, total=whole)


def _table(story: Story) -> object:
    from rich import box
    from rich.table import Table

    table = Table(title="Whose model answers?", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for heading in ("server", "asked", "verdict", "hits", "p", "seconds"):
        table.add_column(heading, justify="right" if heading in ("hits", "p", "seconds") else "left")
    for chapter in story.chapters:
        benign = chapter.benign
        table.add_row(
            chapter.title,
            f"{benign.pictures} ordinary digits",
            f"{benign.identical} identical",
            f"{benign.correct / benign.pictures:.1%} right",
            "",
            "",
        )
        for each in chapter.suspicions:
            result = each.result
            color = "green" if result.verdict == each.expected else "red"
            seconds = sum(query.seconds for query in result.run.queries)
            table.add_row(
                "",
                each.question,
                f"[{color}]{result.verdict}[/]",
                f"{result.hits} of {result.symbols}",
                f"10^{result.log10_p:.1f}",
                f"{seconds:.1f}",
            )
        table.add_section()
    return table

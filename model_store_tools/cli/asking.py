"""A verification run with what surrounds it on a command line: ledger, run file, progress bar, Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ptynet_plugin.claims.ledger import Ledger
from ptynet_plugin.errors import PtynetError, UsageError
from ptynet_plugin.evidence.writer import BundleWriter
from ptynet_plugin.verification.endpoint import Endpoint
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.result import VerificationResult
from ptynet_plugin.verification.run import RunState
from ptynet_plugin.verification.runner import Interrupted, Step, run_protocol

__all__ = ["Asking", "patient_interrupt"]

RUNS = "runs"
GRACE = 2.0
"""Seconds a question under way may take after Ctrl-C; cut off, it would count as a miss."""


class Asking:
    """One run.

    Args:
        folder: The claim's folder; its ledger registers the run, its `runs/` keeps it.
        questions: What to ask.
        resume: The run's file where the user named one.
        bundle: Keeps every question's bytes and is signed at the verdict; None where no evidence is wanted.
        first: Number of the first test in the folder's ledger; a witness goes on from the owner's.
    """

    def __init__(
        self,
        folder: Path,
        questions: Questions,
        resume: Path | None,
        *,
        bundle: BundleWriter | None = None,
        first: int = 1,
    ) -> None:
        self._folder, self._questions, self._file, self._bundle = folder, questions, resume, bundle
        self._first = first
        if not questions.owned:
            _note(
                "warning: this key did not make the claim; its own probes and labels are asked, nothing is registered, and the "
                "mark cannot be shown with it"
            )

    def to_verdict(self, suspect: Endpoint, **options: Any) -> VerificationResult:
        """Ask until there is a verdict; `options` are those of `run_protocol`.

        Raises:
            Interrupted: By Ctrl-C.
            PtynetError: As `run_protocol`; where the run can be resumed a line on stderr has said how.
        """
        state = self._state()
        try:
            with self._ledger() as ledger, _progress() as on_step, patient_interrupt() as stop:
                result = run_protocol(
                    suspect,
                    self._questions,
                    ledger=ledger,
                    state=state,
                    on_registered=self._remember,
                    on_step=on_step,
                    stop=stop,
                    **self._kept(ledger),
                    **options,
                )
                if self._bundle is not None and ledger is not None:
                    return self._bundle.finish(result, ledger)
                return result
        except KeyboardInterrupt:
            self._say_how_to_go_on()
            raise Interrupted("interrupted; a question that was on its way counts as a miss") from None
        except PtynetError:
            self._say_how_to_go_on()
            raise

    def _kept(self, ledger: Ledger | None) -> dict[str, Any]:
        """Give the options of a run whose evidence is kept: it goes on until the adjusted p-value decides as well."""
        bundle = self._bundle
        if bundle is None or ledger is None:
            return {}
        return {
            "witness": bundle.witness,
            "draw_beacon": lambda run: bundle.begin(run, ledger),
            "allowance": self._questions.claim.allowance,
        }

    def _ledger(self) -> AbstractContextManager[Ledger | None]:
        if not self._questions.owned:
            return nullcontext()
        return Ledger(self._folder, digest=self._questions.claim.digest, first=self._first)

    def _state(self) -> Path | None:
        if self._file is not None:
            if self._file.is_dir():
                raise UsageError(f"--resume {self._file}: is a folder, expected the file of a run")
            return self._file
        if not self._questions.owned:
            return None
        runs = self._folder / RUNS
        try:
            runs.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{runs}: cannot be made ({error.strerror}); a run is written down while it is asked"
            ) from error
        return runs

    def _remember(self, run: RunState) -> None:
        if self._file is None and run.registered:
            self._file = self._folder / RUNS / f"{run.run_id}.json"

    def _say_how_to_go_on(self) -> None:
        if self._file is not None and self._file.is_file():
            _note(f"what was asked so far is kept; go on with --resume {self._file}")


def _note(text: str) -> None:
    typer.echo(f"ptynet: {text}", err=True)


@contextmanager
def _progress() -> Iterator[Callable[[Step], None]]:
    """Show on stderr how far the evidence is, on a terminal only."""
    columns = (
        TextColumn("asking"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} symbols, {task.fields[hits]} hits, E = 10^{task.fields[evidence]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:
        task = bars.add_task("asking", total=None, hits=0, evidence="0.0")

        def on_step(step: Step) -> None:
            evidence = f"{step.log10_e:.1f} of {step.needed:.1f}"
            bars.update(task, total=step.budget, completed=step.symbols, hits=step.hits, evidence=evidence)

        yield on_step


@contextmanager
def patient_interrupt() -> Iterator[Callable[[], bool]]:
    """Let the question under way end after Ctrl-C; a second one, or `GRACE` seconds, cut it off."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = threading.Event()
    timer = threading.Timer(GRACE, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.daemon = True

    def handler(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        timer.start()

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield asked.is_set
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)

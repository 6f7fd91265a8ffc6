"""Runs parts, each in a process group of its own with its own time limit, and remembers what is done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from benchmarks.record.parts import Need, Part

__all__ = ["Done", "Runner", "Status"]

Status = Literal["reached", "missed", "failed", "out of time", "left out"]


@dataclass(frozen=True)
class Done:
    """What became of a part.

    Attributes:
        name: The part's.
        status: "missed" where the benchmark itself says that it did not reach what is asked (exit 1).
        seconds: By the clock.
        code: Exit code, None where it was stopped or never run.
        reason: Why it failed or was left out, or "".
        command: With placeholders for paths.
        source: State of the sources.
        load: Processes waiting for a processor when it began.
    """

    name: str
    status: Status
    seconds: float
    code: int | None
    reason: str
    command: str
    source: str
    load: float


class Runner:
    """Runs parts into a folder: NAME.txt what was printed, NAME.json its own numbers, NAME.done.json what became of it.

    Args:
        out: The folder.
        root: The checkout.
        paths: What each placeholder stands for.
        have: What is there of what parts need.
        source: State of the sources; a part that was done with another one is run again.
        again: Whether parts that were missed or failed are run again; those that reached their limits never are.
        tell: Told a line now and then.
    """

    def __init__(
        self,
        out: Path,
        *,
        root: Path,
        paths: Mapping[str, str],
        have: Iterable[Need],
        source: str,
        again: bool = False,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._out, self._root, self._paths, self._source = out, root, dict(paths), source
        self._have, self._again, self._tell = frozenset(have), again, tell

    def run_all(self, parts: Sequence[Part], *, jobs: int) -> list[Done]:
        """Run what does not measure time, some at once, and then the rest one by one; gives them in the order of `parts`."""
        done: dict[str, Done] = {}
        with ThreadPoolExecutor(jobs) as pool:
            under_way = [pool.submit(self.run, part) for part in _longest_first(parts) if not part.alone]
            for each in as_completed(under_way):
                done[each.result().name] = each.result()
        for part in parts:
            if part.alone:
                done[part.name] = self.run(part)
        return [done[part.name] for part in parts]

    def run(self, part: Part) -> Done:
        """Run one part, or give what became of it before."""
        before = self.before(part)
        if before is not None:
            self._tell(f"{part.name:<20} {before.status}, {before.seconds:.0f} s, done before")
            return before
        lacking = [need for need in part.needs if need not in self._have]
        if lacking:
            done = self._done(part, "left out", reason=f"lacks: {', '.join(lacking)}")
        else:
            self._tell(f"{part.name:<20} begins: {part.command}")
            self._forget_other_sources(part)
            done = self._carried_out(part)
        (self._out / f"{part.name}.done.json").write_text(json.dumps(asdict(done), indent=1) + "\n")
        self._tell(f"{part.name:<20} {done.status}, {done.seconds:.0f} s{': ' + done.reason if done.reason else ''}")
        return done

    def before(self, part: Part) -> Done | None:
        """Give what became of a part in an earlier run of the same sources; None where it must be run."""
        try:
            done = Done(**json.loads((self._out / f"{part.name}.done.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None
        same = done.source == self._source and done.command == part.command
        final = done.status == "reached" or (done.status == "missed" and not self._again)
        return done if same and final else None

    def _carried_out(self, part: Part) -> Done:
        words = [self._path(part, word) for word in part.arguments]
        started, load = time.monotonic(), os.getloadavg()[0]
        with (self._out / f"{part.name}.txt").open("w") as printed:
            process = subprocess.Popen(
                [sys.executable, "-u", "-m", part.module, *words],
                cwd=self._root,
                stdout=printed,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "COLUMNS": "160"},
            )
            try:
                code: int | None = process.wait(timeout=part.limit)
            except BaseException as stopped:
                _stop(process)
                if not isinstance(stopped, subprocess.TimeoutExpired):
                    raise
                code = None
        status: Status = "out of time" if code is None else {0: "reached", 1: "missed"}.get(code, "failed")
        if code == 1 and self._crashed(part):
            status = "failed"
        reason = (
            f"stopped after {part.limit} s" if code is None else self._last_line(part) if status == "failed" else ""
        )
        return self._done(
            part,
            status,
            code=code,
            reason=reason,
            seconds=time.monotonic() - started,
            load=load,
        )

    def _forget_other_sources(self, part: Part) -> None:
        """Remove numbers that other sources made: some benchmarks go on from what lies in their JSON file."""
        try:
            source = json.loads((self._out / f"{part.name}.done.json").read_text())["source"]
        except (OSError, ValueError, TypeError, KeyError):
            return
        if source != self._source:
            (self._out / f"{part.name}.json").unlink(missing_ok=True)

    def _crashed(self, part: Part) -> bool:
        """An exception ends a process with 1 as well: it is a failure, no missed limit."""
        return "Traceback (most recent call last)" in (self._out / f"{part.name}.txt").read_text(errors="replace")

    def _last_line(self, part: Part) -> str:
        lines = (self._out / f"{part.name}.txt").read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "said nothing"

    def _path(self, part: Part, word: str) -> str:
        if word == "JSON":
            return str(self._out / f"{part.name}.json")
        if word == "SCRATCH":
            return str(self._out / f"{part.name}.scratch")
        return self._paths.get(word, word)

    def _done(
        self,
        part: Part,
        status: Status,
        *,
        code: int | None = None,
        reason: str = "",
        seconds: float = 0.0,
        load: float = 0.0,
    ) -> Done:
        return Done(
            part.name,
            status,
            round(seconds, 1),
            code,
            reason,
            part.command,
            self._source,
            round(load, 2),
        )


def _longest_first(parts: Sequence[Part]) -> list[Part]:
    return sorted(parts, key=lambda part: -part.limit)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a part with everything it started."""
    for signal_ in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signal_)
            process.wait(timeout=10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        return

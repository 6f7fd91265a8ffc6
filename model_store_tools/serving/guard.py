"""Keeps one server process, and leaves nothing of it behind when whoever asked for the server goes away.

Runs as a program of its own between the caller and the server. It reads one line of JSON from standard input (what
to run), then holds that pipe: when the caller closes it, ends, or is killed with SIGKILL, the pipe ends and the guard
stops the server, every process below it, and removes its scratch files. SIGTERM and SIGINT do the same.

Standard library only; run with `python -I guard.py`. Its exit code is the server's.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["main"]

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
STRAGGLER_SECONDS = 1.0  # what a server's own workers get to end after it


def _prctl(option: int, value: int) -> None:
    """Linux only: elsewhere the pipe and the process group must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _die_with_guard() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Guard:
    """One server, its process group and the pipe to whoever asked for it."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.caller = os.getppid()
        self.code: int | None = None
        self.wake_up, signal_end = os.pipe()
        for end in (self.wake_up, signal_end):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(signal_end, warn_on_full_buffer=False)
        self.asked_to_stop = False
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask_to_stop)

    def _ask_to_stop(self, *_: object) -> None:
        self.asked_to_stop = True

    def run(self) -> int:
        """Start the server, watch it and the caller, stop it, clean up; return the server's exit code."""
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        server = subprocess.Popen(
            self.plan["command"],
            stdin=subprocess.DEVNULL,
            env=self.plan["environment"],
            cwd=self.plan["folder"],
            process_group=0,
            **self._identity(),
            preexec_fn=_die_with_guard,  # noqa: PLW1509 -- the guard has one thread
        )
        self.pid = server.pid
        try:
            while self.code is None and not self._caller_gone():
                self._reap()
            self._stop()
        finally:
            server.returncode = self.code if self.code is not None else -signal.SIGKILL
            self._clean()
        return server.returncode

    def _identity(self) -> dict[str, Any]:
        """Give the user and group the server runs as, where it must not run as we do."""
        wanted = self.plan.get("user")
        return {} if wanted is None else {"user": wanted[0], "group": wanted[1], "extra_groups": []}

    def _caller_gone(self) -> bool:
        """Wait a while for news; say whether the caller closed the pipe, died, or asked us to stop."""
        ready, _, _ = select.select([sys.stdin, self.wake_up], [], [], 1.0)
        if self.wake_up in ready:
            os.read(self.wake_up, 4096)
        pipe_ended = sys.stdin in ready and not os.read(sys.stdin.fileno(), 4096)
        return pipe_ended or self.asked_to_stop or os.getppid() != self.caller

    def _reap(self) -> bool:
        """Collect ended processes; say whether any of ours is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self.code = os.waitstatus_to_exitcode(status)

    def _stop(self) -> None:
        """Ask the server to end, give it its time, then end whatever is left."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, self.plan.get("stop_signal", signal.SIGTERM))
            self._wait(lambda: self.code is not None, self.plan["grace"])
        self._wait(lambda: False, STRAGGLER_SECONDS)
        self._wait(self._kill_all, STRAGGLER_SECONDS)

    def _kill_all(self) -> bool:
        """Kill what is left; called again and again, as killed processes leave us their children only when they are gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid in self._children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return False

    def _wait(self, done: Callable[[], bool], seconds: float) -> None:
        """Return when nothing of ours runs any more, `done()` is true, or the time is over."""
        deadline = time.monotonic() + seconds
        while self._reap() and not done() and time.monotonic() < deadline:
            time.sleep(0.02)

    @staticmethod
    def _children() -> list[int]:
        """Return our children, also those that left the process group: as sub-reaper we inherit the orphans."""
        try:
            text = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
        except OSError:
            return []
        return [int(pid) for pid in text.split()]

    def _clean(self) -> None:
        for pattern in self.plan["remove"]:
            for path in map(Path, glob.glob(pattern)):  # noqa: PTH207 -- Path.glob takes no absolute pattern
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def main() -> int:
    """Read the plan from standard input and carry it out."""
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = os.read(sys.stdin.fileno(), 1)
        if not piece:
            return 0  # the caller died before it had said what to run
        line += piece
    code = Guard(json.loads(line)).run()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())

"""A server as a process under guard: started, watched, its log read, stopped."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["GuardedProcess", "telling_lines"]

GUARD = Path(__file__).with_name("guard.py")
GRACE_SECONDS = 10.0
TROUBLE = re.compile(r"error|exception|fail|fatal|traceback|not found|refused|denied|already in use|unable", re.I)
HARMLESS = re.compile(r"CudaDriverHelper|NVML|DCGM|pinned system memory|cudaGetDeviceCount|CUDA (driver|memory)", re.I)


def telling_lines(text: str, *, limit: int = 12) -> list[str]:
    """Pick the last lines of a server's log that speak of trouble; the very last ones where none does.

    Args:
        text: The log.
        limit: How many lines at most.
    """
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not HARMLESS.search(line)]
    trouble = [line for line in lines if TROUBLE.search(line)]
    return (trouble or lines)[-limit:]


class GuardedProcess:
    """A running server whose guard outlives us just long enough to stop it.

    However this process ends, SIGKILL included, the guard sees its pipe close and stops the server and everything
    below it.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        remove: Sequence[str] = (),
        grace: float = GRACE_SECONDS,
    ) -> None:
        """Start `command`.

        Args:
            command: Program and arguments.
            environment: The whole environment it gets: nothing is inherited.
            folder: Its working directory.
            log: Where its standard output and error go; appended to.
            remove: Glob patterns of files and folders to remove once it has ended.
            grace: Seconds it gets to end after SIGTERM.
        """
        plan = {
            "command": [str(part) for part in command],
            "environment": dict(environment),
            "folder": str(folder),
            "remove": list(remove),
            "grace": grace,
        }
        self.log = log
        self._grace = grace
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", str(GUARD)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        assert self._guard.stdin is not None
        self._pipe = self._guard.stdin
        self._pipe.write(json.dumps(plan).encode() + b"\n")
        self._pipe.flush()

    def alive(self) -> bool:
        """Say whether the server still runs."""
        return self._guard.poll() is None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the server to end by itself; return its exit code.

        Raises:
            subprocess.TimeoutExpired: It still runs after `timeout` seconds.
        """
        return self._guard.wait(timeout)

    def read_log(self) -> str:
        """Return everything the server has written so far."""
        try:
            return self.log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def stop(self) -> None:
        """Stop the server and all it started; safe to call again."""
        with contextlib.suppress(OSError):
            self._pipe.close()
        try:
            self._guard.wait(self._grace + 5)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()

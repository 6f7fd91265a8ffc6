"""A server as a process under guard: started, watched, its log read, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["GuardedProcess", "telling_lines"]

GUARD = Path(__file__).with_name("guard.py")
GRACE_SECONDS = 10.0
TROUBLE = re.compile(r"error|exception|fail|fatal|traceback|not found|refused|denied|in use|unable|disconnected", re.I)
STAMPS = re.compile(r"\d[\d:.,T-]{7,}|\[?pid\W*\d+")
HARMLESS = re.compile(
    r"CudaDriverHelper|nvidia-smi|NVML|DCGM|pinned system memory|cudaGetDeviceCount|CUDA (driver|memory)", re.I
)


def telling_lines(text: str, *, limit: int = 12) -> list[str]:
    """Pick the lines of a server's log that speak of trouble; its last lines where none does.

    Where there are many, the first half are the earliest (the cause) and the rest the latest (how it ended).

    Args:
        text: The log.
        limit: How many lines at most, an even number.
    """
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not HARMLESS.search(line)]
    trouble = [line for line in lines if TROUBLE.search(line)]
    unseen: dict[str, str] = {}
    for line in trouble:
        unseen.setdefault(STAMPS.sub("", line), line)
    first_seen = list(unseen.values())
    if len(first_seen) > limit:
        return first_seen[: limit // 2] + first_seen[-limit // 2 :]
    return first_seen or lines[-limit:]


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
        stop_signal: int = signal.SIGTERM,
        user: tuple[int, int] | None = None,
    ) -> None:
        """Start `command`.

        Args:
            command: Program and arguments.
            environment: The whole environment it gets: nothing is inherited.
            folder: Its working directory.
            log: Where its standard output and error go; appended to.
            remove: Glob patterns of files and folders to remove once it has ended.
            grace: Seconds it gets to end after the stop signal.
            stop_signal: What asks it to end.
            user: Numbers of the user and group it runs as; ours where None.
        """
        plan = {
            "command": [str(part) for part in command],
            "environment": dict(environment),
            "folder": str(folder),
            "remove": list(remove),
            "grace": grace,
            "stop_signal": int(stop_signal),
            "user": user,
        }
        self.log = log
        self._grace = grace
        with log.open("ab") as output:
            self._log_reader = log.open("rb")  # still reads when the guard has removed the file
            self._log_start = self._log_reader.seek(0, os.SEEK_END)
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

    @property
    def guard_pid(self) -> int:
        """Process id of the guard; the server is its child and leads a process group of its own."""
        return self._guard.pid

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
        """Return everything the server has written so far; not after `stop`."""
        self._log_reader.seek(self._log_start)
        return self._log_reader.read().decode(errors="replace")

    def stop(self) -> None:
        """Stop the server and all it started; safe to call again."""
        with contextlib.suppress(OSError):
            self._pipe.close()
        try:
            self._guard.wait(self._grace + 5)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self._log_reader.close()

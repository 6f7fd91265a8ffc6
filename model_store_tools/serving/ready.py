"""Waiting until a server truly serves: its own word first, then a real answer."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from model_store_tools.serving.process import GuardedProcess, telling_lines
from ptynet_plugin.errors import PtynetError, ServerError

__all__ = ["StartFailed", "get_status", "try_golden", "wait_until"]

EVERY_SECONDS = 0.1


class StartFailed(ServerError):  # noqa: N818 -- reads as the state it names
    """The server did not come up.

    Attributes:
        text: Its whole log.
    """

    def __init__(self, message: str, *, text: str) -> None:
        super().__init__(message)
        self.text = text


def wait_until(
    ready: Callable[[], bool],
    *,
    process: GuardedProcess,
    server: str,
    timeout: float,
    hopeless: Callable[[str], bool] = lambda log: False,
) -> None:
    """Return once `ready()` is true.

    Args:
        ready: One quick look; False while the server is still busy starting.
        process: The server.
        server: Its name, for messages.
        timeout: Seconds to wait at most.
        hopeless: Says from the log that waiting longer is of no use.

    Raises:
        StartFailed: It died, its log says it never will be ready, or the time is over.
    """
    deadline = time.monotonic() + timeout
    while not ready():
        if not process.alive():
            raise _complain(f"{server} ended while it started (exit code {process.wait()})", process)
        if hopeless(process.read_log()):
            raise _complain(f"{server} cannot load the model", process)
        if time.monotonic() > deadline:
            raise _complain(f"{server} was not ready after {timeout:.0f} s", process)
        time.sleep(EVERY_SECONDS)


def get_status(url: str, *, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Ask a server on loopback; (0, b"") where nobody answers yet. Proxies named in the environment are ignored."""
    try:
        answer = httpx.get(url, headers=headers, timeout=5.0, trust_env=False)
    except httpx.TransportError:
        return 0, b""
    return answer.status_code, answer.content


def try_golden(golden: Callable[[], None], *, process: GuardedProcess, server: str) -> None:
    """Send the first real request: a server can call itself ready and answer nothing useful.

    Raises:
        StartFailed: `golden` raised one of the project's errors.
    """
    try:
        golden()
    except PtynetError as error:
        raise _complain(f"{server} calls itself ready, but its first answer is no good ({error})", process) from error


def _complain(what: str, process: GuardedProcess) -> StartFailed:
    text = process.read_log()
    lines = "\n".join(f"  {line}" for line in telling_lines(text))
    return StartFailed(f"{what}; its log says:\n{lines}" if lines else f"{what}; its log is empty", text=text)

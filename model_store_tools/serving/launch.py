"""What all servers' starters share: ports that stay ours, waiting, and no half-started server left behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from model_store_tools.serving.handle import ServerHandle
from model_store_tools.serving.ports import free_ports, require_free
from model_store_tools.serving.ready import StartFailed, try_golden, wait_until

__all__ = ["bring_up", "on_free_ports"]

TRIES = 5


def on_free_ports(
    start: Callable[[dict[str, int]], ServerHandle], *, wanted: Mapping[str, int], taken: str
) -> ServerHandle:
    """Call `start` with ports, again with others where somebody else took one meanwhile.

    Args:
        start: Starts the server on these ports.
        wanted: Port by purpose; 0 stands for any free one.
        taken: What the server's log says when it cannot have a port.

    Raises:
        ServerError: A port that was asked for is taken, or the server does not come up.
    """
    fixed = {purpose: port for purpose, port in wanted.items() if port}
    for port in fixed.values():
        require_free(port)
    for tries_left in reversed(range(TRIES)):
        ports = {**dict(zip(wanted, free_ports(len(wanted)), strict=True)), **fixed}
        try:
            return start(ports)
        except StartFailed as failed:
            if taken not in failed.text or len(fixed) == len(wanted) or not tries_left:
                raise
    raise AssertionError("unreachable: the last try returns or raises")


def bring_up(
    handle: ServerHandle,
    *,
    ready: Callable[[], bool],
    golden: Callable[[ServerHandle], None] | None,
    timeout: float,
    hopeless: Callable[[str], bool] = lambda log: False,
) -> ServerHandle:
    """Return the handle once the server truly serves; stop it where it never does, or where we are interrupted.

    Args:
        handle: The server, just started.
        ready: One quick look at what the server says of itself.
        golden: Sends one real request and raises where the answer is not good.
        timeout: Seconds until it must be ready.
        hopeless: Says from the log that waiting longer is of no use.
    """
    try:
        wait_until(ready, process=handle.process, server=handle.title, timeout=timeout, hopeless=hopeless)
        if golden is not None:
            try_golden(lambda: golden(handle), process=handle.process, server=handle.title)
    except BaseException:
        handle.stop()
        raise
    return handle

"""Free ports on loopback."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from ptynet_plugin.errors import ServerError

__all__ = ["LOOPBACK", "free_ports", "require_free"]

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Return distinct ports that were free a moment ago.

    Another process can take one before the server binds it: the starter then sees the server fail and asks again.
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind((LOOPBACK, 0))
        return [held.getsockname()[1] for held in sockets]


def require_free(port: int) -> None:
    """Raise ServerError unless a server could listen on `port` now."""
    if not 0 < port < 65536:
        raise ServerError(f"port {port}: not a port number; give one between 1 and 65535, or 0 for any free one")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise ServerError(
                f"port {port} on {LOOPBACK}: {error.strerror or error}; stop what uses it or choose another port"
            ) from error

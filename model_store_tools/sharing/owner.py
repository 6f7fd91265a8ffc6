"""The owner's side: fetches activations from a data holder it does not trust with anything else."""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import numpy as np

from model_store_tools.sharing.address import Address
from model_store_tools.sharing.wire import LONGEST_PIECE, PATIENCE, Channel, greet, polite
from ptynet_plugin.errors import ExchangeError
from ptynet_plugin.images.carriers import Color
from ptynet_plugin.network.batches import SharedCovers
from ptynet_plugin.privacy.front import PLACES, filter_count
from ptynet_plugin.privacy.release import STEP, restored

__all__ = ["MOST_PICTURES", "receive_covers"]

MOST_PICTURES = 100_000
"""265 MB of activations."""

MOST_NOISE = 1e6


def receive_covers(address: Address, *, token: bytes, tls: ssl.SSLContext | None, color: Color) -> SharedCovers:
    """Fetch covers as activations.

    Args:
        address: Where `ptynet share-covers` listens.
        token: What both sides share.
        tls: None on loopback.
        color: Of the mark that is to be trained.

    Raises:
        ExchangeError: Nobody there, no token, another color, a message that is too long, altered, malformed, or never comes.
    """
    with _connected(address, tls) as connection:
        channel = greet(connection, token=token, peer=str(address))
        channel.tell({"color": color})
        facts = channel.listen()
        if "refused" in facts:
            raise ExchangeError(f"{address}: {str(facts['refused'])[:200]}; give the same --color to both sides")
        pictures, noise = _checked(facts, color=color, peer=str(address))
        shape = (pictures, filter_count(color), PLACES, PLACES)
        octets = _pieces(channel, 2 * math.prod(shape))
        channel.send(sha256(octets).digest())
    return SharedCovers(restored(np.frombuffer(octets, "<i2").reshape(shape).astype(np.int16)), noise)


@contextmanager
def _connected(address: Address, tls: ssl.SSLContext | None) -> Iterator[socket.socket]:
    with polite(str(address)):
        try:
            plain = socket.create_connection((address.host, address.port), timeout=PATIENCE)
        except (ConnectionRefusedError, socket.gaierror) as error:
            raise ExchangeError(
                f"{address}: nobody shares covers there ({error.strerror}); "
                f"the data holder runs: ptynet share-covers DIR --listen {address} --token FILE"
            ) from None
        with plain:
            if tls is None:
                yield plain
                return
            with tls.wrap_socket(plain, server_hostname=address.host) as secured:
                yield secured


def _checked(facts: Mapping[str, Any], *, color: Color, peer: str) -> tuple[int, float]:
    """Hold an offer against what this version's front makes; gives the number of pictures and the noise."""
    wanted = {"color": color, "filters": filter_count(color), "places": PLACES, "step": STEP}
    for name, value in wanted.items():
        if facts.get(name) != value:
            raise ExchangeError(f"{peer}: offers {name} {str(facts.get(name))[:20]}, this version needs {value}")
    pictures, noise = facts.get("pictures"), facts.get("noise")
    if not isinstance(pictures, int) or isinstance(pictures, bool) or not 1 <= pictures <= MOST_PICTURES:
        raise ExchangeError(f"{peer}: offers {str(pictures)[:20]} pictures, 1 to {MOST_PICTURES} can be taken")
    if not isinstance(noise, int | float) or isinstance(noise, bool) or not 0 <= noise <= MOST_NOISE:
        raise ExchangeError(f"{peer}: offers noise {str(noise)[:20]}, expected 0 to {MOST_NOISE:g}")
    return pictures, float(noise)


def _pieces(channel: Channel, total: int) -> bytes:
    octets = bytearray()
    while len(octets) < total:
        piece = channel.receive(most=min(LONGEST_PIECE, total - len(octets)))
        if not piece:
            raise ExchangeError(f"{channel.peer}: sent an empty piece after {len(octets)} of {total} octets")
        octets += piece
    return bytes(octets)

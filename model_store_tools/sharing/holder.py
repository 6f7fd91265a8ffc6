"""The data holder's side: front and noise here, activations out, pictures never. Needs no torch."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from model_store_tools.sharing.address import Address
from model_store_tools.sharing.wire import (
    GREETING_LIMIT,
    LONGEST_PIECE,
    LONGEST_TALK,
    Channel,
    PeerRefused,
    polite,
    welcome,
)
from ptynet_plugin.errors import ExchangeError, UsageError
from ptynet_plugin.images.carriers import Color
from ptynet_plugin.images.resize import resize
from ptynet_plugin.network.weights import GRID
from ptynet_plugin.privacy.front import activations
from ptynet_plugin.privacy.release import STEP, Release, octets_needed, released

__all__ = ["Offer", "listening", "prepared", "share"]

LONGEST_STEP = 0.2

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Offer:
    """What is let go of, and the facts that go with it.

    Attributes:
        color: "RGB" or "GRAY".
        release: Clipped, noised activations; the same for whoever asks.
    """

    color: Color
    release: Release

    def facts(self) -> dict[str, object]:
        """Describe the offer for the owner."""
        pictures, filters, places, _ = self.release.steps.shape
        facts = {"color": self.color, "pictures": pictures, "filters": filters, "places": places}
        return facts | {"noise": self.release.noise, "clip": self.release.clip, "step": STEP}

    def octets(self) -> bytes:
        """Give the activations as they travel: little-endian 16-bit integers."""
        return self.release.steps.astype("<i2").tobytes()


def prepared(pictures: Sequence[NDArray[np.uint8]], *, color: Color, noise: float) -> Offer:
    """Run the front on pictures and add the noise, once.

    Args:
        pictures: Each uint8, (height, width, channels of `color`).
        color: Which front.
        noise: Standard deviation, 0 or more; 0 hides nothing but the high frequencies.

    Raises:
        UsageError: Impossible noise.
    """
    small = np.stack([resize(picture, (GRID, GRID)) for picture in pictures])
    made = activations(small, color=color)
    try:
        return Offer(color, released(made, noise=noise, octets=os.urandom(octets_needed(made.size))))
    except ValueError as error:
        raise UsageError(f"--noise: {error}") from None


@contextmanager
def listening(address: Address) -> Iterator[socket.socket]:
    """Listen; port 0 lets the system choose.

    Raises:
        UsageError: The address is taken or not this machine's.
    """
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((address.host, address.port), family=family)
    except OSError as error:
        raise UsageError(f"--listen {address}: cannot listen there ({error.strerror or error})") from error
    with listener:
        yield listener


def share(
    listener: socket.socket, offer: Offer, *, token: bytes, tls: ssl.SSLContext | None, wait: float, tell: Tell
) -> str:
    """Answer peers one after another until one that knows the token has everything.

    Args:
        listener: Listening socket.
        offer: What is given, the same to everybody.
        token: What the owner must know.
        tls: None on loopback.
        wait: Seconds after which nobody is waited for any longer.
        tell: Gets one line whenever a peer was turned away or broke off.

    Returns:
        Address of the owner that got everything.

    Raises:
        ExchangeError: Nobody completed in time.
    """
    deadline = time.monotonic() + wait
    while time.monotonic() < deadline:
        listener.settimeout(min(LONGEST_STEP, wait))
        try:
            connection, where = listener.accept()
        except TimeoutError:
            continue
        peer = str(Address(str(where[0]), int(where[1])))
        try:
            with connection, polite(peer), _secured(connection, tls) as secured:
                _give(welcome(secured, token=token, peer=peer), offer)
                return peer
        except PeerRefused as error:
            tell(f"turned away {error}")
        except ExchangeError as error:
            tell(f"broken off: {error}; still listening, the same numbers are kept")
    raise ExchangeError(
        f"nobody with the token took the covers within {wait:g} s; start both sides again, or raise --wait"
    )


@contextmanager
def _secured(connection: socket.socket, tls: ssl.SSLContext | None) -> Iterator[socket.socket]:
    connection.settimeout(GREETING_LIMIT)
    if tls is None:
        yield connection
        return
    with tls.wrap_socket(connection, server_side=True) as secured:
        yield secured


def _give(channel: Channel, offer: Offer) -> None:
    asked = channel.listen()
    if asked.get("color") != offer.color:
        channel.tell(
            {"refused": f"these covers are shared as {offer.color}, you asked for {str(asked.get('color'))[:20]}"}
        )
        raise ExchangeError(f"{channel.peer}: asked for another color than {offer.color}; give --color to both sides")
    channel.tell(offer.facts())
    octets = offer.octets()
    for start in range(0, len(octets), LONGEST_PIECE):
        channel.send(octets[start : start + LONGEST_PIECE])
    if channel.receive(most=LONGEST_TALK) != sha256(octets).digest():
        raise ExchangeError(f"{channel.peer}: says that something else arrived than was sent")

"""Messages between data holder and owner: length in front, bounded, sealed with a key of this conversation. No pickle.

    holder -> owner   HELLO, 32 random octets
    owner  -> holder  32 random octets, proof of the token
    holder -> owner   proof of the token
    owner  -> holder  request (JSON)
    holder -> owner   offer (JSON), then the activations in pieces
    owner  -> holder  SHA-256 of what arrived

Either proof is an HMAC over both random values and the role, so a peer without the token learns nothing and a recorded
conversation cannot be replayed. Later messages carry an HMAC over direction, number and content: nothing can be
altered, dropped or swapped on the way. Hidden from listeners they are only under TLS, which every address but loopback requires.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from ptynet_plugin.errors import ExchangeError

__all__ = [
    "GREETING_LIMIT",
    "LONGEST_PIECE",
    "LONGEST_TALK",
    "PATIENCE",
    "Channel",
    "PeerRefused",
    "greet",
    "polite",
    "welcome",
]

HELLO = b"ptynet-covers/1\n"
NONCE = PROOF = SEAL = 32
LONGEST_TALK = 4096
LONGEST_PIECE = 1 << 20
LENGTH = 4
GREETING_LIMIT = 10.0
"""Seconds a peer has to prove that it knows the token."""

PATIENCE = 30.0
"""Seconds without one octet after which a peer counts as dead."""

OWNER, HOLDER = b"owner", b"holder"


class PeerRefused(ExchangeError):  # noqa: N818 -- reads as what happened, as in errors.py
    """The peer does not know the token, or does not speak this protocol."""


@dataclass
class Channel:
    """A conversation with a peer that has proved to know the token.

    Attributes:
        connection: Connected socket, under TLS or on loopback.
        peer: Its address, for messages.
        key: 32 octets, of this conversation alone.
        role: Which side this is.
    """

    connection: socket.socket
    peer: str
    key: bytes = field(repr=False)
    role: bytes
    _sent: int = 0
    _received: int = 0

    def send(self, content: bytes) -> None:
        """Send one message."""
        seal = _seal(self.key, self.role, self._sent, content)
        self._sent += 1
        _send(self.connection, seal + content)

    def receive(self, *, most: int) -> bytes:
        """Receive one message of at most `most` octets.

        Raises:
            ExchangeError: The peer died, was silent too long, announced more than `most`, or its seal is wrong.
        """
        whole = _receive(self.connection, most=SEAL + most, least=SEAL, peer=self.peer)
        seal, content = whole[:SEAL], whole[SEAL:]
        other = HOLDER if self.role == OWNER else OWNER
        if not hmac.compare_digest(seal, _seal(self.key, other, self._received, content)):
            raise ExchangeError(f"{self.peer}: message {self._received + 1} was altered on the way; nothing was kept")
        self._received += 1
        return content

    def tell(self, facts: dict[str, Any]) -> None:
        """Send a JSON object."""
        self.send(json.dumps(facts, allow_nan=False).encode())

    def listen(self) -> dict[str, Any]:
        """Receive a JSON object of at most `LONGEST_TALK` octets; errors as for `receive`."""
        content = self.receive(most=LONGEST_TALK)
        try:
            facts = json.loads(content)
        except (ValueError, RecursionError):
            facts = None
        if not isinstance(facts, dict):
            raise ExchangeError(f"{self.peer}: sent {len(content)} octets that are no JSON object")
        return facts


def welcome(connection: socket.socket, *, token: bytes, peer: str) -> Channel:
    """Greet an owner as the data holder.

    Raises:
        PeerRefused: It does not know the token, or speaks something else, or takes too long.
    """
    deadline = time.monotonic() + GREETING_LIMIT
    own = secrets.token_bytes(NONCE)
    connection.settimeout(GREETING_LIMIT)
    try:
        _send(connection, HELLO + own)
        answer = _receive(connection, most=NONCE + PROOF, least=NONCE + PROOF, peer=peer, deadline=deadline)
    except ExchangeError as error:
        raise PeerRefused(str(error)) from None
    theirs, proof = answer[:NONCE], answer[NONCE:]
    if not hmac.compare_digest(proof, _proof(token, OWNER, own, theirs)):
        raise PeerRefused(f"{peer}: does not know the token")
    _send(connection, _proof(token, HOLDER, own, theirs))
    connection.settimeout(PATIENCE)
    return Channel(connection, peer, _proof(token, b"conversation", own, theirs), HOLDER)


def greet(connection: socket.socket, *, token: bytes, peer: str) -> Channel:
    """Greet a data holder as the owner.

    Raises:
        PeerRefused: It does not know the token, or speaks something else.
        ExchangeError: It died.
    """
    deadline = time.monotonic() + GREETING_LIMIT
    connection.settimeout(GREETING_LIMIT)
    hello = _receive(connection, most=LONGEST_TALK, least=1, peer=peer, deadline=deadline)
    theirs = hello.removeprefix(HELLO)
    if not hello.startswith(HELLO) or len(theirs) != NONCE:
        raise PeerRefused(f"{peer}: is no `ptynet share-covers` of this version (it began with {hello[:20]!r})")
    own = secrets.token_bytes(NONCE)
    _send(connection, own + _proof(token, OWNER, theirs, own))
    try:
        proof = _receive(connection, most=PROOF, least=PROOF, peer=peer, deadline=deadline)
    except ExchangeError:
        raise PeerRefused(f"{peer}: hung up on the token; both sides need the same token file") from None
    if not hmac.compare_digest(proof, _proof(token, HOLDER, theirs, own)):
        raise PeerRefused(f"{peer}: does not know the token; whoever listens there is not your data holder")
    connection.settimeout(PATIENCE)
    return Channel(connection, peer, _proof(token, b"conversation", theirs, own), OWNER)


@contextmanager
def polite(peer: str) -> Iterator[None]:
    """Tell what befalls a connection as `ExchangeError`."""
    try:
        yield
    except TimeoutError:
        raise ExchangeError(f"{peer}: sent nothing for {PATIENCE:.0f} s; is the other side still running?") from None
    except ssl.SSLCertVerificationError as error:
        reason = error.verify_message
        raise ExchangeError(f"{peer}: its certificate is not trusted ({reason}); see --ca-cert") from None
    except (ssl.SSLError, OSError) as error:
        raise ExchangeError(f"{peer}: the connection failed ({error.strerror or error})") from None


def _send(connection: socket.socket, content: bytes) -> None:
    connection.sendall(len(content).to_bytes(LENGTH, "big") + content)


def _receive(connection: socket.socket, *, most: int, least: int, peer: str, deadline: float | None = None) -> bytes:
    length = int.from_bytes(_exactly(connection, LENGTH, peer, deadline), "big")
    if not least <= length <= most:
        raise ExchangeError(f"{peer}: announces a message of {length} octets, {least} to {most} are expected here")
    return _exactly(connection, length, peer, deadline)


def _exactly(connection: socket.socket, count: int, peer: str, deadline: float | None) -> bytes:
    parts: list[bytes] = []
    missing = count
    while missing:
        if deadline is not None and time.monotonic() > deadline:
            raise ExchangeError(f"{peer}: did not finish its greeting within {GREETING_LIMIT:.0f} s")
        part = connection.recv(min(missing, 1 << 16))
        if not part:
            raise ExchangeError(f"{peer}: hung up with {missing} of {count} octets still to come")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _proof(token: bytes, role: bytes, holder_nonce: bytes, owner_nonce: bytes) -> bytes:
    return hmac.digest(token, b"ptynet-covers/1/" + role + b"\0" + holder_nonce + owner_nonce, sha256)


def _seal(key: bytes, role: bytes, number: int, content: bytes) -> bytes:
    return hmac.digest(key, role + b"\0" + number.to_bytes(8, "big") + content, sha256)

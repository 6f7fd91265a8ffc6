"""What a verifier needs of a suspect: one contract, whatever server stands behind it.

    Endpoint    info() -> EndpointInfo,  wait(),  ask(picture) -> Answer,  close()
        │
    Client      retries, pace and the meaning of answers, written once          (client.py)
        │
    Transport   one picture out, one payload back, in one server's language     (transports/)

Tests stand an in-memory endpoint in a suspect's place; a new server is a new transport.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Answer", "AnswerKind", "Endpoint", "EndpointInfo", "Exchange", "Picture", "Transport"]

Picture = NDArray[np.uint8]
"""uint8, shape (height, width, channels), channels in RGB order or one grey channel."""

AnswerKind = Literal["labels", "topk", "probabilities", "logits"]


@dataclass(frozen=True)
class EndpointInfo:
    """What the endpoint says of itself; nothing of it is believed, all of it is reported.

    Attributes:
        address: Normal form of where it was asked, without credentials.
        identity: What a claim's ledger knows it by: the address, or for a file the SHA-256 of its model.
        server: Name and version it announces, or "".
        model: Name of the model asked.
        version: Version asked for or announced, or "".
        reads: "tensor", "png" or "jpeg": how a picture is sent.
        details: Whatever else it announced that a report may show, such as datatype and shape of its input.
    """

    address: str
    identity: str
    server: str
    model: str
    version: str
    reads: str
    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Exchange:
    """One request and what came back, before its meaning.

    Attributes:
        request: The exact body that was sent.
        raw: The exact body that came back.
        payload: The body decoded: an array of numbers or of byte strings, or a JSON value, or a text.
    """

    request: bytes
    raw: bytes
    payload: Any


@dataclass(frozen=True)
class Answer:
    """What the endpoint said about one picture.

    Attributes:
        top: Class in the top place, in [0, classes); None where two share it or the label is not one class's.
        scores: float64, shape (classes,), where all classes were scored; else None.
        kind: How much was told.
        request: The exact body that was sent.
        raw: The exact body that came back.
        seconds: From the first byte sent to the last received, the last attempt alone.
    """

    top: int | None
    scores: NDArray[np.float64] | None
    kind: AnswerKind
    request: bytes
    raw: bytes
    seconds: float


class Transport(Protocol):
    """Speaks one server's language. Never retries, never waits, never interprets."""

    def info(self) -> EndpointInfo:
        """Say what was learnt when connecting; asks nothing."""
        ...

    def send(self, picture: Picture) -> Exchange:
        """Ask once.

        Raises:
            EndpointError: One of its kinds; see `ptynet_plugin.errors`.
        """
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class Endpoint(Protocol):
    """A suspect."""

    def info(self) -> EndpointInfo:
        """Say what was learnt when connecting; asks nothing."""
        ...

    def wait(self) -> None:
        """Wait until another question may be asked; a run interrupted here has lost nothing."""
        ...

    def ask(self, picture: Picture) -> Answer:
        """Ask for the class of one picture, retrying as configured.

        Raises:
            EndpointError: No answer came after all retries, or none that is a classification.
        """
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class Closing:
    """Gives a class with `close` the `with` statement."""

    def close(self) -> None:
        """Let go of what is held; the default holds nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""An endpoint over any transport: the meaning of answers, retries and pace, written once.

An attempt is repeated where nobody was found, time ran out, or the server asked to wait; never where it said no. A repeated
attempt sends the same bytes: the symbol is asked once, however often the network made it necessary to say it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ptynet_plugin.errors import EndpointError, Refused, Throttled, TimedOut, Unreachable
from ptynet_plugin.verification.answers import AnswerReader
from ptynet_plugin.verification.connection import Connection, Headers
from ptynet_plugin.verification.endpoint import Answer, Closing, EndpointInfo, Exchange, Picture, Transport

__all__ = ["Client", "patiently", "scrubbed"]

Result = TypeVar("Result")

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
LONGEST_RETRY_AFTER = 300.0
"""A server that asks for more is not waited for: the answer is lost, and the user may resume later."""

GATEWAY_STATUS = (502, 503, 504)


class Client(Closing):
    """Asks one endpoint.

    Args:
        transport: Speaks the server's language; closed with the client.
        reader: Knows what answers mean.
        connection: Retries and pace.
        sleep: Waits for seconds; tests give their own.
        clock: Seconds that only grow; tests give their own.
    """

    def __init__(
        self,
        transport: Transport,
        reader: AnswerReader,
        connection: Connection,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport, self._reader, self._connection = transport, reader, connection
        self._sleep, self._clock = sleep, clock
        self._next_start = clock()

    def info(self) -> EndpointInfo:
        """Say what was learnt when connecting."""
        return self._transport.info()

    def ask(self, picture: Picture) -> Answer:
        """Ask for the class of one picture.

        Raises:
            EndpointError: The last attempt's failure.
        """
        started = 0.0

        def attempt() -> Exchange:
            nonlocal started
            self._keep_pace()
            started = self._clock()
            return self._transport.send(picture)

        with scrubbed(self._connection.headers):
            exchange = patiently(attempt, retries=self._connection.retries, sleep=self._sleep)
            return self._answer(exchange, self._clock() - started)

    def wait(self) -> None:
        """Wait until the pace allows another question."""
        if self._connection.pace is not None and self._next_start > self._clock():
            self._sleep(self._next_start - self._clock())

    def close(self) -> None:
        """Let go of the connection."""
        self._transport.close()

    def _keep_pace(self) -> None:
        if self._connection.pace is None:
            return
        self.wait()
        self._next_start = max(self._next_start, self._clock()) + 1.0 / self._connection.pace

    def _answer(self, exchange: Exchange, seconds: float) -> Answer:
        reading = self._reader.read(exchange.payload)
        return Answer(reading.top, reading.scores, reading.kind, exchange.request, exchange.raw, seconds)


@contextmanager
def scrubbed(headers: Headers) -> Iterator[None]:
    """Take our own headers out of failures' messages: a server may echo in any answer what it was sent."""
    try:
        yield
    except EndpointError as error:
        error.args = tuple(headers.scrub(part) if isinstance(part, str) else part for part in error.args)
        raise


def patiently(attempt: Callable[[], Result], *, retries: int, sleep: Callable[[float], None] = time.sleep) -> Result:
    """Attempt something until it succeeds, fails for good, or has failed `retries` times more than once.

    Raises:
        EndpointError: The last attempt's failure.
    """
    for tried in range(retries):
        try:
            return attempt()
        except EndpointError as error:
            wait = _wait(error, tried)
            if wait is None:
                raise
            sleep(wait)
    return attempt()


def _wait(error: EndpointError, tried: int) -> float | None:
    """Seconds until the next attempt, doubling; None where another attempt is pointless."""
    backoff: float = min(FIRST_WAIT * 2.0**tried, LONGEST_WAIT)
    if isinstance(error, Throttled):
        asked = error.retry_after
        if asked is None:
            return backoff
        return None if asked > LONGEST_RETRY_AFTER else max(asked, backoff)
    if isinstance(error, Unreachable | TimedOut):
        return backoff
    return backoff if isinstance(error, Refused) and error.status in GATEWAY_STATUS else None

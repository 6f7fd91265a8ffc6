"""How long the verifier waits, how often it tries again, and how fast it asks."""

from __future__ import annotations

import datetime
import itertools
from email.utils import format_datetime

import numpy as np
import pytest

from ptynet_plugin.errors import BadAnswer, EndpointError, Refused, Throttled, TimedOut, Unreachable
from ptynet_plugin.verification.answers import AnswerReader
from ptynet_plugin.verification.client import Client
from ptynet_plugin.verification.connection import Connection
from ptynet_plugin.verification.endpoint import EndpointInfo, Exchange
from ptynet_plugin.verification.transports.http import retry_after_seconds
from tests.support.asking import PICTURE, ask
from tests.support.standins import CLASSES, Request, http_server, torchserve


def test_retries_until_the_server_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptynet_plugin.verification.client.FIRST_WAIT", 0.01)
    turn = itertools.count()

    def answer(request: Request) -> object:
        return torchserve(request) if next(turn) == 2 else (503, {}, b"starting")

    with http_server(answer) as port:
        assert ask(port, retries=2) == 5
    with http_server(answer) as port, pytest.raises(Refused, match="503"):
        ask(port, retries=2)


class Scripted:
    """A transport that does what its script says, under a clock of its own."""

    def __init__(self, *script: Exception | int) -> None:
        self.script, self.at, self.now = list(script), [], 0.0

    def info(self) -> EndpointInfo:
        raise NotImplementedError

    def send(self, picture: np.ndarray) -> Exchange:
        self.at.append(round(self.now, 3))
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return Exchange(b"asked", b"said", step)

    def close(self) -> None:
        pass

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def client(self, **connection: object) -> Client:
        settings = Connection(**{"retries": 3, **connection})
        return Client(self, AnswerReader(CLASSES), settings, sleep=self.sleep, clock=lambda: self.now)


def throttled(seconds: float | None) -> Throttled:
    return Throttled("wait", status=429, retry_after=seconds)


@pytest.mark.parametrize(
    ("script", "at"),
    [
        ([4], [0]),
        ([Unreachable("x"), TimedOut("x"), Refused("x", status=502), 4], [0, 0.5, 1.5, 3.5]),
        ([throttled(None), throttled(None), 4], [0, 0.5, 1.5]),
        ([throttled(7), throttled(0), 4], [0, 7, 8]),
    ],
)
def test_back_off_doubles_and_retry_after_is_obeyed(script: list, at: list[float]) -> None:
    transport = Scripted(*script)
    assert transport.client().ask(PICTURE).top == 4
    assert transport.at == at


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (Unreachable("x"), 4),
        (throttled(None), 4),
        (throttled(301), 1),
        (Refused("x", status=400), 1),
        (Refused("x", status=401), 1),
        (Refused("x", status=500), 1),
        (BadAnswer("x"), 1),
    ],
)
def test_what_is_worth_another_attempt(error: EndpointError, attempts: int) -> None:
    transport = Scripted(*[error] * 9)
    with pytest.raises(type(error)):
        transport.client().ask(PICTURE)
    assert len(transport.at) == attempts


def test_pace_spaces_requests_and_retries_alike() -> None:
    transport = Scripted(1, 1, Unreachable("x"), 1)
    client = transport.client(pace=0.5)
    for _ in range(3):
        client.ask(PICTURE)
    assert transport.at == [0, 2, 4, 6]


def test_retry_after_as_seconds_or_as_a_date() -> None:
    noon = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
    later = format_datetime(noon + datetime.timedelta(seconds=90), usegmt=True)
    for text, seconds in {"7": 7.0, later: 90.0, "soon": None, "": None, "-3": None}.items():
        assert retry_after_seconds(text, now=noon.timestamp()) == seconds
    assert retry_after_seconds(later, now=noon.timestamp() + 100) == 0.0
    assert retry_after_seconds(None, now=0.0) is None

"""Endpoints in trouble, each a real small server: what the verifier says."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from ptynet_plugin.errors import BadAnswer, EndpointError, Refused, Throttled, TimedOut, Unreachable
from ptynet_plugin.verification.answers import BrokenScores
from ptynet_plugin.verification.connection import Headers
from ptynet_plugin.verification.opening import open_endpoint
from ptynet_plugin.verification.transports.http import LARGEST_BODY
from tests.support.asking import SPEC, TOKEN, ask, refuse
from tests.support.standins import Request, as_json, grpc_server, http_server, open_inference, torchserve


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        ((200, {}, b"<!DOCTYPE html><title>Sign in</title>"), BadAnswer, "is a web page, expected JSON"),
        ((200, {}, b'{"0": 0.25, "1": 0.5'), BadAnswer, "broken JSON"),
        ((200, {}, b"[NaN, 1, 2, 3, 4, 5, 6, 7, 8, 9]"), BrokenScores, "NaN among its 10 scores"),
        ((200, {}, b"[1, 2, 3, 4]"), BrokenScores, "scores 4 classes, the claim speaks of 10"),
        ((200, {}, b"\x89PNG\r\n\x1a\n\xff"), BadAnswer, "9 bytes that are no text"),
        ((200, {}, b"x" * (LARGEST_BODY + 1)), BadAnswer, "larger than 16 MiB"),
        ((401, {}, b'{"message": "no token"}'), Refused, "answered 401 .*no token.*give credentials as --header @FILE"),
        ((403, {"Content-Type": "text/html"}, b"<html>no"), Refused, "answered 403 Forbidden with a web page; give cred"),
        ((404, {}, b'{"message": "Model not found: digits"}'), Refused, "is the name of model 'digits' right"),
        ((400, {}, b"Token Authorization failed. Token either incorrect"), Refused, "Token either incorrect"),
        ((500, {}, b"\x1b[31mTraceback\n\x07 (most recent"), Refused, r"500 Internal Server Error: \[31mTraceback \(most"),
        ((302, {"Location": "https://elsewhere/login"}, b""), Refused, "302, a redirect to https://elsewhere/login; .*"),
        ((429, {}, b""), Throttled, "answered 429 .*--pace asks more slowly"),
        ((503, {"Retry-After": "1"}, b""), Throttled, "answered 503"),
        ((503, {}, b""), Refused, "answered 503"),
    ],
)  # fmt: skip
def test_bad_http_answers_are_named(reply: object, error: type[EndpointError], message: str) -> None:
    with http_server(lambda request: reply) as port, pytest.raises(error, match=message) as caught:
        ask(port)
    assert type(caught.value) is error
    assert str(caught.value).isprintable()


def test_a_port_where_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unreachable, match=f"127.0.0.1:{port}/digits: cannot be reached .*is the server up"):
        ask(port)


def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(Unreachable, match="cannot be reached"):
        ask(80, host="no-such-host.invalid")


def test_a_server_that_never_answers_is_left_after_the_time_limit() -> None:
    started = time.monotonic()
    with (
        http_server(lambda request: time.sleep(1.5) or as_json(1)) as port,
        pytest.raises(TimedOut, match=r"within 0\.3 s"),
    ):
        ask(port, timeout=0.3)
    assert time.monotonic() - started < 5


@contextlib.contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept one connection at a time, read the request's head, and let `talk` answer as it likes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(65536)
                    talk(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def test_a_server_that_drips_is_left_after_the_time_limit() -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(40):
            connection.sendall(b" ")
            time.sleep(0.1)

    started = time.monotonic()
    with raw_server(drip) as port, pytest.raises(TimedOut, match=r"no complete answer within 0\.5 s"):
        ask(port, timeout=0.5)
    assert time.monotonic() - started < 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[0.1, 0.2", "broke before the answer was complete"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "broke before the answer was complete"),
        (b"", "broke before the answer was complete"),
    ],
)
def test_connections_that_break(words: bytes, message: str) -> None:
    with raw_server(lambda connection: connection.sendall(words)) as port, pytest.raises(Unreachable, match=message):
        ask(port)


@pytest.mark.parametrize("server", ["torchserve+http", "kserve+http"])
def test_a_server_that_echoes_the_token_does_not_get_it_into_an_error(server: str) -> None:
    headers = Headers((("Authorization", f"Bearer {TOKEN}"), ("X-Key", TOKEN)))

    def answer(request: Request) -> object:
        return as_json({"error": f"bad: {request.headers['Authorization']} {request.headers['X-Key']}"}, 401)

    with http_server(answer) as port, pytest.raises(Refused) as caught:
        ask(port, server=server, headers=headers)
    assert TOKEN not in f"{caught.value!r} {caught.value.__cause__!r} {headers!r} {headers}"
    assert "***" in str(caught.value)


@pytest.mark.parametrize("server", ["torchserve+http", "kserve+http"])
def test_nor_does_one_that_echoes_it_in_an_answer(server: str) -> None:
    headers = Headers((("Authorization", f"Bearer {TOKEN}"),))

    def answer(request: Request) -> object:
        return as_json({"headers": request.headers["Authorization"]})

    with http_server(answer) as port, pytest.raises(BadAnswer) as caught:
        ask(port, server=server, headers=headers)
    assert TOKEN not in str(caught.value)
    assert "***" in str(caught.value)


def test_escape_sequences_of_a_server_s_name_do_not_reach_the_terminal() -> None:
    def answer(request: Request) -> object:
        if request.path == "/v2":
            return as_json({"name": "\x1b]0;owned\x07\x1b[31mserver", "version": "1\n2"})
        return open_inference(request)

    with http_server(answer) as port:
        client = open_endpoint(f"kserve+http://127.0.0.1:{port}/digits", spec=SPEC)
        server = client.info().server
        client.close()
    assert server.isprintable()


@pytest.mark.parametrize(
    ("code", "words", "error", "message"),
    [
        (grpc.StatusCode.UNAVAILABLE, "This protocol is restricted, expecting header 'x'", Refused, "give credentials"),
        (grpc.StatusCode.UNAVAILABLE, "worker died", Unreachable, "cannot be reached"),
        (grpc.StatusCode.UNAUTHENTICATED, "who", Refused, "UNAUTHENTICATED: who .*give credentials"),
        (grpc.StatusCode.NOT_FOUND, "no such model", Refused, "is the name of model 'digits' right"),
        (grpc.StatusCode.INTERNAL, "oops", Refused, "answered INTERNAL: oops"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down", Throttled, "--pace asks more slowly"),
    ],
)
def test_grpc_failures_become_ours(code: grpc.StatusCode, words: str, error: type[EndpointError], message: str) -> None:
    path = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
    methods = {path: refuse(code, words, (("retry-after", "9"),))}
    headers = Headers((("X-Key", TOKEN),))
    with grpc_server(methods) as port, pytest.raises(error, match=message) as caught:
        ask(port, server="torchserve+grpc", headers=headers)
    assert type(caught.value) is error
    assert TOKEN not in str(caught.value)
    if isinstance(caught.value, Throttled):
        assert caught.value.retry_after == 9.0


def test_grpc_that_hangs_and_grpc_against_http() -> None:
    path = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
    with (
        grpc_server({path: lambda octets, context: time.sleep(1) or b""}) as port,
        pytest.raises(TimedOut, match=r"0\.3 s"),
    ):
        ask(port, server="torchserve+grpc", timeout=0.3)
    with http_server(torchserve) as port, pytest.raises(Unreachable, match="is the server up, the port its gRPC port"):
        ask(port, server="torchserve+grpc")
    with (
        grpc_server({path: lambda octets, context: b"\xff\xff"}) as port,
        pytest.raises(BadAnswer, match="no PredictionResponse"),
    ):
        ask(port, server="torchserve+grpc")

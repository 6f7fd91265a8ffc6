"""Endpoints in trouble, each a real small server: what the verifier says, and how long it waits."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import itertools
import socket
import ssl
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from email.utils import format_datetime
from pathlib import Path

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ptynet_plugin.errors import BadAnswer, EndpointError, Refused, Throttled, TimedOut, Unreachable, UsageError
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.verification.address import parse_address
from ptynet_plugin.verification.answers import AnswerReader, BrokenScores
from ptynet_plugin.verification.client import Client
from ptynet_plugin.verification.connection import Connection, Headers
from ptynet_plugin.verification.endpoint import EndpointInfo, Exchange
from ptynet_plugin.verification.opening import open_endpoint
from ptynet_plugin.verification.transports.channel import Channel
from ptynet_plugin.verification.transports.http import LARGEST_BODY, HttpSession, retry_after_seconds
from tests.support.standins import CLASSES, Request, as_json, grpc_server, http_server, open_inference, torchserve

SPEC = InputSpec(color="RGB", layout="NCHW", size=(8, 8), dtype="float32", output="logits", classes=CLASSES)
PICTURE = np.full((8, 8, 3), 140, np.uint8)
TOKEN = "t0k3n-of-the-owner"


def ask(port: int, *, server: str = "torchserve+http", host: str = "127.0.0.1", **connection: object) -> int | None:
    settings = Connection(**{"timeout": 2.0, "retries": 0, **connection})
    with open_endpoint(f"{server}://{host}:{port}/digits", spec=SPEC, connection=settings) as client:
        return client.ask(PICTURE).top


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


def refuse(code: grpc.StatusCode, words: str, trailing: tuple = ()) -> Callable:
    def method(octets: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata(trailing)
        context.abort(code, f"{words} {dict(context.invocation_metadata()).get('x-key', '')}")

    return method


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


def make_authority(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A private authority, and a server's TLS settings with a certificate for 127.0.0.1 signed by it."""
    now = datetime.datetime.now(datetime.UTC)

    def certificate(
        name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey, ca: bool
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
            subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(hours=1),
            not_valid_after=now + datetime.timedelta(hours=1),
        ).add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(authority, critical=False)
        if not ca:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(signer, hashes.SHA256())

    root_key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificate("Private CA", root_key, "Private CA", root_key, True)
    leaf = certificate("server", leaf_key, "Private CA", root_key, False)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(root.public_bytes(pem))
    (folder / "leaf.pem").write_bytes(leaf.public_bytes(pem))
    private = leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "leaf.key").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "leaf.pem", folder / "leaf.key")
    return folder / "ca.pem", context


def test_tls_with_a_private_authority(tmp_path: Path) -> None:
    authority, context = make_authority(tmp_path)
    with http_server(open_inference, tls=context) as port:
        assert ask(port, server="kserve+https", ca_cert=authority) == 5
        with pytest.raises(Unreachable, match=r"TLS refused .*--ca-cert names a private authority"):
            ask(port, server="kserve+https")
        with pytest.raises(Unreachable):
            ask(port, server="kserve+http")


def test_grpc_over_tls_with_a_private_authority(tmp_path: Path) -> None:
    authority, _ = make_authority(tmp_path)
    pair = (tmp_path / "leaf.key").read_bytes(), (tmp_path / "leaf.pem").read_bytes()
    path = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
    methods = {path: refuse(grpc.StatusCode.NOT_FOUND, "encrypted, and not found")}
    with grpc_server(methods, credentials=grpc.ssl_server_credentials([pair])) as port:
        with pytest.raises(Refused, match="encrypted, and not found"):
            ask(port, server="torchserve+grpcs", ca_cert=authority)
        with pytest.raises(Unreachable):
            ask(port, server="torchserve+grpcs")


def test_an_authority_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    (tmp_path / "broken.pem").write_text(broken)
    with pytest.raises(UsageError, match=r"empty\.pem: holds no certificate"):
        ask(9, server="kserve+https", ca_cert=tmp_path / "empty.pem")
    with pytest.raises(UsageError, match=r"broken\.pem: its certificates cannot be read"):
        ask(9, server="kserve+https", ca_cert=tmp_path / "broken.pem")


def deflated(coding: str, size: int) -> bytes:
    """Zeros, compressed to a thousandth."""
    maker = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    return b"".join(maker.compress(bytes(1 << 20)) for _ in range(size >> 20)) + maker.flush()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_an_answer_that_swells_is_cut_off_at_the_limit(coding: str) -> None:
    body = deflated(coding, 64 << 20)
    with http_server(lambda _: (200, {"Content-Encoding": coding}, body)) as port:
        session = HttpSession(parse_address(f"triton+http://127.0.0.1:{port}/m"), Connection(timeout=30))
        tracemalloc.start()
        with pytest.raises(BadAnswer, match="larger than 16 MiB"):
            session.post("infer", b"", {})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        session.close()
    assert peak < 4 * LARGEST_BODY


def test_a_coding_nobody_asked_for_is_refused_unread() -> None:
    """Brotli turns three kilobytes into two gigabytes within one piece, and httpx inflates it where brotli is installed."""
    with http_server(lambda _: (200, {"Content-Encoding": "br"}, bytes(9))) as port:
        session = HttpSession(parse_address(f"triton+http://127.0.0.1:{port}/m"), Connection(timeout=5))
        with pytest.raises(BadAnswer, match="in the encoding br, though none was asked for"):
            session.post("infer", b"", {})
        session.close()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_proxy_that_compresses_nevertheless_is_understood(coding: str) -> None:
    maker = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    packed = maker.compress(b'{"fine": 1}') + maker.flush()
    answers = iter([(200, {"Content-Encoding": coding}, packed), (200, {"Content-Encoding": coding}, b"nonsense")])
    with http_server(lambda _: next(answers)) as port:
        session = HttpSession(parse_address(f"triton+http://127.0.0.1:{port}/m"), Connection(timeout=5))
        assert session.post("infer", b"", {}).body == b'{"fine": 1}'
        with pytest.raises(BadAnswer, match=f"the answer's {coding} is broken"):
            session.post("infer", b"", {})
        session.close()


def test_a_grpc_answer_that_swells_is_refused() -> None:
    def swell(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_compression(grpc.Compression.Gzip)
        return bytes(LARGEST_BODY + 1)

    with grpc_server({"/a.Service/Method": swell}) as port:
        channel = Channel(parse_address(f"triton+grpc://127.0.0.1:{port}/m"), Connection(timeout=30))
        with pytest.raises(EndpointError):
            channel.call("/a.Service/Method", b"", bytes)
        channel.close()

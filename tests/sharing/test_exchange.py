"""The exchange in one process: repeated answers, hostile peers that know the token, TLS, addresses."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from model_store_tools.sharing import wire
from model_store_tools.sharing.address import Address, client_tls, parse_address, read_token, server_tls
from model_store_tools.sharing.holder import Offer, listening, prepared, share
from model_store_tools.sharing.owner import receive_covers
from model_store_tools.sharing.wire import Channel, greet, welcome
from ptynet_plugin.errors import ExchangeError, KeyFileError, UsageError
from ptynet_plugin.privacy.front import activations
from ptynet_plugin.privacy.release import STEP

TOKEN = bytes(range(32))
HERE = Address("127.0.0.1", 0)
PICTURES = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), np.uint8)
FACTS = {"color": "RGB", "pictures": 2, "filters": 27, "places": 7, "noise": 0.5, "clip": 32.0, "step": STEP}


@contextmanager
def serving(
    offer: Offer, *, tls: ssl.SSLContext | None = None, wait: float = 20
) -> Iterator[tuple[Address, list[str]]]:
    told: list[str] = []
    with listening(HERE) as listener:

        def run() -> None:
            try:
                share(listener, offer, token=TOKEN, tls=tls, wait=wait, tell=told.append)
            except ExchangeError as error:
                told.append(str(error))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield Address("127.0.0.1", listener.getsockname()[1]), told
        finally:
            thread.join(30)


def test_what_arrives_is_what_was_released() -> None:
    offer = prepared(list(PICTURES), color="RGB", noise=0)
    with serving(offer) as (address, told):
        got = receive_covers(address, token=TOKEN, tls=None, color="RGB")
    assert told == []
    assert got.activations == pytest.approx(activations(PICTURES, color="RGB"), abs=STEP)
    assert got.noise == 0


def test_who_breaks_off_and_asks_again_gets_the_same_numbers() -> None:
    offer = prepared(list(PICTURES), color="RGB", noise=2.0)
    with serving(offer) as (address, told):
        with socket.create_connection((address.host, address.port)) as connection:
            channel = greet(connection, token=TOKEN, peer="holder")
            channel.tell({"color": "RGB"})
            channel.listen()
            first = channel.receive(most=1 << 20)
        got = receive_covers(address, token=TOKEN, tls=None, color="RGB")
    assert len(told) == 1
    assert "still listening, the same numbers are kept" in told[0]
    assert np.array_equal(np.frombuffer(first, "<i2").reshape(4, 27, 7, 7) * np.float32(STEP), got.activations)


def test_a_second_start_draws_other_noise() -> None:
    once, again = (prepared(list(PICTURES), color="RGB", noise=1.0).release.steps for _ in range(2))
    assert (once != again).mean() > 0.99


def test_the_other_color_is_refused_on_both_sides() -> None:
    message = "shared as RGB, you asked for GRAY; give the same --color"
    offer = prepared(list(PICTURES), color="RGB", noise=1.0)
    with serving(offer, wait=2) as (address, told), pytest.raises(ExchangeError, match=message):
        receive_covers(address, token=TOKEN, tls=None, color="GRAY")
    assert "asked for another color than RGB" in told[0]


@pytest.mark.parametrize(
    ("says", "message"),
    [
        (b"", "hung up with 4 of 4 octets still to come"),
        (b"\0\0\0\x18HTTP/1.1 400 Bad Request", "is no `ptynet share-covers` of this version"),
        (b"\0\0\0\x30ptynet-covers/1\n" + bytes(32) + b"\0\0\0\x20" + bytes(32), "is not your data holder"),
    ],
    ids=["hangs-up", "speaks-http", "wrong-token"],
)
def test_a_peer_that_is_no_data_holder_is_refused(says: bytes, message: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(says)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(100)

        thread = threading.Thread(target=run)
        thread.start()
        with pytest.raises(ExchangeError, match=message):
            receive_covers(Address("127.0.0.1", listener.getsockname()[1]), token=TOKEN, tls=None, color="RGB")
        thread.join(30)


@contextmanager
def hostile(act: Callable[[Channel], None]) -> Iterator[Address]:
    """A holder that knows the token and then does what it likes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                channel = welcome(connection, token=TOKEN, peer="owner")
                channel.listen()
                act(channel)

        thread = threading.Thread(target=run)
        thread.start()
        yield Address("127.0.0.1", listener.getsockname()[1])
        thread.join(30)


def offering(**changed: object) -> Callable[[Channel], None]:
    return lambda channel: channel.tell(FACTS | changed)


def then(*messages: bytes) -> Callable[[Channel], None]:
    def act(channel: Channel) -> None:
        channel.tell(FACTS)
        for message in messages:
            channel.send(message)

    return act


def altered(channel: Channel) -> None:
    channel.key = bytes(32)
    channel.tell(FACTS)


def oversized(channel: Channel) -> None:
    channel.tell(FACTS)
    channel.connection.sendall((1 << 31).to_bytes(4, "big"))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda channel: channel.send(b"[" * 4000), "sent 4000 octets that are no JSON object"),
        (lambda channel: channel.send(b"[1, 2]"), "sent 6 octets that are no JSON object"),
        (lambda channel: channel.send(b" " * 4097), "announces a message of 4129 octets, 32 to 4128"),
        (lambda channel: channel.send(json.dumps(FACTS | {"noise": float("nan")}).encode()), "offers noise nan"),
        (offering(pictures=10**9), "offers 1000000000 pictures, 1 to 100000"),
        (offering(pictures=True), "offers True pictures"),
        (offering(pictures=0), "offers 0 pictures"),
        (offering(filters=192), "offers filters 192, this version needs 27"),
        (offering(step=1), "offers step 1, this version needs"),
        (offering(noise="much"), "offers noise much"),
        (offering(refused="x" * 3000), "x; give the same --color"),
        (then(b"x" * 3000), "hung up with 4 of 4 octets"),
        (then(b""), "sent an empty piece after 0 of 5292 octets"),
        (then(b"x" * 5293), "announces a message of 5325 octets, 32 to 5324"),
        (altered, "message 1 was altered on the way"),
        (oversized, "announces a message of 2147483648 octets"),
    ],
)
def test_a_hostile_holder_is_refused_whatever_it_says(act: Callable[[Channel], None], message: str) -> None:
    with hostile(act) as address, pytest.raises(ExchangeError, match=message):
        receive_covers(address, token=TOKEN, tls=None, color="RGB")


def test_a_silent_peer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PATIENCE", 0.3)
    go_on = threading.Event()
    with hostile(lambda _: go_on.wait(20) and None) as address:
        with pytest.raises(ExchangeError, match=r"sent nothing for 0 s; is the other side still running\?"):
            receive_covers(address, token=TOKEN, tls=None, color="RGB")
        go_on.set()


def test_messages_cannot_be_dropped_or_swapped() -> None:
    one, other = socket.socketpair()
    with one, other:
        sender, receiver = Channel(one, "a", bytes(32), wire.HOLDER), Channel(other, "b", bytes(32), wire.OWNER)
        sender._sent = 1
        sender.send(b"second")
        with pytest.raises(ExchangeError, match="message 1 was altered"):
            receiver.receive(most=100)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of its own for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "data holder")])
    now = datetime.datetime.now(datetime.UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "holder.pem", tmp_path / "holder.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    no_password = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, no_password))
    return paths


def test_under_tls_an_untrusted_certificate_is_refused_and_a_trusted_one_taken(certificate: tuple[Path, Path]) -> None:
    server = server_tls(*certificate, HERE)
    with serving(prepared(list(PICTURES), color="RGB", noise=0), tls=server) as (address, told):
        with pytest.raises(ExchangeError, match=r"its certificate is not trusted \(self-signed"):
            receive_covers(address, token=TOKEN, tls=ssl.create_default_context(), color="RGB")
        got = receive_covers(address, token=TOKEN, tls=client_tls(certificate[0], address), color="RGB")
    assert len(got.activations) == len(PICTURES)
    assert len(told) == 1


def test_without_tls_only_loopback_is_listened_on() -> None:
    with pytest.raises(UsageError, match="reachable from elsewhere: give --tls-cert and --tls-key"):
        server_tls(None, None, Address("0.0.0.0", 0))
    assert server_tls(None, None, HERE) is None
    assert client_tls(None, HERE) is None
    assert client_tls(None, Address("example.org", 1)) is not None


def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("nothing")
    with pytest.raises(UsageError, match=r"x\.pem"):
        server_tls(tmp_path / "x.pem", tmp_path / "x.pem", HERE)
    with pytest.raises(UsageError, match=r"--ca-cert .*x\.pem: holds no certificate"):
        client_tls(tmp_path / "x.pem", HERE)
    with pytest.raises(UsageError, match="belong together"):
        server_tls(tmp_path / "x.pem", None, HERE)


@pytest.mark.parametrize("text", ["9000", "host:", ":9000", "host:x", "host:70000", "::1:9000", "host:-1"])
def test_addresses_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--listen is"):
        parse_address(text, flag="--listen")


def test_addresses() -> None:
    assert parse_address("[::1]:80", flag="--listen") == Address("::1", 80)
    assert str(Address("::1", 80)) == "[::1]:80"
    assert [Address(host, 1).loopback for host in ("127.0.0.2", "::1", "localhost", "10.0.0.1", "host")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_a_token_lies_closed_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("abcd")
    path.chmod(0o600)
    with pytest.raises(UsageError, match="holds no token"):
        read_token(path)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        read_token(path)

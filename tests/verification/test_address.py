"""ENDPOINT in all its spellings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptynet_plugin.errors import PtynetError, UsageError
from ptynet_plugin.verification.address import SCHEMES, parse_address
from ptynet_plugin.verification.connection import Headers, parse_headers, parse_pace


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("triton+http://localhost/m", "triton+http://localhost:8000/m"),
        ("triton+grpc://Host.Example/m/3", "triton+grpc://host.example:8001/m/3"),
        ("torchserve+http://h/m/1.0", "torchserve+http://h:8080/m/1.0"),
        ("torchserve+grpc://h/m", "torchserve+grpc://h:7070/m"),
        ("kserve+http://h/m", "kserve+http://h:80/m"),
        ("triton+https://h/m", "triton+https://h:443/m"),
        ("triton+grpcs://h:9/m", "triton+grpcs://h:9/m"),
        ("kserve+https://h:8443/tenants/a/m/2/", "kserve+https://h:8443/tenants/a/m/2"),
        ("triton+http://[::1]:8000/m", "triton+http://[::1]:8000/m"),
        ("triton+http://h/my%20model", "triton+http://h:8000/my%20model"),
        ("triton+http://h/7", "triton+http://h:8000/7"),
        ("file:a/b.mar", "file:a/b.mar"),
        ("file:///a/b.mar", "file:/a/b.mar"),
        ("file://localhost/a/b.mar", "file:/a/b.mar"),
    ],
)
def test_normal_form_and_back(text: str, normal: str) -> None:
    address = parse_address(text)
    assert str(address) == normal
    assert parse_address(normal) == address


def test_parts() -> None:
    address = parse_address("kserve+https://h:8443/tenants/a/m/2")
    assert (address.server, address.protocol, address.tls, address.host, address.port) == (
        "kserve",
        "http",
        True,
        "h",
        8443,
    )
    assert (address.prefix, address.model, address.version) == ("/tenants/a", "m", "2")
    assert parse_address("file:x.onnx").path == Path("x.onnx")


@pytest.mark.parametrize(
    "text", ["triton+http://h/../m", "triton+http://h/a%00b", "triton+http://h/%2e%2e", "triton+ftp://h/m", "file:a\0b"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)


def test_loopback_is_known_so_that_no_proxy_comes_between() -> None:
    hosts = {"localhost": True, "127.0.0.2": True, "[::1]": True, "example.org": False}
    assert {host: parse_address(f"triton+http://{host}/m").is_loopback for host in hosts} == hosts


@given(st.sampled_from([*SCHEMES, "http", "file", ""]), st.text(max_size=30))
def test_any_text_is_an_address_or_a_usage_error(scheme: str, rest: str) -> None:
    try:
        address = parse_address(f"{scheme}://{rest}")
    except UsageError:
        return
    assert address.model or address.path


def test_headers_from_the_command_line_and_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "h").write_text("# comment\n\nAuthorization: Bearer a:b\nX-Empty:\n")
    headers = parse_headers(["X-One: 1", f"@{tmp_path / 'h'}"])
    assert headers.items == (("X-One", "1"), ("Authorization", "Bearer a:b"), ("X-Empty", ""))
    assert str(headers) == "X-One: ***, Authorization: ***, X-Empty: ***"
    assert "Bearer" not in repr(headers)


@pytest.mark.parametrize(
    "text", ["nonsense-secret", "bad name: nonsense-secret", "A: b\r\nX: nonsense-secret", ": nonsense-secret"]
)
def test_malformed_headers_are_refused_without_showing_them(text: str) -> None:
    with pytest.raises(PtynetError) as caught:
        parse_headers([text])
    assert "nonsense-secret" not in str(caught.value)


def test_scrubbing_takes_whole_values_and_their_words() -> None:
    headers = Headers((("Authorization", "Bearer abcdef"), ("v", "2")))
    assert (
        headers.scrub("got 'Bearer abcdef', token abcdef, bearer of 2 news") == "got '***', token ***, bearer of 2 news"
    )


@pytest.mark.parametrize(
    ("text", "rate"), [("5/s", 5.0), ("30/min", 0.5), ("90 / m", 1.5), ("3600/h", 1.0), ("0.5/s", 0.5)]
)
def test_pace(text: str, rate: float) -> None:
    assert parse_pace(text) == rate


@pytest.mark.parametrize("text", ["", "5", "0/s", "-1/s", "5/d", "fast", "1e9/s"])
def test_paces_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="expected a number above 0 per s, min or h"):
        parse_pace(text)

"""How to talk to an endpoint, whatever it speaks: headers, certificates, patience.

Headers carry secrets. Their values appear in no `repr`, no error and no transcript, and `Headers.scrub` takes them out of
what a server echoes.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ptynet_plugin.errors import UsageError

__all__ = ["Connection", "Headers", "parse_headers", "parse_pace", "read_ca", "tls_context"]

NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
PACE = re.compile(r"(\d+(?:\.\d+)?)/(s|min|m|h)")
SECONDS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
SHORTEST_SECRET = 4
"""Shorter header values (`v: 2`) are no secrets, and scrubbing them would eat ordinary text."""


@dataclass(frozen=True)
class Headers:
    """Extra request headers, such as `Authorization`; gRPC sends them as metadata.

    Attributes:
        items: Names and values, in order. Never shown.
    """

    items: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return ", ".join(f"{name}: ***" for name, _ in self.items) or "none"

    def scrub(self, text: str) -> str:
        """Replace every header value, and each of its words, by `***` in a text that came from elsewhere."""
        for _, value in self.items:
            for secret in sorted({value, *value.split()}, key=len, reverse=True):
                if len(secret) >= SHORTEST_SECRET and secret.lower() not in ("bearer", "basic"):
                    text = text.replace(secret, "***")
        return text


@dataclass(frozen=True)
class Connection:
    """What all transports need to know.

    Attributes:
        headers: Sent with every request.
        ca_cert: PEM file of the authority that signed the endpoint's certificate; None for the public ones.
        timeout: Seconds until an attempt counts as lost.
        retries: Further attempts after one that found nobody, timed out or was asked to wait.
        pace: Most requests per second, None for no limit.
    """

    headers: Headers = Headers()
    ca_cert: Path | None = None
    timeout: float = 10.0
    retries: int = 3
    pace: float | None = None

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise UsageError(f"--timeout is {self.timeout:g} s, expected more than 0")
        if self.retries < 0:
            raise UsageError(f"--retries is {self.retries}, expected 0 or more")


def parse_headers(given: Iterable[str]) -> Headers:
    """Read `K: V` or `@FILE` (one `K: V` a line, # for comments); FILE keeps secrets out of the process list.

    Raises:
        UsageError: Not of that form, or the file cannot be read. The message never shows the value.
    """
    lines = [line for text in given for line in (_lines(text) if text.startswith("@") else [text])]
    return Headers(tuple(_header(line) for line in lines))


def parse_pace(text: str) -> float:
    """Read a pace such as `5/s`, `30/min` or `1000/h` as requests per second.

    Raises:
        UsageError: Another form, or zero.
    """
    match = PACE.fullmatch(text.strip().replace(" ", ""))
    if match is None or float(match[1]) == 0:
        raise UsageError(f"--pace is {text!r}, expected a number above 0 per s, min or h, like 5/s")
    return float(match[1]) / SECONDS[match[2]]


def read_ca(path: Path) -> bytes:
    """Read a PEM bundle of certificates.

    Raises:
        UsageError: The file cannot be read or holds no certificate.
    """
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--ca-cert {path}: cannot be read ({error.strerror})") from error
    if b"-----BEGIN CERTIFICATE-----" not in octets:
        raise UsageError(f"--ca-cert {path}: holds no certificate in PEM form")
    return octets


def tls_context(ca_cert: Path | None) -> ssl.SSLContext:
    """Make the TLS settings of a client: certificates are always checked, against `ca_cert` alone where given.

    Raises:
        UsageError: As `read_ca`, or its certificates are malformed.
    """
    if ca_cert is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=read_ca(ca_cert).decode("ascii", errors="replace"))
    except (ssl.SSLError, ValueError) as error:
        raise UsageError(f"--ca-cert {ca_cert}: its certificates cannot be read ({error})") from error


def _lines(text: str) -> list[str]:
    path = Path(text.removeprefix("@"))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"--header @{path}: cannot be read ({reason})") from None
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not NAME.fullmatch(name):
        raise UsageError("--header is not of the form 'Name: value' (shown here without its text, which may be secret)")
    if not value.isprintable():
        raise UsageError(f"--header {name}: the value holds control characters")
    return name, value

"""Where to meet, and what protects the way: HOST:PORT, the token file, TLS."""

from __future__ import annotations

import ipaddress
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path

from ptynet_plugin.errors import UsageError
from ptynet_plugin.keyfile import read_private, write_private

__all__ = ["Address", "client_tls", "make_token", "parse_address", "read_token", "server_tls"]

TOKEN_BYTES = 32
HIGHEST_PORT = 65535


@dataclass(frozen=True)
class Address:
    """A host and a port.

    Attributes:
        host: Name or address, IPv6 without brackets.
        port: 0 to 65535; 0 lets the system choose where one listens.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether nothing leaves this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str, *, flag: str) -> Address:
    """Read HOST:PORT, with brackets around an IPv6 address.

    Raises:
        UsageError: Another form; the message names the flag.
    """
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (colon and bare and port.isascii() and port.isdigit() and int(port) <= HIGHEST_PORT):
        raise UsageError(f"{flag} is {text!r}, expected HOST:PORT such as 127.0.0.1:9000")
    if ":" in bare and bare == host:
        raise UsageError(f"{flag} is {text!r}: put brackets around an IPv6 address, such as [::1]:9000")
    return Address(bare, int(port))


def read_token(path: Path) -> bytes:
    """Read the token both sides share.

    Raises:
        KeyFileError: It cannot be read, or others may read it.
        UsageError: It holds no token.
    """
    text = read_private(path).decode("ascii", errors="replace").strip()
    try:
        token = bytes.fromhex(text)
    except ValueError:
        token = b""
    if len(token) != TOKEN_BYTES:
        raise UsageError(
            f"{path}: holds no token (one line of {2 * TOKEN_BYTES} hexadecimal digits); "
            "`ptynet share-covers` makes one where the file does not exist"
        )
    return token


def make_token(path: Path) -> bytes:
    """Write a new token with mode 0600.

    Raises:
        UsageError: It cannot be written.
    """
    token = secrets.token_bytes(TOKEN_BYTES)
    try:
        write_private(path, token.hex().encode() + b"\n")
    except OSError as error:
        raise UsageError(f"--token {path}: cannot be written ({error.strerror or error})") from error
    return token


def server_tls(certificate: Path | None, key: Path | None, address: Address) -> ssl.SSLContext | None:
    """Make the holder's TLS settings; None on loopback without a certificate.

    Raises:
        UsageError: An address others can reach without a certificate, or files that are none.
    """
    if (certificate is None) != (key is None):
        raise UsageError("--tls-cert and --tls-key belong together: give both or neither")
    if certificate is None or key is None:
        if address.loopback:
            return None
        raise UsageError(
            f"--listen {address} is reachable from elsewhere: give --tls-cert and --tls-key, or listen on 127.0.0.1"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"--tls-cert {certificate}, --tls-key {key}: cannot be used ({error.strerror or error})"
        ) from error
    return context


def client_tls(ca_cert: Path | None, address: Address) -> ssl.SSLContext | None:
    """Make the owner's TLS settings; None on loopback unless an authority is named.

    Raises:
        UsageError: The file holds no certificate.
    """
    if ca_cert is None:
        return None if address.loopback else ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=ca_cert)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"--ca-cert {ca_cert}: holds no certificate that can be read ({error.strerror or error})"
        ) from error

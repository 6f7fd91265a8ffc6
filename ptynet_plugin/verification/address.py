"""Where a suspect is asked: `SERVER+PROTOCOL://host:port/model[/version]` or `file:PATH`.

    triton+http    triton+https    triton+grpc    triton+grpcs        NVIDIA Triton
    torchserve+http   ... +https   ... +grpc      ... +grpcs          TorchServe
    kserve+http    kserve+https    kserve+grpc    kserve+grpcs        any server of the Open Inference Protocol v2
    file:PATH                                                         an archive or a model file, offline

Segments before the model's name are a path prefix, as a reverse proxy gives one; a last segment of digits and dots is
the version. Credentials belong into headers: an address is printed, logged and written into evidence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from ptynet_plugin.errors import UsageError

__all__ = ["SCHEMES", "Address", "parse_address"]

SERVERS = ("triton", "torchserve", "kserve")
PROTOCOLS = ("http", "https", "grpc", "grpcs")
SCHEMES = tuple(f"{server}+{protocol}" for server in SERVERS for protocol in PROTOCOLS)
DEFAULT_PORTS = {
    "triton+http": 8000,
    "triton+grpc": 8001,
    "torchserve+http": 8080,
    "torchserve+grpc": 7070,
    "kserve+http": 80,
    "kserve+grpc": 8081,
}
TLS_PORT = 443
VERSION = re.compile(r"\d+(\.\d+)*")
SEGMENT = re.compile(r"[^\x00-\x1f\x7f]+")


@dataclass(frozen=True)
class Address:
    """A parsed ENDPOINT.

    Attributes:
        server: "triton", "torchserve", "kserve" or "file".
        protocol: "http", "grpc" or "file".
        tls: Whether the connection is encrypted.
        host: Lower-case host name or IP address, IPv6 without brackets; empty for a file.
        port: TCP port; 0 for a file.
        prefix: Path before the model's name, "" or "/a/b".
        model: Name of the model; empty for a file.
        version: Version asked for, or None for the server's choice.
        path: The file or folder, or None.
    """

    server: str
    protocol: str
    tls: bool = False
    host: str = ""
    port: int = 0
    prefix: str = ""
    model: str = ""
    version: str | None = None
    path: Path | None = None

    @property
    def authority(self) -> str:
        """Host and port as URLs and gRPC write them; IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine, so that no proxy must come between."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def __str__(self) -> str:
        """The normal form, which identifies the endpoint in a ledger: two spellings of one endpoint become equal."""
        if self.path is not None:
            return f"file:{self.path}"
        version = "" if self.version is None else f"/{self.version}"
        secure = "s" if self.tls else ""
        model = quote(self.model, safe="")
        return f"{self.server}+{self.protocol}{secure}://{self.authority}{self.prefix}/{model}{version}"


def parse_address(text: str) -> Address:
    """Read an ENDPOINT.

    Raises:
        UsageError: Unknown scheme, no host, no model, credentials or a query inside; the message never repeats what
            could be a secret.
    """
    if text.startswith("file:"):
        return _file(text)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"the endpoint is no URL ({error})") from None
    if parts.scheme not in SCHEMES:
        raise UsageError(_unknown_scheme(text, parts))
    if "@" in parts.netloc:
        raise UsageError(f"the endpoint {parts.scheme}://... carries credentials; give them as --header @FILE instead")
    if parts.query or parts.fragment:
        raise UsageError(
            f"the endpoint {parts.scheme}://{parts.netloc}{parts.path} carries a query; give tokens as --header"
        )
    if not parts.hostname:
        raise UsageError(f"the endpoint {text!r} names no host; expected {parts.scheme}://host:port/model")
    server, protocol = parts.scheme.split("+")
    tls = protocol.endswith("s")
    plain = protocol.removesuffix("s")
    prefix, model, version = _path(parts)
    standard = TLS_PORT if tls else DEFAULT_PORTS[f"{server}+{plain}"]
    return Address(server, plain, tls, parts.hostname, port or standard, prefix, model, version)


def _file(text: str) -> Address:
    rest = text.removeprefix("file:")
    if rest.startswith("//"):  # file://host/path: a host other than this machine means nothing here
        rest = unquote(rest.removeprefix("//").removeprefix("localhost"))
    if not rest or "\0" in rest:
        raise UsageError("file: names no path; expected file:PATH, an archive or an ONNX file")
    return Address("file", "file", path=Path(rest))


def _path(parts: SplitResult) -> tuple[str, str, str | None]:
    segments = [unquote(segment) for segment in parts.path.split("/") if segment]
    version = segments.pop() if len(segments) > 1 and VERSION.fullmatch(segments[-1]) else None
    if not segments:
        raise UsageError(
            f"the endpoint names no model; expected {parts.scheme}://{parts.netloc}/model, optionally with /version"
        )
    bad = next((segment for segment in segments if not SEGMENT.fullmatch(segment) or segment in (".", "..")), None)
    if bad is not None:
        raise UsageError(f"the endpoint's path holds {bad!r}, which is no name of a model")
    *before, model = segments
    return "".join(f"/{quote(segment, safe='')}" for segment in before), model, version


def _unknown_scheme(text: str, parts: SplitResult) -> str:
    found = f"scheme {parts.scheme!r}" if "://" in text else "no scheme"
    hint = ""
    if parts.scheme in ("http", "https", "grpc", "grpcs"):
        hint = f"; say which server answers there, like triton+{parts.scheme}://..."
    return f"the endpoint has {found}{hint}; known: {', '.join(SCHEMES)}, file:PATH"

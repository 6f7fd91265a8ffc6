"""HTTP, once for all servers that speak it: limits, and failures as this project's own.

Redirects are not followed, for headers would travel along to another host. Bodies are read up to a limit and within the time
limit as a whole: a server that drips a byte a second, or never ends, is lost like any other. They are asked for as they are; a
server that compresses nevertheless is inflated up to the same limit, for three kilobytes of Brotli hold two gigabytes.
"""

from __future__ import annotations

import email.utils
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from ptynet_plugin import __version__
from ptynet_plugin.errors import BadAnswer, EndpointError, Refused, Throttled, TimedOut, Unreachable
from ptynet_plugin.verification.address import Address
from ptynet_plugin.verification.connection import Connection, tls_context
from ptynet_plugin.verification.text import one_line

__all__ = ["HttpSession", "Reply", "retry_after_seconds"]

LARGEST_BODY = 16 * 1024 * 1024
TOO_MANY_REQUESTS, UNAVAILABLE = 429, 503
_GZIP_OR_ZLIB = 32


@dataclass(frozen=True)
class Reply:
    """A successful HTTP answer.

    Attributes:
        body: Its bytes, at most `LARGEST_BODY`.
        headers: Its headers, looked up without regard to case.
    """

    body: bytes
    headers: Mapping[str, str]


class HttpSession:
    """Requests to one host over one connection that is kept alive.

    Args:
        address: Where; its model and version play no part here.
        connection: Headers, certificates and time limit.
    """

    def __init__(self, address: Address, connection: Connection) -> None:
        self._where = str(address)
        self._connection = connection
        scheme = "https" if address.tls else "http"
        self._client = httpx.Client(
            base_url=f"{scheme}://{address.authority}{address.prefix}/",
            headers=[("user-agent", f"ptynet/{__version__}"), ("accept-encoding", "identity")],
            verify=tls_context(connection.ca_cert) if address.tls else False,
            timeout=connection.timeout,
            follow_redirects=False,
            trust_env=not address.is_loopback,
        )
        self._client.headers.update(dict(connection.headers.items))

    def get(self, path: str) -> Reply:
        """Ask for `path`, relative to the address.

        Raises:
            EndpointError: As `post`.
        """
        return self._request("GET", path, None, {})

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send `body` to `path`, relative to the address.

        Raises:
            Unreachable: No connection, or it broke before the answer was complete.
            TimedOut: The answer was not complete within the time limit.
            Throttled: 429, or 503 with Retry-After.
            Refused: Any other status from 300 on.
            BadAnswer: The body is larger than `LARGEST_BODY`, or compressed in another way than gzip or deflate.
        """
        return self._request("POST", path, body, headers)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _request(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        try:
            with self._client.stream(method, path, content=body, headers=dict(headers)) as response:
                octets = self._read(response)
        except httpx.TimeoutException as error:
            raise self._timed_out() from error
        except httpx.HTTPError as error:
            raise Unreachable(self._connection.headers.scrub(f"{self._where}: {_cause(error)}")) from error
        if response.status_code >= 300:
            raise self._refusal(response, octets)
        return Reply(octets, response.headers)

    def _read(self, response: httpx.Response) -> bytes:
        end = time.monotonic() + self._connection.timeout
        plain = self._plain_from(response)
        pieces, size = [], 0
        for piece in response.iter_raw():
            pieces.append(plain(piece, LARGEST_BODY + 1 - size))
            size += len(pieces[-1])
            if size > LARGEST_BODY:
                raise BadAnswer(f"{self._where}: the answer is larger than {LARGEST_BODY // 2**20} MiB")
            if time.monotonic() > end:
                raise self._timed_out()
        return b"".join(pieces)

    def _plain_from(self, response: httpx.Response) -> Callable[[bytes, int], bytes]:
        """Give what makes at most so many octets of a body from a piece of it as it came."""
        coding = response.headers.get("content-encoding", "identity").strip().lower()
        if coding in ("", "identity"):
            return lambda piece, most: piece
        if coding not in ("gzip", "x-gzip", "deflate"):
            raise BadAnswer(
                f"{self._where}: answers in the encoding {one_line(coding, most=40)}, though none was asked for; turn "
                "compression off in front of the model"
            )
        inflater = zlib.decompressobj(zlib.MAX_WBITS | _GZIP_OR_ZLIB)

        def inflate(piece: bytes, most: int) -> bytes:
            try:
                return inflater.decompress(piece, most)
            except zlib.error as error:
                raise BadAnswer(f"{self._where}: the answer's {coding} is broken ({error})") from None

        return inflate

    def _timed_out(self) -> TimedOut:
        limit = self._connection.timeout
        return TimedOut(f"{self._where}: no complete answer within {limit:g} s; a larger --timeout waits longer")

    def _refusal(self, response: httpx.Response, octets: bytes) -> EndpointError:
        status = response.status_code
        if response.is_redirect:
            target = self._connection.headers.scrub(response.headers.get("location", "nowhere"))
            return Refused(
                f"{self._where}: answered {status}, a redirect to {one_line(target, most=200)}; redirects are not followed, "
                "for the headers would go along: give that address itself",
                status=status,
            )
        said = self._connection.headers.scrub(_plain(octets, response.headers.get("content-type", "")))
        message = f"{self._where}: answered {status} {one_line(response.reason_phrase, most=60)}{said}{_advice(status)}"
        wait = retry_after_seconds(response.headers.get("retry-after"), now=time.time())
        if status == TOO_MANY_REQUESTS or (status == UNAVAILABLE and wait is not None):
            return Throttled(message, status=status, retry_after=wait)
        return Refused(message, status=status)


def retry_after_seconds(value: str | None, *, now: float) -> float | None:
    """Read a Retry-After header (RFC 9110, section 10.2.3): seconds, or a date counted from `now` (Unix time).

    Returns:
        Seconds from now, at least 0; None where there is no header or it is neither.
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _cause(error: Exception) -> str:
    """Say what broke; TLS failures hide two levels deep."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, ssl.SSLError):
            reason = getattr(inner, "verify_message", "") or inner.reason or str(inner)
            return f"TLS refused ({reason}); --ca-cert names a private authority"
        inner = inner.__cause__ or inner.__context__
    if isinstance(error, httpx.ConnectError):
        return f"cannot be reached ({error}); is the server up, the host and port right?"
    return f"the connection broke before the answer was complete ({error})"


def _plain(octets: bytes, content_type: str) -> str:
    text = octets[:2000].decode("utf-8", errors="replace").strip()
    if not text:
        return ""
    if "html" in content_type or text.startswith("<"):
        return " with a web page"
    return f": {one_line(text, most=240)}"


def _advice(status: int) -> str:
    if status in (401, 403):
        return "; give credentials as --header @FILE"
    if status == TOO_MANY_REQUESTS:
        return "; --pace asks more slowly"
    return ""

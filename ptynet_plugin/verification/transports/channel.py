"""gRPC, once for all servers that speak it: channels, metadata, and failures as this project's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core writes to stderr on its own; failures come as exceptions

import grpc

from ptynet_plugin.errors import EndpointError, Refused, Throttled, TimedOut, Unreachable, UsageError
from ptynet_plugin.verification.address import Address
from ptynet_plugin.verification.connection import Connection, read_ca
from ptynet_plugin.verification.text import one_line

__all__ = ["Channel"]

LARGEST_BODY = 16 * 1024 * 1024
HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
}
RESTRICTED = ("restricted", "expecting header", "unauthor", "forbidden")
"""Triton reports a restricted protocol as UNAVAILABLE: the text alone tells it from a server that is down."""


class Channel:
    """A connection to one host that is kept alive.

    Args:
        address: Where; its model and version play no part here.
        connection: Headers, certificates and time limit.
    """

    def __init__(self, address: Address, connection: Connection) -> None:
        if address.prefix:
            raise UsageError(f"{address}: a gRPC endpoint has no path before the model's name")
        self._where = str(address)
        self._connection = connection
        self._metadata = tuple((name.lower(), value) for name, value in connection.headers.items)
        options = [
            ("grpc.max_receive_message_length", LARGEST_BODY),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_http_proxy", 0 if address.is_loopback else 1),
            ("grpc.enable_retries", 0),
            ("grpc.compression_enabled_algorithms_bitset", 1),  # identity alone: nothing that swells is asked for
        ]
        if address.tls:
            roots = None if connection.ca_cert is None else read_ca(connection.ca_cert)
            self._channel = grpc.secure_channel(address.authority, grpc.ssl_channel_credentials(roots), options)
        else:
            self._channel = grpc.insecure_channel(address.authority, options)

    def call(self, path: str, request: bytes, parse: Callable[[bytes], Any]) -> tuple[Any, bytes]:
        """Call one unary method.

        Args:
            path: "/package.Service/Method".
            request: The request message's bytes.
            parse: Reads the response message's bytes.

        Returns:
            What `parse` gave, and the response's bytes.

        Raises:
            EndpointError: Unreachable, TimedOut, Throttled or Refused, by the status code and its text.
        """
        method = self._channel.unary_unary(path, request_serializer=None, response_deserializer=None)
        try:
            raw: bytes = method(request, timeout=self._connection.timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._failure(error) from error
        return parse(raw), raw

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _failure(self, error: Any) -> EndpointError:
        code = error.code()
        text = self._connection.headers.scrub(one_line(str(error.details()), most=300))
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            limit = self._connection.timeout
            return TimedOut(f"{self._where}: no answer within {limit:g} s; a larger --timeout waits longer")
        if code is grpc.StatusCode.UNAVAILABLE:
            if any(word in text.lower() for word in RESTRICTED):
                return Refused(f"{self._where}: {text}; give credentials as --header @FILE", status=403)
            return Unreachable(f"{self._where}: cannot be reached ({text}); is the server up, the port its gRPC port?")
        message = f"{self._where}: answered {code.name}: {text}"
        status = HTTP_STATUS.get(code, 500)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Throttled(f"{message}; --pace asks more slowly", status=status, retry_after=_retry_after(error))
        if code in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN) and "deserializ" in text:
            return Refused(f"{message}; is this port a gRPC port of that server?", status=status)
        if status in (401, 403):
            message += "; give credentials as --header @FILE"
        return Refused(message, status=status)


def _retry_after(error: Any) -> float | None:
    for name, value in error.trailing_metadata() or ():
        if name == "retry-after" and str(value).isdecimal():
            return float(value)
        if name == "grpc-retry-pushback-ms" and str(value).isdecimal():
            return float(value) / 1000.0
    return None

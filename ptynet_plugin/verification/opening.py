"""Opens an endpoint from its address: picks the transport, gives it patience and a reader of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ptynet_plugin.errors import SpecError, UsageError
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.verification.address import Address, parse_address
from ptynet_plugin.verification.answers import AnswerReader
from ptynet_plugin.verification.client import Client, patiently, scrubbed
from ptynet_plugin.verification.connection import Connection
from ptynet_plugin.verification.endpoint import Transport

__all__ = ["SENDS", "open_endpoint"]

SENDS = ("auto", "tensor", "png", "jpeg")


def open_endpoint(
    address: str | Address,
    *,
    spec: InputSpec,
    connection: Connection | None = None,
    names: Sequence[str] | None = None,
    send: str = "auto",
) -> Client:
    """Connect to a suspect.

    Args:
        address: ENDPOINT as `ptynet_plugin.verification.address` describes it.
        spec: What the suspect reads, and how many classes it tells apart.
        connection: Headers, certificates, patience.
        names: Class names in order, for endpoints that answer names.
        send: How a picture is sent; "auto" sends what the server announces, PNG where it announces nothing.

    Raises:
        UsageError: The address or an option is wrong.
        SpecError: The spec says no number of classes.
        EndpointError: The server is down, or knows no such model, or the model does not read what the spec says.
    """
    if spec.classes is None:
        raise SpecError("the spec says no number of classes; add 'classes = ...'")
    if send not in SENDS:
        raise UsageError(f"--send is {send!r}, expected one of {', '.join(SENDS)}")
    where = parse_address(address) if isinstance(address, str) else address
    reader = AnswerReader(spec.classes, names)
    connection = connection or Connection()
    connect = _transport(where)
    with scrubbed(connection.headers):
        transport = patiently(lambda: connect(where, connection, spec, send), retries=connection.retries)
    return Client(transport, reader, connection)


def _transport(where: Address) -> Callable[[Address, Connection, InputSpec, str], Transport]:
    """Import one transport only: a verifier that asks a file needs no gRPC."""
    if where.server == "file":
        from ptynet_plugin.verification.transports.file import FileTransport  # noqa: PLC0415 -- each transport loads its own library

        return lambda address, _, spec, send: FileTransport(address, spec=spec, send=send)
    if where.server == "torchserve":
        from ptynet_plugin.verification.transports.torchserve import TorchServeGrpc, TorchServeRest  # noqa: PLC0415 -- each transport loads its own library

        torchserve = TorchServeGrpc if where.protocol == "grpc" else TorchServeRest
        return lambda address, connection, spec, send: torchserve(address, connection, spec=spec, send=send)
    if where.protocol == "grpc":
        from ptynet_plugin.verification.transports.oip_grpc import OpenInferenceGrpc  # noqa: PLC0415 -- each transport loads its own library

        return lambda address, connection, spec, send: OpenInferenceGrpc(
            address, connection, spec=spec, classes=spec.classes or 0, send=send
        )
    from ptynet_plugin.verification.transports.oip_http import OpenInferenceHttp  # noqa: PLC0415 -- each transport loads its own library

    return lambda address, connection, spec, send: OpenInferenceHttp(
        address, connection, spec=spec, classes=spec.classes or 0, send=send
    )

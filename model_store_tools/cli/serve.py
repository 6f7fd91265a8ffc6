"""`ptynet serve`: a packaged archive behind the real Triton or TorchServe, on this machine's loopback."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store_tools.cli.options import ArchiveArgument
from ptynet_plugin.errors import ServerError, UsageError

if TYPE_CHECKING:
    from model_store_tools.serving.handle import ServerHandle
    from ptynet_plugin.archives.checking import Checked

__all__ = ["serve"]

USUAL_PORTS = {"triton": (8000, 8001), "torchserve": (8080, 7070)}


class Server(StrEnum):
    """Which server; `auto` takes the one the archive was packaged for."""

    AUTO = "auto"
    TRITON = "triton"
    TORCHSERVE = "torchserve"


def serve(
    archive: ArchiveArgument,
    *,
    server: Annotated[Server, typer.Option(help="auto takes the one the archive was packaged for.")] = Server.AUTO,
    http_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0 takes any free one; 8000 or 8080 by default.")
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0 takes any free one; 8001 or 7070 by default.")
    ] = None,
    token: Annotated[
        Path | None, typer.Option(help="TorchServe: ask for a bearer token; write its header to this new file.")
    ] = None,
    log: Annotated[Path | None, typer.Option(help="Keep the server's log in this file.")] = None,
) -> int:
    """Serve ARCHIVE with a real server on 127.0.0.1 until Ctrl-C or SIGTERM; nothing is left running."""
    from rich.console import Console

    from ptynet_plugin.archives.checking import check_archive

    screen = Console(stderr=True)
    with _sigterm_as_interrupt():
        with screen.status("checking the archive"):
            checked = check_archive(archive)
        made_for = checked.manifest.format
        _require_server(server, made_for, archive=archive, token=token)
        usual_http, usual_grpc = USUAL_PORTS[made_for]
        ports = (usual_http if http_port is None else http_port, usual_grpc if grpc_port is None else grpc_port)
        with screen.status(f"starting {made_for}"):
            handle = _start(archive, checked, ports, token=token is not None, log=log)
        with handle:
            if token is not None:
                _write_header(token, handle)
            with suppress(KeyboardInterrupt):
                _announce(handle, checked)
                _wait(handle)
    return 0


def _start(archive: Path, checked: Checked, ports: tuple[int, int], *, token: bool, log: Path | None) -> ServerHandle:
    from model_store_tools.serving.archive import serve_checked

    def say(line: str) -> None:
        typer.echo(f"ptynet: {line}", err=True)

    http_port, grpc_port = ports
    return serve_checked(archive, checked, http_port=http_port, grpc_port=grpc_port, token=token, log=log, say=say)


def _require_server(asked: Server, made_for: str, *, archive: Path, token: Path | None) -> None:
    if asked not in (Server.AUTO, made_for):
        raise UsageError(
            f"{archive}: packaged for {made_for}, not for {asked}; leave --server out or package it with "
            f"--format {asked}"
        )
    if token is not None and made_for != "torchserve":
        raise UsageError("--token: Triton knows no tokens; put a proxy before it that asks for them")


def _write_header(path: Path, handle: ServerHandle) -> None:
    try:
        path.touch(mode=0o600, exist_ok=False)
        path.write_text("".join(f"{name}: {value}\n" for name, value in handle.headers.items()), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot write the token's header ({error.strerror}); name a new file") from error


def _announce(handle: ServerHandle, checked: Checked) -> None:
    model = checked.manifest.name
    typer.echo(f"{handle.title} serves {model} (archive {checked.digest[:16]})")
    for protocol in ("http", "grpc"):
        typer.echo(handle.url(model, protocol=protocol))
    if f"{model}_image" in checked.companions:
        typer.echo(handle.url(f"{model}_image"))
    typer.echo("Ctrl-C stops it", err=True)


def _wait(handle: ServerHandle) -> None:
    """Wait until we are interrupted.

    Raises:
        ServerError: The server ended by itself.
    """
    code = handle.wait()
    raise ServerError(f"{handle.title} ended by itself (exit code {code}); --log FILE keeps what it says")


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

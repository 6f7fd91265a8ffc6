"""`ptynet share-covers`: lend pictures to the training of a mark without showing them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from model_store_tools.sharing import DEFAULT_NOISE
from ptynet_plugin.errors import UsageError

__all__ = ["share_covers"]


def share_covers(
    pictures: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of PNG or JPEG pictures.")],
    *,
    token: Annotated[
        Path, typer.Option(help="File with the token of both sides; made where it does not exist.", show_default=False)
    ],
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0: any free one.")
    ] = "127.0.0.1:0",
    color: Annotated[Literal["RGB", "GRAY"], typer.Option(help="Color of the mark to be trained.")] = "RGB",
    noise: Annotated[
        float, typer.Option(help="Standard deviation of the noise on each activation; a pixel goes from 0 to 1.")
    ] = DEFAULT_NOISE,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate; needed off loopback.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of the certificate.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the owner.")] = 600,
) -> None:
    """Give an owner, once, noised activations of your pictures; the pictures stay here."""
    from model_store_tools.pictures import read_pictures
    from model_store_tools.sharing import holder
    from model_store_tools.sharing.address import Address, make_token, parse_address, read_token, server_tls

    if not wait > 0:
        raise UsageError(f"--wait is {wait:g} s, expected more than 0")
    if not noise >= 0:
        raise UsageError(f"--noise is {noise:g}, expected 0 or more")
    address = parse_address(listen, flag="--listen")
    tls = server_tls(tls_cert, tls_key, address)
    offer = holder.prepared(read_pictures(pictures, color=color, flag="DIR"), color=color, noise=noise)
    with holder.listening(address) as listener:
        secret = read_token(token) if token.exists() else _made(token, make_token(token))
        here = Address(address.host, listener.getsockname()[1])
        count = len(offer.release.steps)
        _tell(f"{count} pictures, noise {noise:g}, drawn once: to start again is to release them again")
        typer.echo(str(here))
        owner = holder.share(listener, offer, token=secret, tls=tls, wait=wait, tell=_tell)
    _tell(f"{owner} has the activations of {count} pictures")


def _made(path: Path, token: bytes) -> bytes:
    _tell(f"token written to {path}; bring the file to the owner on a safe way")
    return token


def _tell(line: str) -> None:
    typer.echo(line, err=True)

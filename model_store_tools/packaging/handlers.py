"""The handler files an archive carries: as bytes, never imported."""

from __future__ import annotations

from pathlib import Path

from ptynet_plugin.errors import PtynetError

__all__ = ["handler_source"]

_PLACES = (
    Path(__file__).resolve().parents[1] / "shipped_handlers",  # in an installed wheel
    Path(__file__).resolve().parents[2] / "handlers",  # in a checkout
)


def handler_source(name: str) -> bytes:
    """Give a handler file's bytes, line ends normalised so that a checkout elsewhere packs the same.

    Raises:
        PtynetError: The installation is incomplete.
    """
    for place in _PLACES:
        if (place / name).is_file():
            return (place / name).read_bytes().replace(b"\r\n", b"\n")
    raise PtynetError(f"handler {name} is missing from this installation; install ptynet-plugin again")

"""What the verbs that ask are told of a suspect: how to reach it, what it reads, and what it calls its classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptynet_plugin.claims.claim import Claim
    from ptynet_plugin.spec import InputSpec
    from ptynet_plugin.verification.connection import Connection

__all__ = ["asked_spec", "class_names_of", "connection_from"]


def asked_spec(spec: Path | None, claim: Claim) -> InputSpec:
    """Give what the suspect reads: the claim's spec, or the given one completed from it."""
    from ptynet_plugin.spec import load_spec

    committed = claim.terms.spec
    if spec is None:
        return committed
    given = load_spec(spec)
    missing = ("layout", "dtype", "size", "classes")
    return given.model_copy(update={name: getattr(committed, name) for name in missing if getattr(given, name) is None})


def class_names_of(spec: Path | None, asked: InputSpec, claim_folder: Path) -> tuple[str, ...] | None:
    """Find the class names, for endpoints that answer names: beside `--spec`, or kept with the claim."""
    from model_store_tools.packaging.benign import class_names

    beside = claim_folder if spec is None else spec.parent
    if spec is None and not (asked.labels and (beside / asked.labels).is_file()):
        return None
    return class_names(asked, beside) or None


def connection_from(
    header: list[str] | None, ca_cert: Path | None, *, timeout: float, retries: int, pace: str | None
) -> Connection:
    """Give how a suspect is reached, from the flags as they were typed; `timeout` in seconds.

    Raises:
        UsageError: One of them is not what it should be; it is named.
    """
    from ptynet_plugin.verification.connection import Connection, parse_headers, parse_pace

    rate = None if pace is None else parse_pace(pace)
    return Connection(parse_headers(header or []), ca_cert, timeout=timeout, retries=retries, pace=rate)

"""JSON with one byte form per value, for everything that is hashed, stamped or signed.

Keys sorted, no white space, ASCII with escapes, and no floating point: a number that is no integer stands as text, the
shortest decimal that reads back as the same double. Readers in other languages then agree on every byte.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from ptynet_plugin.errors import ClaimError

__all__ = ["canonical_json", "parse_json", "without_floats"]

_LARGEST = 2**53 - 1


def canonical_json(value: Any) -> bytes:
    """Give the one byte form of a value made of objects, lists, text, integers, booleans and null.

    Raises:
        TypeError: A float or anything else JSON or this form has no place for.
        ValueError: An integer beyond 2**53, which other readers would round.
    """
    _check(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def without_floats(value: Any) -> Any:
    """Give the same value with every float as text; tuples become lists."""
    match value:
        case float():
            return repr(value)
        case dict():
            return {key: without_floats(entry) for key, entry in value.items()}
        case list() | tuple():
            return [without_floats(entry) for entry in value]
    return value


def parse_json(octets: bytes, *, where: str) -> Any:
    """Read JSON that may come from an adversary.

    Args:
        octets: UTF-8 text of bounded length.
        where: Name of the place for messages.

    Raises:
        ClaimError: Not JSON, a repeated key, a float, NaN, or nesting without end.
    """

    def refuse(text: str) -> NoReturn:
        raise ValueError(f"the number {text[:40]} is no integer; such numbers stand as text here")

    try:
        return json.loads(octets, object_pairs_hook=_unique, parse_float=refuse, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ClaimError(f"{where}: not the JSON this project writes ({error})") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands there twice")
    return made


def _check(value: Any) -> None:
    match value:
        case None | bool() | str():
            return
        case int():
            if abs(value) > _LARGEST:
                raise ValueError(f"the integer {value} is beyond 2**53; give it as text")
        case list() | tuple():
            for entry in value:
                _check(entry)
        case dict():
            for key, entry in value.items():
                if not isinstance(key, str):
                    raise TypeError(f"an object's key must be text, this one is {type(key).__name__}")
                _check(entry)
        case _:
            raise TypeError(f"{type(value).__name__} has no canonical form; floats stand as text, see `without_floats`")

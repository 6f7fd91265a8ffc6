"""The owner key in n shares, any k of which give it back and fewer of which tell nothing (Shamir 1979, in the form SLIP-39).

A share is a line of words with a checksum, made and read by `shamir-mnemonic`, whose authors wrote the standard: it can be
copied by hand, and a mistake in copying is noticed. Shares of different splittings do not mix. No message here repeats a
word of a share.
"""

from __future__ import annotations

from collections.abc import Sequence

from ptynet_plugin.errors import KeyFileError, UsageError
from ptynet_plugin.keys import KEY_BYTES, OwnerKey

__all__ = ["MOST_SHARES", "join_key", "split_key"]

MOST_SHARES = 16


def split_key(key: OwnerKey, *, needed: int, shares: int) -> list[str]:
    """Split a key.

    Args:
        key: The key.
        needed: k, from 2.
        shares: n, from k to 16.

    Returns:
        n lines of words, each a secret.

    Raises:
        UsageError: No such k and n.
    """
    if not 2 <= needed <= shares <= MOST_SHARES:
        raise UsageError(
            f"{needed} of {shares} shares cannot be; at least 2 must be needed, and at most {MOST_SHARES} can be made"
        )
    from shamir_mnemonic import generate_mnemonics  # noqa: PLC0415 -- who verifies needs no shares

    return list(generate_mnemonics(1, [(needed, shares)], key.secret)[0])


def join_key(shares: Sequence[str]) -> OwnerKey:
    """Give back the key of exactly as many shares as are needed.

    Raises:
        KeyFileError: Too few or too many, a word that was miscopied, shares of different splittings, or of something else.
    """
    from shamir_mnemonic import MnemonicError, combine_mnemonics  # noqa: PLC0415 -- only where shares are made or joined

    lines = [" ".join(share.split()) for share in shares]
    for number, line in enumerate(lines, start=1):
        if line in lines[: number - 1]:
            raise KeyFileError(f"share {number} is one of those before it; every share counts once")
    try:
        needed = _needed(lines)
        if len(lines) < needed:
            raise KeyFileError(f"{len(lines)} of {needed} shares were given; the key needs {needed - len(lines)} more")
        secret = combine_mnemonics(lines[:needed])
    except (MnemonicError, ValueError, IndexError, KeyError):
        raise KeyFileError(
            "these shares do not give a key: one was miscopied, or they are not of one splitting; check every word"
        ) from None
    if len(secret) != KEY_BYTES:
        raise KeyFileError(
            f"these shares give {len(secret)} bytes, an owner key has {KEY_BYTES}; they are of something else"
        )
    return OwnerKey(secret)


def _needed(lines: Sequence[str]) -> int:
    from shamir_mnemonic import Share  # noqa: PLC0415 -- only where shares are made or joined

    return min((int(Share.from_mnemonic(line).member_threshold) for line in lines), default=2)

"""What may stand in the registry's text columns."""

from __future__ import annotations

import re
import unicodedata

from ptynet_plugin.errors import RegistryError

__all__ = ["checked_claim", "checked_customer", "checked_digest", "checked_line"]

LONGEST_CUSTOMER = 200
LONGEST_LINE = 1000
_DIGEST = re.compile(r"[0-9a-f]{64}")


def checked_customer(name: str) -> str:
    """Give a customer's name in its one form: Unicode NFC, no blanks around it.

    Raises:
        RegistryError: Empty, longer than 200 characters, or with characters that cannot be seen.
    """
    tidy = unicodedata.normalize("NFC", name).strip()
    if not tidy:
        raise RegistryError("the customer's name is empty; give --customer NAME")
    return _printable(tidy, "the customer's name", LONGEST_CUSTOMER)


def checked_line(text: str, what: str) -> str:
    """Give a line of free text without blanks around it.

    Args:
        text: One line.
        what: What it is, for messages.

    Raises:
        RegistryError: Empty, longer than 1000 characters, or with characters that cannot be seen.
    """
    tidy = text.strip()
    if not tidy:
        raise RegistryError(f"{what} is empty")
    return _printable(tidy, what, LONGEST_LINE)


def checked_claim(digest: str) -> str:
    """Give a claim's digest, or refuse what is none."""
    return checked_digest(digest, "a claim's digest")


def checked_digest(digest: str, what: str) -> str:
    """Give a SHA-256 in lower-case hexadecimal, or refuse what is none."""
    if not _DIGEST.fullmatch(digest):
        raise RegistryError(f"{what} has 64 lower-case hex digits, not {digest[:70]!r}")
    return digest


def _printable(text: str, what: str, longest: int) -> str:
    if len(text) > longest:
        raise RegistryError(f"{what} has {len(text)} characters; at most {longest} are kept")
    unseen = next((each for each in text if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp")), None)
    if unseen is not None:
        raise RegistryError(f"{what} holds the invisible character U+{ord(unseen):04X}; write it without")
    return text

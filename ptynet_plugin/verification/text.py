"""Words from strangers, fit to print: what a server sends reaches terminals, logs and error messages only through here."""

from __future__ import annotations

__all__ = ["one_line"]


def one_line(text: str, *, most: int) -> str:
    """Give the beginning of a text on one line, without control characters and escape sequences' starts.

    Args:
        text: Anything.
        most: Most characters; what is longer ends in "...".
    """
    kept = text[: 4 * most]
    line = " ".join("".join(character if character.isprintable() else " " for character in kept).split())
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[:most]}..."

"""What the story needs of its narrator: somebody who prints, or a test that listens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

__all__ = ["Advance", "Narrator"]

Advance = Callable[[int, int], None]
"""Told (done, all) while a long step goes on."""


class Narrator(Protocol):
    """Hears the story as it goes."""

    def step(self, title: str, command: str | None = None) -> None:
        """A new step begins; `command` is what a user would type for it."""

    def say(self, line: str) -> None:
        """Something worth a line was found."""

    def progress(self, what: str) -> AbstractContextManager[Advance]:
        """A step of more than two seconds: yields the function to call while it goes on."""

"""The result of a fidelity comparison: one row a measure, with the limit it must keep."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["SCHEMA", "FidelityReport", "Row"]

SCHEMA = "ptynet-fidelity/v1"


@dataclass(frozen=True)
class Row:
    """One measure.

    Attributes:
        name: Short name in a program's words, like "top1_flips".
        title: What it is, for people.
        value: What was measured; None where it could not be.
        limit: What it must keep; None where it is only told.
        bound: Whether the limit is the largest or the smallest value allowed.
        note: What was compared, or why it could not be.
    """

    name: str
    title: str
    value: float | None
    limit: float | None = None
    bound: Literal["at most", "at least"] = "at most"
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the limit is kept; a row without value or limit fails nothing."""
        if self.value is None or self.limit is None:
            return True
        return self.value <= self.limit if self.bound == "at most" else self.value >= self.limit

    def failure(self) -> str:
        """Say what is wrong in one line, with both values."""
        return f"{self.title} is {_shown(self.value)}, the limit is {self.bound} {_shown(self.limit)}" + (
            f" ({self.note})" if self.note else ""
        )


@dataclass(frozen=True)
class FidelityReport:
    """All rows of one comparison.

    Attributes:
        rows: In the order they are shown.
        pictures: Number of benign pictures.
        engine: What ran both models.
        source: Where the pictures come from.
        seconds: How long the comparison took, measured by the caller.
        series: Numbers behind the plots, by name; not part of the verdict.
    """

    rows: tuple[Row, ...]
    pictures: int
    engine: str
    source: str = ""
    seconds: float = 0.0
    series: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def ok(self) -> bool:
        """Whether every row keeps its limit."""
        return not self.failures()

    def failures(self) -> list[Row]:
        """Give the rows that miss their limit."""
        return [row for row in self.rows if not row.ok]

    def row(self, name: str) -> Row:
        """Give one row by name.

        Raises:
            KeyError: No row has this name.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """Give the report as one JSON object; what is not finite becomes a string, as JSON knows no infinity."""
        return {
            "schema": SCHEMA,
            "ok": self.ok,
            "pictures": self.pictures,
            "source": self.source,
            "engine": self.engine,
            "seconds": round(self.seconds, 3),
            "rows": [_plain({**asdict(row), "ok": row.ok}.items()) for row in self.rows],
        }


def _plain(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value for name, value in items
    }


def _shown(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{int(value)}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"

"""An audit as lines of text: what `ptynet audit` prints, and what `docs/proving-ground.md` holds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby

from model_store_tools.audit.audit import Audit
from model_store_tools.audit.page import HEADING_TITLES, RESULT_WORDS
from model_store_tools.audit.suite import Row

__all__ = ["markdown_of", "summary", "table_of"]

COLUMNS = ("kept", "verdict", "log10 p", "queries", "seconds", "pictures", "result")
NAME = 40
WIDTHS = (7, 11, 8, 8, 8, 9, 0)


def table_of(audit: Audit) -> Iterator[str]:
    """Give the table, one attack a line under its heading; below an attack that won or did not run stands what it did, or why."""
    measure = "accuracy" if audit.true_labels else "agreement with the archive itself"
    yield f"{audit.archive}: {measure} {audit.accuracy:.1%}, mark {audit.baseline.verdict} after {audit.baseline.queries} queries"
    for heading, rows in groupby(audit.rows, key=lambda row: row.heading):
        yield ""
        yield _line(HEADING_TITLES[heading].partition(":")[0], COLUMNS)
        for row in rows:
            yield _line(f"{'*' if row.promised else ' '} {row.attack}", cells(row))
            if row.result != "survived" and row.note:
                yield f"      {row.note}"
    yield ""
    yield "* promised to be survived"
    yield summary(audit)


def markdown_of(audit: Audit) -> Iterator[str]:
    """Give the same table in Markdown."""
    for heading, rows in groupby(audit.rows, key=lambda row: row.heading):
        yield f"**{HEADING_TITLES[heading]}**"
        yield ""
        yield "| attack | " + " | ".join(COLUMNS) + " |"
        yield "|---" * (len(COLUMNS) + 1) + "|"
        for row in rows:
            yield f"| {row.attack}{' *' if row.promised else ''} | " + " | ".join(cells(row)) + " |"
        yield ""


def cells(row: Row) -> tuple[str, ...]:
    """Give a row's cells, in the order of `COLUMNS`."""
    evidence = row.evidence
    strength = f"{evidence.log10_p:.1f}" if evidence and math.isfinite(evidence.log10_p) else ""
    return (
        "" if row.kept is None else f"{row.kept:.1%}",
        evidence.verdict if evidence else "",
        strength,
        str(evidence.queries) if evidence else "",
        f"{row.seconds:.1f}",
        str(row.pictures or ""),
        RESULT_WORDS[row.result],
    )


def summary(audit: Audit) -> str:
    """Say in one line how it ended."""
    counts = {result: sum(row.result == result for row in audit.rows) for result in RESULT_WORDS}
    told = ", ".join(f"{count} {RESULT_WORDS[result]}" for result, count in counts.items() if count)
    if audit.baseline.verdict != "shown":
        ending = f"BROKEN: the archive as it is does not show its mark ({audit.baseline.verdict})"
    elif audit.broken:
        ending = f"BROKEN: {', '.join(row.attack for row in audit.broken)}"
    elif audit.unknown:
        ending = f"UNKNOWN: {', '.join(row.attack for row in audit.unknown)} failed"
    else:
        ending = "KEPT: every promised attack that applies was survived"
    return f"{ending} ({told}; {audit.seconds:.0f} s)"


def _line(name: str, columns: tuple[str, ...]) -> str:
    padded = [cell.rjust(width) if width else cell for cell, width in zip(columns, WIDTHS, strict=True)]
    return (f"{name:<{NAME}} " + "  ".join(padded)).rstrip()

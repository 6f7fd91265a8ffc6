"""What an audit has measured so far, in a file: one stopped in the middle, by Ctrl-C or by a limit, is carried on.

JSON lines. The first says what is audited: archive, seed and both shares by digest; every other is one attack's row, on the
disk before the next attack begins. An audit of anything else leaves the file alone. A line without its end was being written when
the machine stopped, and is taken off. Attacks that failed or did not apply are tried again: a package may have been missing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter, ValidationError

from model_store_tools.audit.contract import Share
from model_store_tools.audit.suite import Row
from ptynet_plugin.errors import UsageError

__all__ = ["JOURNAL_SCHEMA", "Journal", "digest_of"]

JOURNAL_SCHEMA = "ptynet-audit-journal/v1"
FILE_LIMIT = 64 << 20
ANOTHER = "give another file, or delete this one to begin anew"


@dataclass(frozen=True)
class _Entry:
    """One line: a row, and the seconds by the clock that attacking and asking took."""

    row: Row
    spent: float


_ENTRY = TypeAdapter(_Entry)


@dataclass
class Journal:
    """Rows by attack.

    Attributes:
        path: The file; None to remember nothing beyond this run.
        rows: Measured so far, the last one of each attack.
        spent: Seconds that the rows found in the file had taken.
    """

    path: Path | None = None
    rows: dict[str, Row] = field(default_factory=dict)
    spent: float = 0.0

    @classmethod
    def open(cls, path: Path | None, subject: Mapping[str, str | int]) -> Self:
        """Take up a file, or begin one.

        Args:
            path: Where; None for a journal that is not kept.
            subject: What is audited; a file about anything else is refused.

        Raises:
            UsageError: It cannot be read or written, is no journal, or another audit's; it is left as it is.
        """
        if path is None:
            return cls()
        heading = json.dumps({"schema": JOURNAL_SCHEMA, **subject})
        try:
            if not path.exists():
                _append(path, heading, mode="x")
                return cls(path)
            lines, whole = _lines(path)
        except OSError as error:
            raise UsageError(f"--resume {path}: cannot be kept there ({error.strerror})") from None
        _require(path, lines, subject)
        journal = cls(path)
        for number, line in enumerate(lines[1:], 2):
            journal._take(line, number)
        os.truncate(path, whole)
        return journal

    def keep(self, row: Row, *, spent: float) -> None:
        """Remember a row, on the disk where there is a file.

        Args:
            row: What was measured.
            spent: Seconds by the clock, attack and asking.
        """
        self.rows[row.attack] = row
        if self.path is not None:
            _append(self.path, _ENTRY.dump_json(_Entry(row, spent)).decode())

    def _take(self, line: bytes, number: int) -> None:
        try:
            entry = _ENTRY.validate_json(line)
        except ValidationError:
            raise UsageError(f"--resume {self.path}: line {number} is no row of an audit; {ANOTHER}") from None
        self.spent += entry.spent
        if entry.row.result not in ("attack-failed", "refused"):
            self.rows[entry.row.attack] = entry.row


def digest_of(share: Share) -> str:
    """Give the SHA-256 of a share's pictures and labels: another share makes other rows."""
    found = hashlib.sha256(repr((share.pictures.shape, share.true)).encode())
    found.update(share.pictures.tobytes())
    found.update(share.labels.tobytes())
    return found.hexdigest()


def _lines(path: Path) -> tuple[list[bytes], int]:
    """Give the lines that are complete, and how many octets they are."""
    if path.stat().st_size > FILE_LIMIT:
        raise UsageError(f"--resume {path}: has {path.stat().st_size} octets, no audit writes more than {FILE_LIMIT}")
    whole = path.read_bytes()
    end = whole.rfind(b"\n") + 1
    return whole[:end].splitlines(), end


def _require(path: Path, lines: list[bytes], subject: Mapping[str, str | int]) -> None:
    try:
        found = json.loads(lines[0])
        schema = found["schema"]
    except (IndexError, KeyError, TypeError, ValueError):
        schema = None
    if schema != JOURNAL_SCHEMA:
        raise UsageError(f"--resume {path}: is no audit to carry on; {ANOTHER}")
    for name, wanted in subject.items():
        if found.get(name) != wanted:
            raise UsageError(f"--resume {path}: was begun with {name} {found.get(name)!r}, not {wanted!r}; {ANOTHER}")


def _append(path: Path, line: str, *, mode: str = "a") -> None:
    with path.open(mode, encoding="utf-8") as stream:
        stream.write(line + "\n")
        stream.flush()
        os.fsync(stream.fileno())

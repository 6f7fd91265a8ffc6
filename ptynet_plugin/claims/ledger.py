"""The claim's ledger: every run is registered before it asks, and nothing that was asked is ever forgotten.

One JSON object a line, appended and forced to disk, each line holding the hash of the line before it (the first holds the
claim's digest):

    {"kind": "run", "run", "endpoint", "number", "alpha", "budget", "started", "facts"}
    {"kind": "asked", "run", "symbol"}                                      before the probe is sent
    {"kind": "answered", "run", "symbol", "hit", "null_rate", "facts"}      a question without such a line is a miss
    {"kind": "finished", "run", "verdict", "finished", "facts"}
    {"kind": "disclosed", "run", "symbols"}                                 opened in evidence, never asked again anywhere
    {"kind": "agreement", "registered"}  and with "result" for each endpoint asked    see `evidence.agreement`; no evidence
    {"kind": "traced", "number", "subject"}                                 a trace that reads an archive and asks nobody
    {"kind": "handed-over", "run", "symbols"}                               opened to a witness, who alone asks them, once

The unit of evidence is the symbol, once in the lifetime of (claim, endpoint). A second run against an endpoint
continues the evidence of the first under the same test number i, whose part of alpha is 6 alpha / (pi^2 i^2);
another endpoint is another test.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from ptynet_plugin.claims.canonical import canonical_json, parse_json, without_floats
from ptynet_plugin.claims.history import History, Run, Trial
from ptynet_plugin.claims.locking import try_lock
from ptynet_plugin.errors import ClaimError

__all__ = ["LEDGER", "Ledger", "Run", "Trial", "read_history"]

LEDGER = "ledger.jsonl"
_MOST_OCTETS = 1 << 28


class Ledger:
    """The open ledger of one claim; a context manager that keeps other runs of the claim out.

    Args:
        folder: The claim's folder.
        digest: The claim's digest; a ledger of another claim is refused.
        first: Number of its first test, see `History`.

    Raises:
        ClaimError: The folder cannot be written, another run holds the ledger, or the ledger was altered.
    """

    def __init__(self, folder: Path, *, digest: str, first: int = 1) -> None:
        self.path = folder / LEDGER
        self._file = _opened(self.path)
        try:
            if not try_lock(self._file):
                raise ClaimError(f"{self.path}: another run of this claim is under way; wait for it or stop it first")
            content = _content(self._file, self.path)
            self.history, self._head, whole = _replayed(content, digest, History(first=first), where=self.path)
            self._file.truncate(whole)
            self._file.seek(whole)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let other runs in."""
        self._file.close()

    @property
    def head(self) -> str:
        """Hash of the last line, 64 hex digits: it stands for the whole ledger so far."""
        return self._head

    def register(self, endpoint: str, *, alpha: float, budget: int, started: str, **facts: Any) -> Run:
        """Register a run before its first question.

        Args:
            endpoint: Name of the endpoint; the same service should always come under the same name.
            alpha: What the claim spends over all its tests; the run gets its part.
            budget: Most symbols it will ask.
            started: Time in ISO 8601 with zone.
            **facts: What else is fixed now: class map, beacon, kind of run. Values with a JSON form.

        Raises:
            ClaimError: As `require_level`.
        """
        self.require_level(alpha, of_trace="trace" in facts)
        run_id = secrets.token_hex(16)
        number = self.history.number_for(endpoint)
        line = {"kind": "run", "run": run_id, "endpoint": endpoint, "number": number, "alpha": alpha}
        self._append({**line, "budget": budget, "started": started, "facts": facts})
        return self.history.run(run_id)

    def require_level(self, alpha: float, *, of_trace: bool = False) -> None:
        """Refuse a larger level than the claim's first test had, or its first trace.

        The tests share that level as 6 alpha / (pi^2 i^2), which sums to alpha only where nobody raises it after having seen
        answers.

        Raises:
            ClaimError: It is larger.
        """
        first = self.history.level(of_traces=of_trace)
        if first is not None and alpha > first:
            what, flag = ("trace", "--fwer") if of_trace else ("test", "--alpha")
            raise ClaimError(
                f"{self.path}: the claim's first {what} was registered at the level {first:g}, which all of them share; {flag} "
                f"{alpha:g} would raise it after answers were seen: give {flag} {first:g} or less"
            )

    def resume(self, run_id: str) -> Run:
        """Give a run that was registered before, with what it asked already.

        Raises:
            ClaimError: The ledger knows no such run.
        """
        return self.history.run(run_id)

    def ask(self, run: Run, symbol: int) -> None:
        """Note that a symbol is about to be asked; from now on it is spent, whatever happens.

        Raises:
            ClaimError: It was asked at this endpoint before.
        """
        self._append({"kind": "asked", "run": run.id, "symbol": symbol})

    def answer(self, run: Run, symbol: int, *, hit: bool, null_rate: float | None = None, **facts: Any) -> None:
        """Note what came back.

        Args:
            run: The run that asked.
            symbol: What it asked.
            hit: Whether the label came back.
            null_rate: This trial's own null rate where a class map sets one.
            **facts: Answer, digests of request and response, time, ...: values with a JSON form.

        Raises:
            ClaimError: The run did not ask it, or its answer stands here already.
        """
        line = {"kind": "answered", "run": run.id, "symbol": symbol, "hit": hit, "null_rate": null_rate}
        self._append({**line, "facts": facts})

    def finish(self, run: Run, *, verdict: str, finished: str, **facts: Any) -> None:
        """Note the verdict; the run's evidence goes on to count in later runs against the same endpoint."""
        line = {"kind": "finished", "run": run.id, "verdict": verdict, "finished": finished}
        self._append({**line, "facts": facts})

    def disclose(self, run: Run, symbols: list[int]) -> None:
        """Note, before it happens, that a run's leaves are opened in evidence: from now on nobody is asked these symbols.

        Raises:
            ClaimError: The run did not ask one of them.
        """
        self._append({"kind": "disclosed", "run": run.id, "symbols": symbols})

    def hand_over(self, run: Run, symbols: list[int]) -> None:
        """Note, before it happens, that these leaves are opened to a witness: nobody else is ever asked these symbols.

        Raises:
            ClaimError: One of them was asked or opened before.
        """
        self._append({"kind": "handed-over", "run": run.id, "symbols": symbols})

    def trace(self, number: int, *, subject: str) -> None:
        """Note the number of a trace that asks no endpoint, before it looks; one that asks notes it with its run.

        Args:
            number: t, which every further trace of the claim must exceed.
            subject: What it looks at.
        """
        self._append({"kind": "traced", "number": number, "subject": subject})

    def agreement(self, registered: str, result: dict[str, Any] | None = None) -> None:
        """Note a list of benign pictures before an endpoint is asked them, and afterwards what came of it.

        Args:
            registered: SHA-256 of what was registered, 64 hex digits.
            result: Endpoint and outcome; None registers.

        Raises:
            ClaimError: Another list is registered, or none.
        """
        line = {"kind": "agreement", "registered": registered}
        self._append(line if result is None else line | {"result": result})

    def _append(self, fields: dict[str, Any]) -> None:
        line = without_floats({**fields, "previous": self._head})
        octets = canonical_json(line) + b"\n"
        self.history.take(line)
        try:
            self._file.write(octets)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ClaimError(f"{self.path}: cannot be written ({error.strerror}); nothing more is asked") from error
        self._head = hashlib.sha256(octets).hexdigest()


def read_history(folder: Path, *, digest: str) -> History:
    """Read a claim's ledger without taking part in it; empty where no run was ever registered.

    Raises:
        ClaimError: The ledger was altered or is another claim's.
    """
    path = folder / LEDGER
    if not path.exists():
        return History()
    try:
        with path.open("rb") as file:
            return _replayed(_content(file, path), digest, History(), where=path)[0]
    except OSError as error:
        raise ClaimError(f"{path}: cannot be read ({error.strerror})") from error


def _opened(path: Path) -> IO[bytes]:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        return os.fdopen(os.open(path, flags, 0o600), "r+b")
    except OSError as error:
        raise ClaimError(
            f"{path}: cannot be written ({error.strerror}); a run must be registered before it asks, "
            "copy the claim to a folder that can be written and give --claim"
        ) from error


def _content(file: IO[bytes], path: Path) -> bytes:
    file.seek(0)
    octets = file.read(_MOST_OCTETS + 1)
    if len(octets) > _MOST_OCTETS:
        raise ClaimError(f"{path}: larger than {_MOST_OCTETS} bytes, which no ledger of ours is")
    return octets


def _replayed(octets: bytes, digest: str, history: History, *, where: Path) -> tuple[History, str, int]:
    """Check the chain and take every line in.

    Returns:
        The history, the head of the chain, and the length up to which lines are whole: what a crash cut off in the
        middle of a line was never acted upon.
    """
    head, whole = digest, octets.rfind(b"\n") + 1
    for number, line in enumerate(_lines(octets[:whole]), start=1):
        place = f"{where}, line {number}"
        fields = parse_json(line, where=place)
        if not isinstance(fields, dict) or fields.get("previous") != head:
            raise ClaimError(
                f"{place}: does not follow the line before it; the ledger was altered or is another claim's"
            )
        try:
            history.take(fields)
        except (KeyError, TypeError, ValueError) as error:
            raise ClaimError(f"{place}: not a line of a ledger ({type(error).__name__}: {error})") from None
        except ClaimError as error:
            raise ClaimError(f"{place}: {error}") from None
        head = hashlib.sha256(line).hexdigest()
    return history, head, whole


def _lines(octets: bytes) -> Iterator[bytes]:
    return (line + b"\n" for line in octets.split(b"\n")[:-1])

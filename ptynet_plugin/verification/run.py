"""One run as it stands: what was registered, what was asked, what came back.

A question is written down before it is sent and its answer after: a question without an answer, whatever happened in between,
is a lost answer, and a lost answer is a miss. The file is replaced as a whole after every step, so that a run killed at any
moment is resumed where it was.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ptynet_plugin.errors import UsageError

__all__ = [
    "NEVER_ANSWERED",
    "RUN_SCHEMA",
    "Query",
    "RunState",
    "SymbolOutcome",
    "read_run",
    "symbol_outcomes",
    "write_run",
]

RUN_SCHEMA = "ptynet-run/v1"
FILE_LIMIT = 64 << 20
NEVER_ANSWERED = "never answered"


class Query(BaseModel):
    """One question.

    Attributes:
        symbol: Which symbol was asked, or whose pair a control belongs to.
        cover: Which of its covers.
        control: Whether it was a benign control, which never counts as evidence.
        answer: Class in the top place, or None: a tie, or lost.
        hit: Whether the answer was the symbol's label; always False for a control.
        lost: Why no answer came, or None where one did; "never answered" until it does.
        at: When it was asked, ISO 8601 in UTC.
        seconds: How long the answer took.
        kind: How much the answer told.
        request_sha256: Of the exact request body.
        answer_sha256: Of the exact answer body.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    symbol: int
    cover: int
    control: bool = False
    answer: int | None = None
    hit: bool = False
    lost: str | None = None
    at: str = ""
    seconds: float = 0.0
    kind: Literal["labels", "topk", "probabilities", "logits"] | None = None
    request_sha256: str | None = None
    answer_sha256: str | None = None

    @property
    def refused(self) -> bool:
        """Whether no class came back: lost, or a tie, with which a filter may answer what it recognises."""
        return self.answer is None


class RunState(BaseModel):
    """A registered run.

    Attributes:
        run_id: Drawn at registration; the order of the symbols follows from it.
        claim: Digest of the claim.
        endpoint: Identity of the endpoint, see `EndpointInfo.identity`.
        alpha: Level asked for.
        budget: Most probes.
        number: Which test of the claim this is, from 1; repeated on one endpoint it stays the same test.
        alpha_spent: The part of `alpha` that this test may spend.
        registered: Whether a ledger knows the run.
        covers: Covers per symbol.
        started: When it was registered, ISO 8601 in UTC.
        finished: When a verdict was reached, or None.
        queries: Everything asked so far, in order.
        earlier: Hits and misses of earlier runs on the same endpoint, in order.
        earlier_null_rates: Their own null rates, None for 1/C.
        class_map: What the endpoint answers for each class of the claim; None where they are the claim's classes.
        allowance: Bits by which the evidence must exceed the level before the run ends early; 0 where the raw level will do.
        beacon: Octets in hex of a public beacon round after the registration, on which the order depends too; "" without.
        view: What the suspect is taken to do to pictures, and is undone in those it is sent; the name of a `View`.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    schema_: Literal["ptynet-run/v1"] = Field(default="ptynet-run/v1", alias="schema")
    run_id: str
    claim: str
    endpoint: str
    alpha: float = Field(gt=0, lt=1)
    budget: int = Field(ge=1)
    number: int = Field(ge=1)
    alpha_spent: float = Field(gt=0, lt=1)
    registered: bool
    covers: int = Field(ge=1)
    started: str
    finished: str | None = None
    queries: list[Query] = Field(default_factory=list)
    earlier: list[bool] = Field(default_factory=list)
    earlier_null_rates: list[float | None] = Field(default_factory=list)
    class_map: list[int | None] | None = None
    allowance: int = Field(default=0, ge=0, le=64)
    beacon: str = Field(default="", pattern=r"^(?:[0-9a-f]{2})*$")
    view: str = "plain"

    @property
    def probes(self) -> list[Query]:
        """The queries that count: no controls."""
        return [query for query in self.queries if not query.control]

    @property
    def controls(self) -> list[Query]:
        """The benign controls."""
        return [query for query in self.queries if query.control]


class SymbolOutcome(BaseModel):
    """What one symbol's covers came to.

    Attributes:
        symbol: Which.
        answer: What more than half of them were answered with, or None.
        hit: Whether this one answer is a hit.
    """

    symbol: int
    hit: bool
    answer: int | None


def symbol_outcomes(run: RunState) -> list[SymbolOutcome]:
    """Count the covers of every symbol that was asked to the end, in order: one majority vote each."""
    asked = Counter(query.symbol for query in run.probes)
    hits = {(query.symbol, query.answer) for query in run.probes if query.hit}
    votes = Counter((query.symbol, query.answer) for query in run.probes if query.answer is not None)
    agreed = {symbol: answer for (symbol, answer), count in votes.items() if count > run.covers / 2}
    return [
        SymbolOutcome(symbol=symbol, hit=(symbol, agreed.get(symbol)) in hits, answer=agreed.get(symbol))
        for symbol, count in asked.items()
        if count == run.covers
    ]


def write_run(path: Path, run: RunState) -> None:
    """Replace the file by the run as it stands, readable by its owner alone.

    Raises:
        UsageError: It cannot be written; nothing half-written is left.
    """
    text = json.dumps(run.model_dump(mode="json", by_alias=True), indent=1)
    scratch = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".run-", delete=False) as stream:
            scratch = Path(stream.name)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
    except OSError as error:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
        raise UsageError(
            f"{path}: the run cannot be written down ({error.strerror}); nothing is asked without it"
        ) from error


def read_run(path: Path) -> RunState:
    """Read what `write_run` wrote; `read_run(p)` after `write_run(p, r)` equals r.

    Raises:
        UsageError: It cannot be read, or is no run.
    """
    try:
        if path.stat().st_size > FILE_LIMIT:
            raise UsageError(f"{path}: larger than any run; is it the file that verify wrote?")
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        return RunState.model_validate(content)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError, ValidationError) as error:
        reason = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else error
        raise UsageError(f"{path}: is no run to resume ({reason}); is it the file that verify wrote?") from None

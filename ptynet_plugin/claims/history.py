"""What a claim's ledger says: which runs there were, what each asked, what came back. Pure; `ledger` keeps the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ptynet_plugin.errors import ClaimError
from ptynet_plugin.statistics.decision import alpha_of_test

__all__ = ["History", "Run", "Trial"]


@dataclass(frozen=True)
class Trial:
    """One symbol that was asked at an endpoint.

    Attributes:
        symbol: Which.
        hit: Whether its label came back; a lost answer is a miss.
        null_rate: Its own null rate where a class map set one, else None.
        answered: Whether an answer was recorded at all.
        facts: What was recorded with the answer.
        asked_under: What was registered with the run that asked, its view for example.
    """

    symbol: int
    hit: bool = False
    null_rate: float | None = None
    answered: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    asked_under: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A registered run.

    Attributes:
        id: 32 hex digits drawn at registration; the order of symbols follows from it.
        endpoint: The endpoint's name, as the caller normalised it.
        number: i of this claim's tests.
        alpha: Level of this test, 6 alpha / (pi^2 i^2).
        budget: Most symbols it will ask.
        started: Time of the registration, ISO 8601.
        earlier: What other runs of the claim asked this endpoint, in their order.
        own: What this run itself asked already, where it is resumed.
        disclosed: Symbols whose leaves were opened in evidence; nobody is ever asked them again.
        facts: What was registered with it.
    """

    id: str
    endpoint: str
    number: int
    alpha: float
    budget: int
    started: str
    earlier: tuple[Trial, ...] = ()
    own: tuple[Trial, ...] = ()
    disclosed: frozenset[int] = frozenset()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spent(self) -> frozenset[int]:
        """Symbols that are never asked at this endpoint again: asked there before, or opened in evidence."""
        return self.disclosed | {trial.symbol for trial in self.earlier + self.own}


class History:
    """The ledger's lines, taken in one by one; a line that cannot follow the ones before it is refused.

    Args:
        first: Number of the first test; a witness goes on from the number that the owner's ledger gave him.
    """

    def __init__(self, *, first: int = 1) -> None:
        self._first = first
        self._runs: dict[str, dict[str, Any]] = {}
        self._trials: dict[str, dict[int, Trial]] = {}
        self._finished: set[str] = set()
        self._disclosed: dict[str, frozenset[int]] = {}
        self._agreement: str | None = None
        self._traces = 0

    def take(self, line: Mapping[str, Any]) -> None:
        """Take a line in.

        Raises:
            ClaimError: It contradicts what came before.
            KeyError: It lacks a field.
        """
        match line["kind"]:
            case "run":
                self._take_run(line)
            case "asked":
                self._take_question(line["run"], line["symbol"])
            case "answered":
                self._take_answer(line)
            case "finished":
                self._known(line["run"])
                self._finished.add(line["run"])
            case "disclosed":
                self._take_disclosure(line["run"], line["symbols"])
            case "handed-over":
                self._take_handover(line["run"], line["symbols"])
            case "agreement":
                self._take_agreement(line["registered"], line.get("result"))
            case "traced":
                self._traces = max(self._traces, int(line["number"]))
            case other:
                raise ClaimError(f"a ledger has no lines of the kind {other!r}")

    def number_for(self, endpoint: str) -> int:
        """Give the test number of an endpoint: its first run's, or the next one."""
        numbers = {run["endpoint"]: run["number"] for run in self._runs.values()}
        return int(numbers.get(endpoint, len(numbers) + self._first))

    def run(self, run_id: str) -> Run:
        """Give a run with its own and its endpoint's earlier trials.

        Raises:
            ClaimError: There is no such run.
        """
        line = self._known(run_id)
        siblings = [other for other in self._at(line["endpoint"]) if other != run_id]
        return Run(
            id=run_id,
            endpoint=line["endpoint"],
            number=line["number"],
            alpha=alpha_of_test(float(line["alpha"]), line["number"]),
            budget=line["budget"],
            started=line["started"],
            earlier=tuple(trial for other in siblings for trial in self._trials[other].values()),
            own=tuple(self._trials[run_id].values()),
            disclosed=frozenset().union(*(opened for other, opened in self._disclosed.items() if other != run_id)),
            facts=line["facts"],
        )

    def runs(self) -> list[Run]:
        """Give all runs in the order of their registration."""
        return [self.run(run_id) for run_id in self._runs]

    @property
    def traces(self) -> int:
        """The highest number that a trace of the claim bears here, 0 where there was none; whichever registry gave it."""
        return self._traces

    def level(self, *, of_traces: bool) -> float | None:
        """Give the level that all tests of the claim share, or all its traces: that of the first; None before it."""
        lines = (run for run in self._runs.values() if ("trace" in run["facts"]) == of_traces)
        return next((float(run["alpha"]) for run in lines), None)

    def is_finished(self, run_id: str) -> bool:
        """Tell whether the run was brought to a verdict."""
        return run_id in self._finished

    def _take_run(self, line: Mapping[str, Any]) -> None:
        if line["run"] in self._runs:
            raise ClaimError(f"run {line['run']} is registered twice")
        if line["number"] != self.number_for(line["endpoint"]):
            raise ClaimError(f"run {line['run']} is test {self.number_for(line['endpoint'])}, not {line['number']}")
        alpha_of_test(float(line["alpha"]), line["number"])
        self._traces = max(self._traces, int(line["facts"].get("trace", 0)))
        self._runs[line["run"]] = dict(line)
        self._trials[line["run"]] = {}

    def _take_question(self, run_id: str, symbol: int) -> None:
        endpoint = self._known(run_id)["endpoint"]
        if any(symbol in opened for opened in self._disclosed.values()):
            raise ClaimError(f"symbol {symbol} was opened in evidence; its label is public and proves nothing any more")
        if any(symbol in self._trials[other] for other in self._at(endpoint)):
            raise ClaimError(f"symbol {symbol} was asked at {endpoint} before; a symbol counts once in a lifetime")
        self._trials[run_id][symbol] = Trial(symbol, asked_under=self._runs[run_id]["facts"])

    def _take_answer(self, line: Mapping[str, Any]) -> None:
        self._known(line["run"])
        trial = self._trials[line["run"]].get(line["symbol"])
        if trial is None or trial.answered:
            raise ClaimError(f"symbol {line['symbol']} has no open question in run {line['run']}; answers count once")
        rate = line["null_rate"]
        self._trials[line["run"]][line["symbol"]] = replace(
            trial,
            hit=line["hit"] is True,
            null_rate=None if rate is None else float(rate),
            answered=True,
            facts=line["facts"],
        )

    def _take_disclosure(self, run_id: str, symbols: list[int]) -> None:
        if not set(symbols) <= set(self._trials[self._known(run_id)["run"]]):
            raise ClaimError(f"run {run_id} opens symbols that it did not ask")
        self._disclosed[run_id] = frozenset(symbols)

    def _take_handover(self, run_id: str, symbols: list[int]) -> None:
        opened = frozenset().union(*self._disclosed.values())
        asked = {symbol for trials in self._trials.values() for symbol in trials}
        spent = sorted((opened | asked) & set(symbols))
        if spent:
            raise ClaimError(
                f"symbol {spent[0]} is spent already: a reserve is handed over once; commit a claim of another epoch for "
                "another neutral run"
            )
        self._disclosed[self._known(run_id)["run"]] = frozenset(symbols)

    def _take_agreement(self, registered: str, result: Mapping[str, Any] | None) -> None:
        known = self._agreement
        if (result is None) == (known is not None) or (result is not None and registered != known):
            raise ClaimError(
                f"benign pictures {registered[:16]}... are registered once, before an endpoint is asked them; known are "
                f"{'none' if known is None else known[:16] + '...'}"
            )
        self._agreement = registered

    def _known(self, run_id: str) -> dict[str, Any]:
        if run_id not in self._runs:
            raise ClaimError(f"no run {run_id!r} is registered; a run is resumed with the claim it was begun with")
        return self._runs[run_id]

    def _at(self, endpoint: str) -> list[str]:
        return [run_id for run_id, line in self._runs.items() if line["endpoint"] == endpoint]

"""What was asked is never forgotten, never asked again, and never altered unnoticed."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptynet_plugin.claims import Claim, Ledger, Run, read_history, write_claim
from ptynet_plugin.errors import ClaimError

HERE, THERE = "triton+http://host:8000/resnet18", "torchserve+http://host:8080/resnet18"


@pytest.fixture
def folder(tmp_path: Path, claim: Claim) -> Path:
    write_claim(tmp_path / "resnet18", claim)
    return tmp_path / "resnet18"


@pytest.fixture
def digest(claim: Claim) -> str:
    return claim.digest


def register(ledger: Ledger, endpoint: str = HERE) -> Run:
    return ledger.register(endpoint, alpha=1e-9, budget=200, started="2026-01-01T00:00:00Z")


def ask(ledger: Ledger, run: Run, *hits: bool, start: int = 0) -> None:
    for symbol, hit in enumerate(hits, start=start):
        ledger.ask(run, symbol)
        ledger.answer(run, symbol, hit=hit, answer=3)


def test_a_run_stands_in_the_file_before_it_asks(folder: Path, digest: str) -> None:
    with Ledger(folder, digest=digest) as ledger:
        run = register(ledger)
        lines = (folder / "ledger.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert (first["kind"], first["run"], first["endpoint"], first["number"]) == ("run", run.id, HERE, 1)
    assert first["previous"] == digest


def test_every_question_is_on_disk_before_it_is_sent(
    folder: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: forced.append(os.fstat(handle).st_size))
    with Ledger(folder, digest=digest) as ledger:
        run = register(ledger)
        ledger.ask(run, 4)
        assert forced[-1] == (folder / "ledger.jsonl").stat().st_size
    assert len(forced) == 2


def test_the_second_endpoint_is_the_second_test(folder: Path, digest: str) -> None:
    with Ledger(folder, digest=digest) as ledger:
        runs = [register(ledger), register(ledger, THERE), register(ledger), register(ledger, "third")]
    assert [run.number for run in runs] == [1, 2, 1, 3]
    assert [run.alpha for run in runs] == pytest.approx([6e-9 / (math.pi * i) ** 2 for i in (1, 2, 1, 3)])
    assert len({run.id for run in runs}) == 4


def test_repeating_goes_on_where_the_last_run_ended(folder: Path, digest: str) -> None:
    with Ledger(folder, digest=digest) as ledger:
        ask(ledger, register(ledger), True, False, True)
        ask(ledger, register(ledger, THERE), False)
    with Ledger(folder, digest=digest) as ledger:
        again = register(ledger)
        assert [(trial.symbol, trial.hit) for trial in again.earlier] == [(0, True), (1, False), (2, True)]
        assert again.spent == {0, 1, 2}
        with pytest.raises(ClaimError, match=r"symbol 1 was asked at triton.* before"):
            ledger.ask(again, 1)
        ledger.ask(register(ledger, THERE), 1)


def test_a_question_without_an_answer_is_a_miss_and_spent(folder: Path, digest: str) -> None:
    with Ledger(folder, digest=digest) as ledger:
        run = register(ledger)
        ledger.ask(run, 7)
    with Ledger(folder, digest=digest) as ledger:
        resumed = ledger.resume(run.id)
        assert [(trial.symbol, trial.hit, trial.answered) for trial in resumed.own] == [(7, False, False)]
        assert (resumed.budget, resumed.alpha, resumed.started) == (200, run.alpha, run.started)
        with pytest.raises(ClaimError, match="once in a lifetime"):
            ledger.ask(resumed, 7)


def test_an_answer_is_recorded_once_and_only_to_a_question(folder: Path, digest: str) -> None:
    with Ledger(folder, digest=digest) as ledger:
        run = register(ledger)
        ledger.ask(run, 2)
        with pytest.raises(ClaimError, match="no open question"):
            ledger.answer(run, 3, hit=True)
        ledger.answer(run, 2, hit=False)
        with pytest.raises(ClaimError, match="no open question"):
            ledger.answer(run, 2, hit=True)
    assert [trial.hit for trial in read_history(folder, digest=digest).run(run.id).own] == [False]


def test_facts_and_per_trial_nulls_read_back(folder: Path, digest: str) -> None:
    with Ledger(folder, digest=digest) as ledger:
        run = ledger.register(HERE, alpha=0.05, budget=9, started="now", class_map=[0, 0, None], pace=2.5)
        ledger.ask(run, 2)
        ledger.answer(run, 2, hit=True, null_rate=2 / 3, answer="pet")
        ledger.finish(run, verdict="shown", finished="later", e_value=1e10)
    history = read_history(folder, digest=digest)
    read = history.run(run.id)
    assert read.facts == {"class_map": [0, 0, None], "pace": "2.5"}
    assert read.own[0].null_rate == 2 / 3
    assert read.own[0].facts == {"answer": "pet"}
    assert history.is_finished(run.id)
    assert [one.id for one in history.runs()] == [run.id]


def test_the_ledger_knows_the_highest_trace_whoever_numbered_it(folder: Path, digest: str) -> None:
    with Ledger(folder, digest=digest) as ledger:
        assert ledger.history.traces == 0
        ledger.register("a", alpha=1e-6, budget=5, started="2026-11-24T08:00:00Z", trace=4)
        assert ledger.history.traces == 4
        ledger.trace(7, subject="file leaked.mar")
        ledger.register("b", alpha=1e-6, budget=5, started="2026-11-24T08:00:00Z", trace=2)
        assert ledger.history.number_for("c") == 3, "an archive that is read is no test of an endpoint"
    assert read_history(folder, digest=digest).traces == 7


def test_an_unknown_run_cannot_be_resumed(folder: Path, digest: str) -> None:
    with Ledger(folder, digest=digest) as ledger, pytest.raises(ClaimError, match="no run 'abc' is registered"):
        ledger.resume("abc")


def test_a_second_run_of_the_claim_waits_its_turn(folder: Path, digest: str) -> None:
    with Ledger(folder, digest=digest) as ledger:
        register(ledger)
        with pytest.raises(ClaimError, match="another run of this claim is under way"):
            Ledger(folder, digest=digest)
    Ledger(folder, digest=digest).close()


def _hold(folder: Path, digest: str, ready: object, go: object) -> None:
    with Ledger(folder, digest=digest):
        ready.set()
        go.wait(60)


def test_the_lock_holds_between_processes_and_dies_with_its_holder(folder: Path, digest: str) -> None:
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(folder, digest, ready, go))
    process.start()
    assert ready.wait(60)
    with pytest.raises(ClaimError, match="under way"):
        Ledger(folder, digest=digest)
    process.kill()
    process.join()
    Ledger(folder, digest=digest).close()


def test_a_line_that_a_crash_cut_off_is_dropped(folder: Path, digest: str) -> None:
    with Ledger(folder, digest=digest) as ledger:
        run = register(ledger)
        ask(ledger, run, True)
    path = folder / "ledger.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind":"asked","run"')
    with Ledger(folder, digest=digest) as ledger:
        ask(ledger, ledger.resume(run.id), False, start=1)
    assert [trial.hit for trial in read_history(folder, digest=digest).run(run.id).own] == [True, False]
    assert path.read_bytes().startswith(whole)


def test_a_read_only_folder_says_what_to_do(folder: Path, digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def read_only(path: object, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied")
        return real_open(path, flags, mode)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(ClaimError, match="registered before it asks, copy the claim to a folder that can be written"):
        Ledger(folder, digest=digest)


def test_a_full_disk_stops_the_run(folder: Path, digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with Ledger(folder, digest=digest) as ledger:
        run = register(ledger)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ClaimError, match=r"No space left on device\); nothing more is asked"):
            ledger.ask(run, 0)


def test_the_ledger_of_another_claim_is_refused(folder: Path, digest: str) -> None:
    with Ledger(folder, digest=digest) as ledger:
        register(ledger)
    with pytest.raises(ClaimError, match="line 1: does not follow"):
        Ledger(folder, digest="00" * 32)


def test_no_ledger_is_an_empty_history(folder: Path, digest: str) -> None:
    assert read_history(folder, digest=digest).runs() == []


@pytest.fixture
def long_ledger(folder: Path, digest: str) -> Path:
    with Ledger(folder, digest=digest) as ledger:
        ask(ledger, register(ledger), True, False, True, True)
    return folder / "ledger.jsonl"


@pytest.mark.parametrize("dropped", [0, 1, 2, 5])
def test_a_dropped_line_is_noticed(long_ledger: Path, digest: str, dropped: int) -> None:
    lines = long_ledger.read_bytes().splitlines(keepends=True)
    long_ledger.write_bytes(b"".join(lines[:dropped] + lines[dropped + 1 :]))
    with pytest.raises(ClaimError, match=f"line {dropped + 1}: does not follow"):
        read_history(long_ledger.parent, digest=digest)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 100_000), change=st.integers(1, 255))
def test_flipping_any_byte_before_the_last_line_is_noticed(
    long_ledger: Path, digest: str, at: int, change: int
) -> None:
    whole = long_ledger.read_bytes()
    last_line = whole[:-1].rfind(b"\n") + 1
    broken = bytearray(whole)
    broken[at % last_line] ^= change
    long_ledger.write_bytes(broken)
    try:
        with pytest.raises(ClaimError, match=r"ledger\.jsonl, line \d+: "):
            read_history(long_ledger.parent, digest=digest)
    finally:
        long_ledger.write_bytes(whole)


@pytest.mark.parametrize(
    "line",
    [
        {"kind": "run", "run": "a"},
        {
            "kind": "run",
            "run": "a",
            "endpoint": "x",
            "number": "1",
            "alpha": "0.1",
            "budget": 1,
            "started": "",
            "facts": {},
        },
        {"kind": "asked", "run": "nobody", "symbol": 1},
        {"kind": "asked", "run": [], "symbol": 1},
        {"kind": "surprise"},
        {},
        [],
        None,
    ],
)
def test_lines_of_an_adversary_are_refused_with_their_number(folder: Path, digest: str, line: object) -> None:
    chained = {**line, "previous": digest} if isinstance(line, dict) else line
    (folder / "ledger.jsonl").write_text(json.dumps(chained) + "\n")
    with pytest.raises(ClaimError, match="line 1: "):
        read_history(folder, digest=digest)


LEVELS = "5a" * 32


def test_a_level_is_never_raised_after_answers_were_seen(tmp_path: Path) -> None:
    """With p = 10^-7 in hand, 10^-6 would be chosen: the parts of all tests then sum to more than anyone was promised."""
    with Ledger(tmp_path, digest=LEVELS) as ledger:
        ledger.register(HERE, alpha=1e-9, budget=9, started="now")
        for endpoint in (HERE, "elsewhere"):
            with pytest.raises(
                ClaimError, match=r"first test was registered at the level 1e-09.*--alpha 1e-09 or less"
            ):
                ledger.register(endpoint, alpha=1e-6, budget=9, started="now")
        ledger.register(HERE, alpha=1e-12, budget=9, started="now")
        ledger.register(HERE, alpha=1e-9, budget=9, started="now")
        ledger.register(HERE, alpha=1e-6, budget=9, started="now", trace=1)
        with pytest.raises(ClaimError, match=r"first trace was registered at the level 1e-06.*--fwer 1e-06 or less"):
            ledger.register(HERE, alpha=1e-3, budget=9, started="now", trace=2)
    with Ledger(tmp_path, digest=LEVELS) as ledger, pytest.raises(ClaimError, match="first test"):
        ledger.register(HERE, alpha=0.5, budget=9, started="now")


def test_a_ledger_of_before_the_rule_is_held_to_its_first_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger(tmp_path, digest=LEVELS) as ledger, monkeypatch.context() as patch:
        patch.setattr(Ledger, "require_level", lambda *_, **__: None)
        for alpha in (1e-9, 1e-6):
            ledger.register(HERE, alpha=alpha, budget=9, started="now")
    with Ledger(tmp_path, digest=LEVELS) as ledger, pytest.raises(ClaimError, match="at the level 1e-09"):
        ledger.register(HERE, alpha=1e-6, budget=9, started="now")

"""The guard: whatever happens to the caller or the server, nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from model_store_tools.serving.process import GuardedProcess, telling_lines

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
SECONDS = 20

FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
loner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(os.getpid(), child.pid, loner.pid, "started", flush=True)
"""
WAITS = FAMILY + "time.sleep(600)\n"
DIES = FAMILY + "sys.exit(3)\n"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAITS

CALLER = """
import sys, time
from pathlib import Path
from model_store_tools.serving.process import GuardedProcess
log, source, scratch = sys.argv[1:]
GuardedProcess([sys.executable, "-c", source], environment={"PATH": "/usr/bin:/bin"}, folder=Path("/"), log=Path(log),
               remove=[scratch])
time.sleep(600)
"""


def start(source: str, log: Path, **knobs: object) -> GuardedProcess:
    command = [sys.executable, "-c", source]
    return GuardedProcess(command, environment=ENVIRONMENT, folder=log.parent, log=log, **knobs)


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SECONDS
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met


def family(log: Path) -> list[int]:
    """Return the process ids the server wrote down, once it has."""
    assert until(lambda: log.exists() and "started" in log.read_text())
    return [int(word) for word in log.read_text().split()[:3]]


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def all_gone(pids: list[int]) -> bool:
    return until(lambda: not any(running(pid) for pid in pids))


def test_stop_ends_the_server_and_all_it_started(tmp_path: Path) -> None:
    process = start(WAITS, tmp_path / "log")
    pids = family(tmp_path / "log")
    assert process.alive()
    process.stop()
    assert not process.alive()
    assert all_gone(pids)
    process.stop()


def test_a_server_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    process = start(STUBBORN, tmp_path / "log", grace=0.3)
    pids = family(tmp_path / "log")
    process.stop()
    assert all_gone(pids)


def test_a_server_that_dies_takes_its_family_along_and_tells_its_exit_code(tmp_path: Path) -> None:
    process = start(DIES, tmp_path / "log")
    pids = family(tmp_path / "log")
    assert process.wait(SECONDS) == 3
    assert all_gone(pids)
    process.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_the_caller_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    log = tmp_path / "log"
    caller = subprocess.Popen([sys.executable, "-c", CALLER, log, WAITS, scratch], cwd=Path(__file__).parents[2])
    pids = family(log)
    caller.send_signal(number)
    caller.wait(SECONDS)
    assert all_gone(pids)
    assert until(lambda: not scratch.exists())


def test_the_server_dies_even_with_its_guard(tmp_path: Path) -> None:
    process = start(WAITS, tmp_path / "log")
    server, *_ = pids = family(tmp_path / "log")
    guard = int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(guard, signal.SIGKILL)
    assert all_gone([server])
    process.stop()
    for pid in pids[1:]:
        os.kill(pid, signal.SIGKILL)


def test_a_program_that_is_not_there_is_told_in_the_log(tmp_path: Path) -> None:
    command = [str(tmp_path / "no-such-server")]
    process = GuardedProcess(command, environment=ENVIRONMENT, folder=tmp_path, log=tmp_path / "log")
    assert process.wait(SECONDS) != 0
    assert "no-such-server" in process.read_log()
    process.stop()


def test_scratch_is_removed_and_the_log_still_readable(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    (scratch / "deep").mkdir(parents=True)
    process = start("print('hello')", scratch / "log", remove=[str(scratch), str(tmp_path / "shm_*")])
    assert process.wait(SECONDS) == 0
    assert not scratch.exists()
    assert process.read_log() == "hello\n"
    process.stop()


def test_telling_lines_show_cause_and_end_without_repeats() -> None:
    log = ["10:00:00.1 starting", "10:00:00.2 E failed: digest differs", "10:00:05.2 E failed: digest differs"]
    assert telling_lines("\n".join(log)) == ["10:00:00.2 E failed: digest differs"]
    many = [f"error {letter}" for letter in "abcdefghij"]
    assert telling_lines("\n".join(many), limit=4) == ["error a", "error b", "error i", "error j"]
    assert telling_lines("one\n\ntwo\n", limit=2) == ["one", "two"]
    assert telling_lines("W CudaDriverHelper failed\n") == []

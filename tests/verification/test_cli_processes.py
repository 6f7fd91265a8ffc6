"""`ptynet verify` as a process: Ctrl-C at any moment, and a start where torch is not installed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.standins import Request
from tests.support.verify_desk import SCRIPT, Desk, marked, start_process, wait_for


def test_ctrl_c_leaves_a_file_to_resume_from_and_exits_2(desk: Desk, serve: Callable) -> None:
    seen: list[int] = []

    def answer(request: Request) -> object:
        seen.append(1)
        time.sleep(0.1)
        return marked(desk.case)(request)

    serve(answer)
    process = start_process(desk)
    wait_for(lambda: len(seen) >= 4, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 2, err
    assert out == ""
    assert "interrupted" in err
    file = err.split("--resume ")[1].split()[0]
    assert desk.run().exit_code == 0  # another run meanwhile takes other symbols
    result = desk.run("--resume", file)
    assert result.exit_code == 0, result.output
    asked = [json.loads(line) for line in (desk.case.folder / "ledger.jsonl").read_text().splitlines()]
    symbols = [line["symbol"] for line in asked if line["kind"] == "asked"]
    assert len(symbols) == len(set(symbols))
    assert all(line["hit"] for line in asked if line["kind"] == "answered")  # the question under way was let end


def test_a_hanging_question_is_cut_off_and_is_a_miss(desk: Desk, serve: Callable, tmp_path: Path) -> None:
    seen: list[int] = []
    free: list[int] = []

    def answer(request: Request) -> object:
        seen.append(1)
        while len(seen) == 3 and not free:
            time.sleep(0.05)
        return marked(desk.case)(request)

    serve(answer)
    state = tmp_path / "run.json"
    process = start_process(desk, "--resume", str(state), "--timeout", "30")
    wait_for(lambda: len(seen) >= 3, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    free.append(1)
    assert process.returncode == 2
    assert "interrupted; a question that was on its way counts as a miss" in err
    assert json.loads(state.read_text())["queries"][-1]["lost"] == "never answered"
    assert desk.run("--resume", str(state)).exit_code == 0


def test_waiting_for_the_pace_can_be_interrupted_at_no_cost(desk: Desk, serve: Callable, tmp_path: Path) -> None:
    seen: list[int] = []

    def answer(request: Request) -> object:
        seen.append(1)
        return marked(desk.case)(request)

    serve(answer)
    state = tmp_path / "run.json"
    process = start_process(desk, "--resume", str(state), "--pace", "30/min")
    wait_for(lambda: len(seen) >= 2, process)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2, err
    result = desk.run("--resume", str(state), "--json", "-")
    body = json.loads(result.stdout)
    assert body["hits"] == body["symbols"]


def test_verify_starts_where_torch_is_not_installed(desk: Desk, serve: Callable, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "torch.py").write_text("raise ImportError('torch is not installed here')\n")
    serve(marked(desk.case))
    where = f"torchserve+http://127.0.0.1:{desk.port}/digits"
    command = [sys.executable, "-c", SCRIPT, "verify", where, "--key", str(desk.key), "--mark", str(desk.mark)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(blocked), *sys.path])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr

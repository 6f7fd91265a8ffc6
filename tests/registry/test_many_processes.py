"""Sixteen processes at once, some of them killed with SIGKILL: no number twice, nothing confirmed is lost."""

from __future__ import annotations

import time
from pathlib import Path

from model_store_tools.registry import Registry
from ptynet_plugin.codes.tardos import CopyCode
from tests.support.registry_workers import CLAIM, OWNER, context, issue_all, race_for_one, trace_often

PROCESSES, EACH, KILLED = 16, 5, 6
SECONDS = 120


def start(target: object, *arguments: object) -> object:
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def lines(log: Path) -> list[list[str]]:
    """The whole lines of a log: a line that was cut off was never confirmed."""
    text = log.read_text() if log.exists() else ""
    return [line.split(" ", 2) for line in text[: text.rfind("\n") + 1].splitlines()]


def test_no_number_is_given_twice_and_nothing_confirmed_is_lost(url: str, tmp_path: Path) -> None:
    counts = [
        EACH * (4 if worker < KILLED else 1) for worker in range(PROCESSES)
    ]  # victims have work until they are hit
    customers = [[f"customer {worker}-{each}" for each in range(count)] for worker, count in enumerate(counts)]
    logs = [tmp_path / f"{worker}.log" for worker in range(PROCESSES)]
    workers = [start(issue_all, url, customers[each], logs[each]) for each in range(PROCESSES)]
    deadline = time.monotonic() + SECONDS
    alive = set(range(KILLED))
    while alive and time.monotonic() < deadline:  # each at another step, in the middle of whatever comes next
        for victim in [each for each in alive if len(lines(logs[each])) > each]:
            workers[victim].kill()
            alive.remove(victim)
    for worker in workers:
        worker.join(SECONDS)
    codes = [worker.exitcode for worker in workers]
    assert codes[KILLED:] == [0] * (PROCESSES - KILLED)
    assert codes[:KILLED].count(-9) >= KILLED // 2, "the kills came too late to test anything"

    with Registry.open(url, owner=OWNER) as registry:
        there = {copy.number: copy for copy in registry.copies(CLAIM)}
        assert sorted(there) == list(range(1, registry.count(CLAIM) + 1))
        assert len({copy.customer for copy in there.values()}) == len(there)
        confirmed = [line for log in logs for line in lines(log)]
        assert all(there[int(number)].customer == customer for _, number, customer in confirmed)
        assert all(there[int(number)].state == "issued" for state, number, _ in confirmed if state == "issued")

    for victim in range(KILLED):
        issue_all(url, customers[victim], logs[victim])
    with Registry.open(url, owner=OWNER) as registry:
        copies = list(registry.copies(CLAIM))
        assert sorted(copy.customer for copy in copies) == sorted(name for each in customers for name in each)
        assert registry.count(CLAIM) == sum(counts) and {copy.state for copy in copies} == {"issued"}
    words = CopyCode(bytes(32), positions=512).words(1, sum(counts))
    assert len({word.tobytes() for word in words[[copy.number - 1 for copy in copies]]}) == sum(counts)


def test_one_customer_gets_one_copy_from_many_processes(url: str, tmp_path: Path) -> None:
    logs = [tmp_path / f"{each}.log" for each in range(PROCESSES)]
    for worker in [start(race_for_one, url, "Example Ltd", log) for log in logs]:
        worker.join(SECONDS)
    told = [log.read_text().split(" ", 1) for log in logs]
    issued = [rest for state, rest in told if state == "issued"]
    assert len(issued) == 1 and len(told) == PROCESSES
    assert all("took over copy 1" in rest or "has copy 1" in rest for state, rest in told if state == "refused")
    with Registry.open(url, owner=OWNER) as registry:
        assert issued == [f"1 {registry.copy(CLAIM, 1).digest}"] and registry.count(CLAIM) == 1


def test_traces_are_numbered_once(url: str, tmp_path: Path) -> None:
    logs = [tmp_path / f"{each}.log" for each in range(6)]
    for worker in [start(trace_often, url, 5, log) for log in logs]:
        worker.join(SECONDS)
    assert sorted(int(number) for log in logs for number in log.read_text().split()) == list(range(1, 31))

"""Sixteen `ptynet copies issue` at once, some killed with SIGKILL: no copy twice, no archive half, and all can be finished."""

from __future__ import annotations

import time
from itertools import pairwise
from multiprocessing.context import ForkServerProcess

from model_store_tools.certificates import read_certificate
from model_store_tools.packaging.certifying import certificate_paths
from ptynet_plugin.archives.checking import check_archive
from ptynet_plugin.claims.copies import CopyTables
from ptynet_plugin.claims.directory import read_claim
from tests.copies.conftest import CopyCase
from tests.support.issuing_workers import command, context
from tests.support.quick_mark import KEY

PROCESSES, KILLED = 16, 6
SECONDS = 120


def start(case: CopyCase, *customers: str) -> ForkServerProcess:
    folder = case.folder
    arguments = [
        "copies", "issue", str(folder / "target.onnx"), "--registry", case.registry,
        "--key", str(folder / "OWNER.key"), "--mark", str(folder / "MARK"), "--spec", str(folder / "SPEC.toml"),
        "--format", "triton", "--out", str(folder / "out"), "--gate", "digest", "--positions", "152",
        *(part for customer in customers for part in ("--customer", customer)),
    ]  # fmt: skip
    process = context.Process(target=command, args=(arguments, folder / f"{customers[0]}.log"))
    process.start()
    return process


def kill_in_the_middle(case: CopyCase, processes: dict[str, ForkServerProcess]) -> None:
    """Kill each of these: the first half once its number is reserved, the others once their archive appears."""
    waiting, deadline = list(processes), time.monotonic() + SECONDS
    with case.open_registry() as registry:
        while waiting and time.monotonic() < deadline:
            numbers = {copy.customer: copy.number for copy in registry.copies()}
            for place, customer in enumerate(processes):
                archive = case.folder / "out" / f"target-copy-{numbers.get(customer)}"
                if customer in waiting and customer in numbers and (place < KILLED // 2 or archive.exists()):
                    processes[customer].kill()
                    waiting.remove(customer)
            time.sleep(0.002)
    told = {each: (processes[each].exitcode, (case.folder / f"{each}.log").read_text()) for each in waiting}
    assert not waiting, f"never got so far: {told}"


def whole_archives(case: CopyCase) -> dict[str, str]:
    """Digest of every archive under --out by its name; fails where one is not whole."""
    folders = [path for path in (case.folder / "out").iterdir() if path.is_dir() and not path.name.startswith(".")]
    return {path.name: check_archive(path).digest for path in folders}


def test_no_copy_twice_none_half_and_the_same_commands_finish(unissued: CopyCase) -> None:
    customers = [f"customer-{each}" for each in range(PROCESSES)]
    processes = {customer: start(unissued, customer) for customer in customers}
    kill_in_the_middle(unissued, {customer: processes[customer] for customer in customers[:KILLED]})
    for process in processes.values():
        process.join(SECONDS)
    codes = [process.exitcode for process in processes.values()]
    told = "\n".join(path.read_text() for path in unissued.folder.glob("*.log"))
    assert codes[KILLED:] == [0] * (PROCESSES - KILLED), told
    assert codes[:KILLED].count(-9) >= KILLED // 2, "the kills came too late to test anything"

    archives = whole_archives(unissued)
    with unissued.open_registry() as registry:
        there = list(registry.copies())
    open_ = {copy.customer for copy in there if copy.state == "reserved"}
    assert open_ and open_ <= set(customers[:KILLED])
    assert all(archives[str(copy.archive)] == copy.digest for copy in there if copy.state == "issued")

    for customer in sorted(open_):
        again = start(unissued, customer)
        again.join(SECONDS)
        assert again.exitcode == 0, (unissued.folder / f"{customer}.log").read_text()
    require_all_issued_once(unissued, customers)


def test_several_customers_killed_between_two_are_finished_by_the_same_command(unissued: CopyCase) -> None:
    customers = [f"customer-{each}" for each in range(6)]
    killed, deadline = start(unissued, *customers), time.monotonic() + SECONDS
    with unissued.open_registry() as registry:
        while sum(copy.state == "issued" for copy in registry.copies()) < 2 and time.monotonic() < deadline:
            time.sleep(0.002)
        killed.kill()
        killed.join(SECONDS)
        before = {copy.customer: copy for copy in registry.copies() if copy.state == "issued"}
    assert killed.exitcode == -9 and 2 <= len(before) < len(customers), "the kill came too late to test anything"
    stamps = {path.name: path.stat().st_mtime_ns for path in (unissued.folder / "out").iterdir()}

    again = start(unissued, *customers)
    again.join(SECONDS)
    told = (unissued.folder / f"{customers[0]}.log").read_text()
    assert again.exitcode == 0, told
    require_all_issued_once(unissued, customers)
    for copy in before.values():
        assert (
            f"copy    {copy.number} for {copy.customer}: issued on {(copy.issued_at or '')[:10]} with this archive"
            in told
        )
        for name in (str(copy.archive), f"{copy.archive}.certificate.json"):
            assert (unissued.folder / "out" / name).stat().st_mtime_ns == stamps[name]
    assert told.count("left as it is") == len(before)


def require_all_issued_once(case: CopyCase, customers: list[str]) -> None:
    archives = whole_archives(case)
    with case.open_registry() as registry:
        copies = list(registry.copies())
    assert sorted(copy.customer for copy in copies) == sorted(customers)
    assert [copy.number for copy in copies] == list(range(1, len(customers) + 1))
    assert {str(copy.archive): copy.digest for copy in copies} == archives
    assert len(set(archives.values())) == len(customers)
    (claim,) = {copy.claim for copy in copies}
    tables = CopyTables(read_claim(case.folder / "MARK" / "claims" / "target"), KEY.epoch_secret())
    assert tables.claim.digest == claim
    words = sorted(tables.code.words(1, len(customers)).tolist())
    assert all(one != other for one, other in pairwise(words))
    for copy in copies:
        certificate = read_certificate(certificate_paths(case.folder / "out" / str(copy.archive))[0])
        certificate.require_owner(KEY.epoch_secret())
        facts = certificate.facts
        assert (facts.number, facts.customer, facts.archive.digest) == (copy.number, copy.customer, copy.digest)
        assert certificate.digest == copy.certificate

"""Numbers, customers, archives, traces: what the registry promises, on every database it runs on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import event

from model_store_tools.registry import Copy, Registry
from model_store_tools.serving.postgres import Postgres
from ptynet_plugin.errors import RegistryError

OWNER, CLAIM, OTHER = "0e" * 32, "c1" * 32, "c2" * 32
ARCHIVE = {"archive": "model.mar", "format": "torchserve", "digest": "ad" * 32}


def issue(registry: Registry, customer: str, claim: str = CLAIM) -> Copy:
    return registry.complete(registry.reserve(claim=claim, customer=customer), **ARCHIVE)


def test_numbers_count_from_1_in_each_claim(registry: Registry) -> None:
    given = [registry.reserve(claim=claim, customer=name).number for claim in (CLAIM, OTHER) for name in "abc"]
    assert given == [1, 2, 3, 1, 2, 3]
    assert (registry.count(CLAIM), registry.count(OTHER), registry.count("c3" * 32)) == (3, 3, 0)
    assert registry.claims() == [CLAIM, OTHER]


def test_a_reservation_becomes_an_issued_copy(registry: Registry) -> None:
    reserved = registry.reserve(claim=CLAIM, customer="Example Ltd")
    assert (reserved.state, reserved.issued_at, reserved.digest) == ("reserved", None, None)
    issued = registry.complete(reserved, **ARCHIVE)
    assert issued.state == "issued" and issued.digest == ARCHIVE["digest"] and issued.archive == "model.mar"
    assert registry.copy(CLAIM, 1) == issued
    assert list(registry.copies()) == [issued]


def test_who_only_reads_makes_no_registry(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no such registry"):
        Registry.open(f"sqlite:///{tmp_path / 'mistyped.db'}", owner=OWNER, create=False)
    assert list(tmp_path.iterdir()) == []


def test_everything_is_there_after_closing(url: str) -> None:
    with Registry.open(url, owner=OWNER) as registry:
        issued = issue(registry, "Example Ltd")
        registry.begin_trace(CLAIM, endpoint="triton+http://host:8000/model")
    with Registry.open(url) as again:
        assert again.owner == OWNER
        assert list(again.copies()) == [issued]
        assert [trace.number for trace in again.traces()] == [1]


def test_one_customer_has_one_copy_until_it_is_revoked(registry: Registry) -> None:
    issue(registry, "Example Ltd")
    with pytest.raises(RegistryError, match=r"'Example Ltd' has copy 1 since 20\d\d-.*`ptynet copies revoke 1`"):
        registry.reserve(claim=CLAIM, customer="  Example Ltd ")
    assert registry.reserve(claim=OTHER, customer="Example Ltd").number == 1
    registry.revoke(CLAIM, 1, reason="left the programme")
    assert issue(registry, "Example Ltd").number == 2
    assert registry.count(CLAIM) == 2


def test_an_abandoned_reservation_keeps_its_number_and_is_taken_over(registry: Registry) -> None:
    abandoned = registry.reserve(claim=CLAIM, customer="a")
    registry.reserve(claim=CLAIM, customer="b")
    taken = registry.reserve(claim=CLAIM, customer="a")
    assert taken.number == abandoned.number == 1
    with pytest.raises(RegistryError, match="another process took over copy 1"):
        registry.complete(abandoned, **ARCHIVE)
    assert registry.copy(CLAIM, 1).state == "reserved"
    assert registry.complete(taken, **ARCHIVE).state == "issued"
    assert registry.count(CLAIM) == 2


def test_completing_again_with_the_same_archive_is_no_error(registry: Registry) -> None:
    reserved = registry.reserve(claim=CLAIM, customer="a")
    first = registry.complete(reserved, **ARCHIVE)
    assert registry.complete(reserved, **ARCHIVE) == first
    with pytest.raises(RegistryError, match=r"copy 1 was issued with archive adad.* already"):
        registry.complete(reserved, **(ARCHIVE | {"digest": "ae" * 32}))
    assert registry.copy(CLAIM, 1) == first


def test_several_are_reserved_at_once_or_none(registry: Registry) -> None:
    issue(registry, "b")
    with pytest.raises(RegistryError, match="'b' has copy 1"):
        registry.reserve_many(claim=CLAIM, customers=["a", "b", "c"])
    with pytest.raises(RegistryError, match="'a' is given twice"):
        registry.reserve_many(claim=CLAIM, customers=["a", "c", " a"])
    assert registry.count(CLAIM) == 1
    made = registry.reserve_many(claim=CLAIM, customers=[f"customer {each}" for each in range(1200)])
    assert [copy.number for copy in made] == list(range(2, 1202))
    assert [registry.complete(copy, **ARCHIVE).number for copy in made[:2]] == [2, 3]
    assert len(list(registry.copies(CLAIM))) == 1201


def test_several_are_completed_at_once_or_none(registry: Registry) -> None:
    made = registry.reserve_many(claim=CLAIM, customers=["a", "b", "c"])
    archives = [(copy, f"{copy.number}.mar", f"{copy.number:064x}") for copy in made]
    registry.complete_many([], format="triton")
    registry.revoke(CLAIM, 2, reason="a mistake")
    with pytest.raises(RegistryError, match="one of 3 reservations is no longer open; none was completed"):
        registry.complete_many(archives, format="triton")
    assert [copy.state for copy in registry.copies()] == ["reserved"] * 3
    registry.complete_many([archives[0], archives[2]], format="triton")
    assert [copy.archive for copy in registry.copies()] == ["1.mar", None, "3.mar"]


def test_a_revoked_copy_stays_and_says_why(registry: Registry) -> None:
    issue(registry, "a")
    revoked = registry.revoke(CLAIM, 1, reason="contract ended")
    assert revoked.revoked_because == "contract ended" and revoked.revoked_at is not None
    assert list(registry.copies(revoked=True)) == [revoked] and not list(registry.copies(revoked=False))
    with pytest.raises(RegistryError, match=r"copy 1 was revoked on 20.* already \(contract ended\)"):
        registry.revoke(CLAIM, 1, reason="again")
    with pytest.raises(RegistryError, match="the reason is empty"):
        registry.revoke(CLAIM, 1, reason=" ")


def test_a_copy_revoked_while_it_is_made_is_not_issued(registry: Registry) -> None:
    reserved = registry.reserve(claim=CLAIM, customer="a")
    registry.revoke(CLAIM, 1, reason="a mistake")
    with pytest.raises(RegistryError, match="copy 1 was revoked while it was made; do not hand it out"):
        registry.complete(reserved, **ARCHIVE)
    assert registry.reserve(claim=CLAIM, customer="a").number == 2


def test_an_unknown_copy_is_named(registry: Registry) -> None:
    issue(registry, "a")
    for refused in (lambda: registry.copy(CLAIM, 2), lambda: registry.revoke(CLAIM, 2, reason="x")):
        with pytest.raises(RegistryError, match=r"claim c1c1c1c1c1c1c1c1... has no copy 2; see `ptynet copies list`"):
            refused()
    with pytest.raises(RegistryError, match="a claim's digest has 64 lower-case hex digits, not 'C1'"):
        registry.copy("C1", 1)


def test_copies_are_found_by_claim_and_customer(registry: Registry) -> None:
    for claim in (CLAIM, OTHER):
        for name in ("a", "b"):
            issue(registry, name, claim)
    assert [(copy.claim, copy.number) for copy in registry.copies()] == [(CLAIM, 1), (CLAIM, 2), (OTHER, 1), (OTHER, 2)]
    assert [copy.customer for copy in registry.copies(OTHER)] == ["a", "b"]
    assert [(copy.claim, copy.number) for copy in registry.copies(customer="b")] == [(CLAIM, 2), (OTHER, 2)]


def test_traces_are_numbered_before_they_ask_and_end_once(registry: Registry) -> None:
    numbers = [registry.begin_trace(CLAIM, endpoint="file:model.mar") for _ in range(3)]
    assert numbers == [1, 2, 3] and registry.begin_trace(OTHER, endpoint="file:model.mar") == 1
    assert registry.begin_trace(OTHER, endpoint="file:model.mar", above=6) == 7
    assert registry.begin_trace(OTHER, endpoint="file:model.mar", above=6) == 8
    registry.finish_trace(CLAIM, 2, accused=[7, 3], verdict="traced")
    with pytest.raises(RegistryError, match=r"trace 2 of claim c1c1.* is unknown or ended already"):
        registry.finish_trace(CLAIM, 2, accused=[], verdict="none")
    with pytest.raises(RegistryError, match="trace 4 of claim"):
        registry.finish_trace(CLAIM, 4, accused=[], verdict="none")
    found = registry.traces(CLAIM)
    assert [(trace.number, trace.accused, trace.verdict) for trace in found] == [
        (1, (), None),
        (2, (7, 3), "traced"),
        (3, (), None),
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "the customer's name is empty"),
        (" \t", "the customer's name is empty"),
        ("a\nb", r"holds the invisible character U\+000A"),
        ("a\0b", r"holds the invisible character U\+0000"),
        ("a\x1b[2Jb", r"holds the invisible character U\+001B"),
        ("evil\u202etxt", r"holds the invisible character U\+202E"),
        ("\udcff", r"holds the invisible character U\+DCFF"),
        ("x" * 201, "has 201 characters; at most 200"),
    ],
)
def test_names_that_cannot_be_read_are_refused(registry: Registry, name: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        registry.reserve(claim=CLAIM, customer=name)
    assert registry.count(CLAIM) == 0


def test_names_have_one_form(registry: Registry) -> None:
    issue(registry, "Cafe\u0301 GmbH")
    with pytest.raises(RegistryError, match="has copy 1"):
        registry.reserve(claim=CLAIM, customer="Caf\u00e9 GmbH")
    assert registry.reserve(claim=CLAIM, customer="'; DROP TABLE ptynet_copies; --").number == 2


def test_a_registry_belongs_to_one_key(url: str) -> None:
    Registry.open(url, owner=OWNER).close()
    with pytest.raises(RegistryError, match=r"belongs to the key 0e0e0e0e0e0e0e0e..., the key given is 0f0f"):
        Registry.open(url, owner="0f" * 32)
    Registry.open(url, owner=OWNER).close()


def test_what_a_caller_gets_wrong_changes_nothing(registry: Registry) -> None:
    reserved = registry.reserve(claim=CLAIM, customer="a")
    for wrong in ({"digest": "AD" * 32}, {"archive": ""}, {"format": "a\nb"}):
        with pytest.raises(RegistryError):
            registry.complete(reserved, **(ARCHIVE | wrong))
    assert registry.copy(CLAIM, 1) == reserved


def line_of(copy: Copy) -> str:
    state = "revoked " if copy.revoked_at else "issued  " if copy.issued_at else "reserved"
    signed = " countersigned" if copy.countersigner else ""
    day = (copy.issued_at or copy.reserved_at)[:10]
    return f"{copy.number:>7} {state} {day} {copy.customer}  {copy.archive or ''}{signed}"


def test_a_list_says_what_the_copies_say(registry: Registry) -> None:
    first, second, third = registry.reserve_many(claim=CLAIM, customers=["A", "B", "Ω %s \\ 'é'"])
    registry.complete_many([(first, "a.mar", "aa" * 32), (second, "b.mar", "bb" * 32)], format="torchserve")
    registry.complete(third, archive="c", format="triton", digest="cc" * 32, certificate="dd" * 32)
    registry.countersign(CLAIM, 3, public_key="ee" * 32, signature="ff" * 64)
    registry.revoke(CLAIM, 2, reason="gone")
    for number in (999_999, 1_000_000, 12_345_678):
        registry.restore([], highest={OTHER: number - 1}, traces={})
        registry.reserve(claim=OTHER, customer=f"late {number}")
    for which in ({}, {"customer": "B"}, {"revoked": True}, {"revoked": False}, {"claim": "c4" * 32}):
        lines: list[str] = []
        for copy in registry.copies(**which):
            lines += [] if f"claim {copy.claim}" in lines else [f"claim {copy.claim}"]
            lines.append(line_of(copy))
        assert "".join(registry.lines(**which)).splitlines() == lines
    assert len("".join(registry.lines()).splitlines()) == 8


def test_looking_loads_neither_orm_nor_migrations_nor_the_other_database(tmp_path: Path) -> None:
    """They take longer to load than 100,000 copies to list."""
    url = f"sqlite:///{tmp_path / 'copies.db'}"
    with Registry.open(url, owner=OWNER) as made:
        made.reserve(claim=CLAIM, customer="a")
    code = (
        "import sys\nfrom model_store_tools.registry import Registry\n"
        f"with Registry.open({url!r}) as opened: print(sum(map(len, opened.lines())))\n"
        "print([each for each in ('sqlalchemy.orm', 'alembic', 'sqlalchemy.dialects.postgresql') if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    size, loaded = done.stdout.splitlines()
    assert int(size) > 64 and loaded == "[]"


def test_one_of_many_that_was_revoked_completes_none(registry: Registry) -> None:
    first, second = registry.reserve_many(claim=CLAIM, customers=["A", "B"])
    registry.revoke(CLAIM, 2, reason="gone")
    with pytest.raises(RegistryError, match="one of 2 reservations is no longer open; none was completed"):
        registry.complete_many([(first, "a.mar", "aa" * 32), (second, "b.mar", "bb" * 32)], format="torchserve")
    assert [copy.state for copy in registry.copies()] == ["reserved", "reserved"]


@pytest.mark.postgresql
def test_postgresql_completes_many_by_their_numbers(postgres: Postgres) -> None:
    """By the index on customers instead, whose first column alone fits, 10,000 copies took half a minute."""
    with Registry.open(postgres.make_database("plans"), owner=OWNER) as registry:
        copies = registry.reserve_many(claim=CLAIM, customers=[f"customer {each}" for each in range(40)])
        engine, seen = registry._database._engine, []
        event.listen(engine, "before_cursor_execute", lambda *given: seen.append(given[2:4]))
        registry.complete_many([(copy, "a.mar", f"{copy.number:064x}") for copy in copies], format="torchserve")
        statement, values = next(each for each in seen if each[0].startswith("UPDATE"))
        with registry._database.reading() as connection:
            plan = "".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", values[0]))
    assert "pk_ptynet_copies" in plan and "number = " in plan.split("Filter")[0]

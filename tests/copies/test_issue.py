from __future__ import annotations

import itertools
import json
import re
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from model_store_tools.cli.main import app
from model_store_tools.packaging import copies as packing
from model_store_tools.packaging.copies import CopyPackager, CopyWishes
from model_store_tools.packaging.issuing import issue_copies
from model_store_tools.packaging.package import package
from ptynet_plugin.archives.checking import check_archive
from ptynet_plugin.claims.copies import CopyTables, default_copy_terms
from ptynet_plugin.claims.directory import find_claim, read_claim
from ptynet_plugin.errors import ClaimError, RegistryError, UsageError
from tests.copies.conftest import CUSTOMERS, WISHES, CopyCase
from tests.support.quick_mark import KEY


def run(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(each) for each in arguments], env={"PTYNET_KEY": ""})
    return done.exit_code, done.stdout, done.stderr


def issue(case: CopyCase, *customers: str, **flags: object) -> tuple[int, str, str]:
    given: dict[str, object] = {
        "registry": case.registry,
        "key": case.folder / "OWNER.key",
        "mark": case.folder / "MARK",
        "spec": case.folder / "SPEC.toml",
        "format": "triton",
        "out": case.folder / "out",
        "gate": "digest",
        "positions": 152,
        **flags,
    }
    options = [part for name, value in given.items() for part in (f"--{name}", value) if value is not None]
    who = [part for customer in customers for part in ("--customer", customer)]
    return run("copies", "issue", case.folder / "target.onnx", *who, *options)


def table_of(archive: Path) -> np.ndarray:
    model = onnx.load(str(archive / "1" / "model.onnx"))
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name.endswith("labels"))


def test_every_copy_carries_its_own_table_and_nothing_else_of_its_own(issued_once: CopyCase) -> None:
    claim_tables = issued_once.tables
    assert claim_tables is not None
    graphs = []
    for number, archive in enumerate(issued_once.archives, start=1):
        assert np.array_equal(table_of(archive), claim_tables.table(number))
        model = onnx.load(str(archive / "1" / "model.onnx"))
        next(t for t in model.graph.initializer if t.name.endswith("labels")).ClearField("raw_data")
        graphs.append(model.SerializeToString(deterministic=True))
    assert graphs[0] == graphs[1] == graphs[2]


def test_two_archives_share_no_value_of_the_claim(issued_once: CopyCase) -> None:
    manifests = [check_archive(archive).manifest for archive in issued_once.archives]
    assert len({manifest.claim for manifest in manifests}) == 3
    target = manifests[0].target.model_dump_json()
    for one, other in itertools.pairwise(manifests):
        digests = [set(re.findall(r"[0-9a-f]{64}", m.model_dump_json().replace(target, ""))) for m in (one, other)]
        handlers = {record.sha256 for name, record in one.files.items() if not name.endswith(("onnx", "pbtxt"))}
        assert digests[0] & digests[1] <= handlers | set(re.findall(r"[0-9a-f]{64}", target))


def test_even_the_same_name_gives_two_copies_no_common_commitment(issued_once: CopyCase) -> None:
    assert issued_once.tables is not None
    made = {issued_once.tables.archive_commitment(number, "triton/resnet18/1") for number in range(1, 50)}
    assert len(made) == 49


def test_the_registry_knows_archive_and_digest(issued_once: CopyCase) -> None:
    with issued_once.open_registry() as registry:
        there = list(registry.copies())
    assert [copy.customer for copy in there] == list(CUSTOMERS)
    assert [copy.digest for copy in there] == [check_archive(path).digest for path in issued_once.archives]
    assert {copy.state for copy in there} == {"issued"}


def test_tables_are_made_again_from_key_and_number_alone(issued_once: CopyCase) -> None:
    claim = read_claim(issued_once.folder / "MARK" / "claims" / "target")
    again = CopyTables(claim, KEY.epoch_secret())
    assert np.array_equal(again.table(2), table_of(issued_once.archives[1]))


def test_a_target_packaged_before_is_issued_beside_and_each_verb_finds_its_claim(unissued: CopyCase) -> None:
    package(unissued.folder / "target.onnx", unissued.options(name="target"))
    for customer in ("Alpha Ltd", "Beta GmbH"):
        code, _, err = issue(unissued, customer)
        assert code == 0, err
        assert "claim   " in err and "claims/target-copies" in err
    mark = unissued.folder / "MARK"
    assert sorted(path.name for path in (mark / "claims").iterdir() if path.name[0] != ".") == [
        "target",
        "target-copies",
    ]
    assert find_claim(mark, copies=True).name == "target-copies"
    assert find_claim(mark, copies=False).name == "target"
    with pytest.raises(ClaimError, match=r"holds 2 claims \(target, target-copies\); say which with --claim"):
        find_claim(mark)
    key, archive = unissued.folder / "OWNER.key", unissued.folder / "out" / "target-copy-2"
    code, out, err = run("trace", archive, "--key", key, "--mark", mark, "--registry", unissued.registry)
    assert (code, "Beta GmbH (copy 2)" in out) == (0, True), err


def test_the_verb_prints_the_archives_path_last_and_keeps_one_claim(unissued: CopyCase) -> None:
    code, out, err = issue(unissued, "Alpha Ltd")
    assert code == 0, err
    assert Path(out.splitlines()[-1]) == unissued.folder / "out" / "target-copy-1"
    assert "152 positions" in err
    assert "warning: 152 positions suffice for 1 colluder(s), not for 4: one of 4 is then named with power 0.0" in err
    code, out, err = issue(unissued, "Beta GmbH", positions=None, format="torchserve", name="resnet")
    assert code == 0, err
    assert Path(out.splitlines()[-1]) == unissued.folder / "out" / "resnet.mar"
    assert "warning" not in err
    assert [path.name for path in (unissued.folder / "MARK" / "claims").iterdir()] == ["target"]


def test_the_same_command_gives_the_same_bytes(unissued: CopyCase, tmp_path: Path) -> None:
    other = unissued.copied_to(tmp_path / "other")
    digests = [re.search(r"digest  (\w+)", issue(case, "Alpha Ltd")[2]) for case in (unissued, other)]
    assert digests[0] and digests[1] and digests[0][1] == digests[1][1]


@pytest.mark.parametrize(
    ("customers", "flags", "message"),
    [
        (("",), {}, "the customer's name is empty"),
        (("Alpha Ltd", "Beta GmbH"), {"name": "both"}, "would give 2 archives one name"),
        (
            ("Alpha Ltd",),
            {"positions": 999},
            "999 positions and 34 quick symbols do not fit into the mark's 216 symbols",
        ),
        (("Alpha Ltd",), {"positions": 13}, "--positions 13 must be a multiple of 8"),
        (("Alpha Ltd",), {"quick": 3}, "--quick 3 even"),
        (("Alpha Ltd",), {"coalition": 0}, "--coalition 0 from 1 to 64"),
        (("Alpha Ltd",), {"registry": "mysql://x/y"}, "a registry lies in SQLite or PostgreSQL"),
    ],
)
def test_what_cannot_be_is_refused(
    unissued: CopyCase, customers: tuple[str, ...], flags: dict[str, object], message: str
) -> None:
    code, out, err = issue(unissued, *customers, **flags)
    assert (code, out) == (2, "")
    assert message in err
    assert not list((unissued.folder / "out").glob("*"))


def test_a_customer_has_one_copy(issued: CopyCase) -> None:
    code, _, err = issue(issued, "Beta GmbH", positions=None)
    assert code == 2
    assert "'Beta GmbH' has copy 2" in err


def test_of_several_customers_only_those_with_this_very_archive_are_passed_over(issued: CopyCase) -> None:
    code, out, err = issue(issued, "Alpha Ltd", "Delta", "Beta GmbH", positions=None)
    assert code == 0, err
    assert [Path(line).name for line in out.splitlines()] == [f"target-copy-{number}" for number in (1, 4, 2)]
    assert err.count("with this archive, left as it is") == 2
    code, _, err = issue(issued, "Delta", "Epsilon", "Epsilon", positions=None)
    assert code == 2 and "'Epsilon' has copy 5" in err
    assert issue(issued, "Delta", "Delta", positions=None)[0] == 2
    moved = issued.archives[1].rename(issued.folder / "elsewhere")
    code, _, err = issue(issued, "Alpha Ltd", "Beta GmbH", positions=None)
    assert code == 2 and "'Beta GmbH' has copy 2" in err, "issued with an archive that lies elsewhere"
    shutil.copytree(issued.archives[0], issued.archives[1])
    code, _, err = issue(issued, "Alpha Ltd", "Beta GmbH", positions=None)
    assert code == 2 and "'Beta GmbH' has copy 2" in err and moved.exists(), "another copy's archive in its place"


def test_an_archive_that_is_not_the_registered_one_is_not_passed_over(issued: CopyCase) -> None:
    """Of the right copy and in the right place, but of another digest than what the customer was given."""
    with sqlite3.connect(issued.folder / "copies.db") as database:
        database.execute("UPDATE ptynet_copies SET digest = ? WHERE number = 1", ("0" * 64,))
    code, _, err = issue(issued, "Alpha Ltd", "Beta GmbH", positions=None)
    assert code == 2 and "'Alpha Ltd' has copy 1" in err


def test_a_customer_whose_copy_was_revoked_gets_a_new_one_among_several(issued: CopyCase) -> None:
    with issued.open_registry() as registry:
        (first, *_) = registry.copies()
        registry.revoke(first.claim, 1, reason="lost")
    code, out, err = issue(issued, "Alpha Ltd", "Beta GmbH", positions=None)
    assert code == 0, err
    assert [Path(line).name for line in out.splitlines()] == ["target-copy-4", "target-copy-2"]


def test_another_keys_registry_and_mark_are_refused(unissued: CopyCase) -> None:
    assert run("keygen", unissued.folder / "other.key")[0] == 0
    code, _, err = issue(unissued, "Alpha Ltd", key=unissued.folder / "other.key")
    assert code == 2
    assert "was trained with the key" in err


def test_a_plain_claim_and_other_shares_are_refused(issued: CopyCase) -> None:
    claim = issued.folder / "MARK" / "claims" / "target"
    code, _, err = issue(issued, "Delta", claim=claim, positions=144)
    assert code == 2
    assert "has 152 positions, 34 quick symbols and coalition 4" in err
    code, _, err = run(
        "package", issued.folder / "target.onnx", "--mark", issued.folder / "MARK", "--spec", issued.folder / "SPEC.toml",
        "--format", "triton", "--out", issued.folder / "plain", "--claim", claim,
    )  # fmt: skip
    assert code == 2
    assert "is a claim for copies; issue one: ptynet copies issue" in err


def test_a_claim_committed_before_is_taken(unissued: CopyCase) -> None:
    folder = unissued.folder
    code, _, err = run(
        "claim", "commit", "--target", folder / "target.onnx", "--spec", folder / "SPEC.toml", "--out", folder / "C",
        "--key", folder / "OWNER.key", "--mark", folder / "MARK", "--copies", "--positions", 96, "--quick", 40,
    )  # fmt: skip
    assert code == 0, err
    assert "copies: 96 positions, 40 quick symbols, coalition 4" in err
    code, _, err = issue(unissued, "Alpha Ltd", claim=folder / "C", positions=None)
    assert code == 0, err
    assert "96 positions" in err


def test_positions_without_copies_are_refused(unissued: CopyCase) -> None:
    folder = unissued.folder
    code, _, err = run(
        "claim", "commit", "--target", folder / "target.onnx", "--spec", folder / "SPEC.toml", "--out", folder / "C",
        "--key", folder / "OWNER.key", "--mark", folder / "MARK", "--positions", 96,
    )  # fmt: skip
    assert code == 2
    assert "add --copies" in err


def test_killed_before_the_note_the_same_command_finishes_it(
    unissued: CopyCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        pass

    class Dying:
        def __init__(self, registry: object) -> None:
            self.registry = registry

        def reserve(self, **given: str) -> object:
            return self.registry.reserve(**given)

        def complete(self, copy: object, **facts: str) -> object:
            raise KilledError

    target = unissued.folder / "target.onnx"
    with unissued.open_registry() as registry:
        with pytest.raises(KilledError), CopyPackager(target, unissued.options(), wishes=WISHES) as packager:
            list(issue_copies(packager, Dying(registry), ["Alpha Ltd"], format="triton"))
        assert [copy.state for copy in registry.copies()] == ["reserved"]
        archive = unissued.folder / "out" / "target-copy-1"
        before = check_archive(archive).digest
        monkeypatch.setattr(CopyPackager, "pack", lambda *_: pytest.fail("packed again"))
        with CopyPackager(target, unissued.options()) as packager:
            (issued,) = issue_copies(packager, registry, ["Alpha Ltd"], format="triton")
        assert (issued.copy.number, issued.copy.digest) == (1, before)


def test_killed_while_packing_leaves_a_number_and_no_archive(
    unissued: CopyCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packing.steps, "write_results", full_disk)
    code, out, err = issue(unissued, "Alpha Ltd")
    assert (code, out) == (2, "")
    assert "the disk is full" in err
    assert not (unissued.folder / "out").exists()
    with unissued.open_registry() as registry:
        assert [(copy.number, copy.state) for copy in registry.copies()] == [(1, "reserved")]
    monkeypatch.undo()
    assert issue(unissued, "Alpha Ltd")[0] == 0


def test_somebody_elses_archive_is_never_taken_for_a_copy(issued: CopyCase) -> None:
    with issued.open_registry() as registry, CopyPackager(issued.folder / "target.onnx", issued.options()) as packager:
        (issued.folder / "out" / "target-copy-2").rename(issued.folder / "out" / "target-copy-4")
        with pytest.raises(UsageError, match="exists; --force replaces it"):
            list(issue_copies(packager, registry, ["Delta"], format="triton"))


def test_a_database_gone_in_the_middle_is_one_clear_line(unissued: CopyCase, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = CopyPackager.pack

    def and_lose_the_database(self: CopyPackager, *given: object) -> object:
        made = pack(self, *given)
        (unissued.folder / "copies.db").write_bytes(b"gone" * 1000)
        return made

    monkeypatch.setattr(CopyPackager, "pack", and_lose_the_database)
    code, out, err = issue(unissued, "Alpha Ltd")
    assert (code, out) == (2, "")
    assert "copies.db: " in err
    assert len(err.strip().splitlines()[-1]) < 400


@pytest.mark.parametrize(("classes", "quick"), [(2, 0), (9, 0), (10, 34), (100, 18), (1000, 12)])
def test_default_shares(classes: int, quick: int) -> None:
    terms = default_copy_terms(symbols=512, reserve=64, classes=classes)
    assert terms.quick == quick
    assert terms.positions == (448 - quick - (64 if classes < 10 else 0)) // 8 * 8


def test_a_claim_for_one_archive_has_no_copies(issued: CopyCase, case: object) -> None:
    plain = case.package(gate="off")
    with pytest.raises(ClaimError, match="is for one archive; copies have a claim of their own"):
        CopyTables(read_claim(plain.claim), KEY.epoch_secret())


def test_the_manifest_of_a_copy_is_json_without_customer(issued_once: CopyCase) -> None:
    text = (issued_once.archives[0] / "ptynet-manifest.json").read_text()
    assert json.loads(text)["name"] == "target-copy-1"
    assert not any(customer in text for customer in CUSTOMERS)
    for file in issued_once.archives[0].rglob("*"):
        assert file.is_dir() or not any(customer.encode() in file.read_bytes() for customer in CUSTOMERS)


def test_reservations_are_refused_to_the_unnamed(unissued: CopyCase) -> None:
    with (
        unissued.open_registry() as registry,
        CopyPackager(unissued.folder / "target.onnx", unissued.options(), wishes=CopyWishes(positions=80)) as packager,
    ):
        with pytest.raises(UsageError, match="nobody to issue a copy to"):
            list(issue_copies(packager, registry, [], format="triton"))
        with pytest.raises(RegistryError, match="the customer's name is empty"):
            list(issue_copies(packager, registry, ["  "], format="triton"))
        assert registry.count(packager.claim.digest) == 0

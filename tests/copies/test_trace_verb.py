"""`ptynet trace` from the command line: black-box over HTTP and from files, white-box from archives."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from model_store_tools.audit.hostile import Hostile, serve, stolen_model
from model_store_tools.audit.hostile.coalition import averaged_model, colluding
from model_store_tools.packaging.copies import CopyPackager
from model_store_tools.registry import Registry
from model_store_tools.serving.archive import serve_archive
from ptynet_plugin.claims.ledger import Ledger
from tests.copies.conftest import CopyCase
from tests.copies.test_issue import run
from tests.support.quick_mark import KEY


def trace(case: CopyCase, suspect: object, *more: object) -> tuple[int, str, str]:
    return run(
        "trace", suspect, "--key", case.folder / "OWNER.key", "--mark", case.folder / "MARK",
        "--registry", case.registry, *more,
    )  # fmt: skip


def test_a_leak_is_named_over_the_network(issued: CopyCase, tmp_path: Path) -> None:
    assert issued.tables is not None
    spec = issued.tables.claim.terms.spec
    with (
        stolen_model(issued.archives[1], spec) as ask,
        serve(Hostile("leak", "answers", ask, labels_only=True), spec) as address,
    ):
        code, out, err = trace(issued, address, "--json", tmp_path / "t.json", "--report", tmp_path / "t.html")
    assert code == 0, err
    assert "TRACED" in out
    assert "named      Beta GmbH (copy 2): E = 10^" in out
    value = json.loads((tmp_path / "t.json").read_text())
    assert value["accused"][0]["customer"] == "Beta GmbH"
    assert (value["verdict"], value["answers"], value["trace"], value["copies"]) == ("traced", "labels", 1, 3)
    page = (tmp_path / "t.html").read_text()
    HTMLParser().feed(page)
    assert "Traced to Beta GmbH (copy 2)." in page
    assert page.count("<circle") >= 3
    assert '<td class="number">2</td><td>Beta GmbH</td>' in page
    assert "0x" not in page
    for secret in (KEY.secret.hex(), KEY.epoch_secret().hex(), KEY.probe_secret().hex()):
        assert secret not in page + out + err + json.dumps(value)
    with issued.open_registry() as registry:
        (noted,) = registry.traces()
    assert (noted.verdict, noted.accused) == ("traced", (2,))


def test_a_copy_behind_a_mirroring_endpoint_is_named_with_view(issued: CopyCase) -> None:
    assert issued.tables is not None
    spec = issued.tables.claim.terms.spec
    with (
        stolen_model(issued.archives[1], spec) as ask,
        serve(
            Hostile("mirror", "answers", lambda picture: ask(np.ascontiguousarray(picture[:, ::-1]))), spec
        ) as address,
    ):
        code, out, err = trace(issued, address, "--view", "mirrored")
        assert code == 0, out + err
        assert "named      Beta GmbH (copy 2)" in out
        code, _, err = trace(issued, issued.archives[0], "--view", "mirrored")
        assert code == 2 and "--view says how pictures are shown to an endpoint" in err


@pytest.mark.triton
def test_a_copy_behind_the_real_triton_is_named(issued: CopyCase) -> None:
    archive = issued.archives[1]
    with serve_archive(archive) as handle:
        code, out, err = trace(issued, handle.url(), "--json", "-")
    assert code == 0, err
    assert [each["customer"] for each in json.loads(out)["accused"]] == ["Beta GmbH"]


@pytest.mark.parametrize("strategy", ["majority", "minority", "interleave", "coin", "erase", "average"])
def test_two_real_copies_behind_a_real_server_are_traced(issued: CopyCase, strategy: str) -> None:
    assert issued.tables is not None
    spec = issued.tables.claim.terms.spec
    with stolen_model(issued.archives[0], spec) as one, stolen_model(issued.archives[2], spec) as other:
        ask = colluding([one, other], strategy)
        with serve(Hostile(strategy, "mixing", ask), spec) as address:
            code, out, err = trace(issued, address, "--fwer", "1e-3", "--read-bits", "--json", "-")
    assert code == 0, err
    named = {each["copy"] for each in json.loads(out)["accused"]}
    assert named
    assert named <= {1, 3}


def test_revoked_copies_are_still_named_and_marked(issued: CopyCase) -> None:
    assert issued.tables is not None
    with issued.open_registry() as registry:
        registry.revoke(issued.tables.claim.digest, 3, reason="contract ended")
    code, out, _ = trace(issued, f"file:{issued.archives[2]}", "--json", "-")
    accused = json.loads(out)["accused"]
    assert (code, accused[0]["copy"], accused[0]["revoked"]) == (0, 3, True)
    code, out, _ = trace(issued, issued.archives[2])
    assert code == 0
    assert "named      Gamma SA (copy 3, revoked 2" in out


def test_the_bare_target_has_no_customer(issued: CopyCase) -> None:
    code, out, _ = trace(issued, f"file:{issued.folder / 'target.onnx'}")
    assert (code, out.splitlines()[0]) == (1, "NO-CUSTOMER: no copy answers there")
    code, out, _ = trace(issued, issued.folder / "target.onnx")
    assert code == 1
    assert "holds no table beside code words of this key" in out


def test_white_box_names_every_archive_with_an_exact_p_value(issued: CopyCase) -> None:
    for number, archive in enumerate(issued.archives, start=1):
        code, out, err = trace(issued, archive, "--json", "-")
        assert code == 0, err
        value = json.loads(out)
        assert [each["copy"] for each in value["accused"]] == [number]
        assert value["manifest_copy"] == number
        assert (value["matches"], value["compared"]) == (186, 186)
        assert value["log10_p"] < -50
        assert value["log10_p_adjusted"] > value["log10_p"]
    with issued.open_registry() as registry:
        assert [each.number for each in registry.traces()] == [1, 2, 3]


def test_two_registries_of_one_claim_never_spend_a_trace_number_twice(issued: CopyCase) -> None:
    """A second registry, or one restored with too low a --traces, goes on where the claim's ledger stands."""
    assert issued.tables is not None
    claim = issued.tables.claim.digest
    other = f"sqlite:///{issued.folder / 'other.db'}"
    with issued.open_registry() as first, Registry.open(other, owner=KEY.fingerprint()) as second:
        second.restore(list(first.copies()), highest={claim: 3}, traces={})
    command = ("--key", issued.folder / "OWNER.key", "--mark", issued.folder / "MARK", "--registry")
    endpoint, archive = f"file:{issued.archives[1]}", issued.archives[0]
    for url, suspect in ((issued.registry, archive), (other, endpoint), (issued.registry, endpoint), (other, archive)):
        code, _, err = run("trace", suspect, *command, url)
        assert code == 0, err
    with issued.open_registry() as first, Registry.open(other) as second:
        assert [each.number for each in first.traces()] == [1, 3]
        assert [each.number for each in second.traces()] == [2, 4]


def test_no_trace_raises_the_level_of_the_first_and_a_refused_one_spends_no_number(issued: CopyCase) -> None:
    assert trace(issued, f"file:{issued.archives[1]}")[0] == 0
    for suspect in (f"file:{issued.archives[0]}", issued.archives[0]):
        code, _, err = trace(issued, suspect, "--fwer", "1e-2")
        assert code == 2 and "the claim's first trace was registered at the level" in err
    with issued.open_registry() as registry:
        assert [each.number for each in registry.traces()] == [1]


def permuted(source: Path, out: Path) -> Path:
    """Shuffle symbols, cast, and rename everything: what a thief does to a table he does not dare to cut."""
    model = onnx.load(str(source))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    labels = next(tensor for name, tensor in constants.items() if name.endswith("labels"))
    book = next(tensor for name, tensor in constants.items() if name.endswith("codebook"))
    order = np.random.default_rng(0).permutation(labels.dims[0])
    table, words = numpy_helper.to_array(labels), numpy_helper.to_array(book)
    labels.CopyFrom(numpy_helper.from_array(table[order].astype(np.int32), "a"))
    book.CopyFrom(numpy_helper.from_array(words[:, order].astype(np.float32) * 3, "b"))
    onnx.save(model, str(out))
    return out


def test_a_permuted_renamed_and_cast_table_reads_the_same(issued: CopyCase, tmp_path: Path) -> None:
    altered = permuted(issued.archives[1] / "1" / "model.onnx", tmp_path / "altered.onnx")
    code, out, err = trace(issued, altered, "--json", "-")
    assert code == 0, err
    assert [each["copy"] for each in json.loads(out)["accused"]] == [2]


def test_averaged_tensors_leave_what_the_copies_share(issued: CopyCase, tmp_path: Path) -> None:
    models = [archive / "1" / "model.onnx" for archive in (issued.archives[0], issued.archives[2])]
    code, out, err = trace(issued, averaged_model(models, tmp_path / "mean.onnx"), "--json", "-", "--fwer", "1e-2")
    assert code in (0, 3), err
    value = json.loads(out)
    assert {each["copy"] for each in value["accused"]} <= {1, 3}
    assert value["readback"]["erased"] > 20  # where they differ, the mean is mostly neither label


def test_torchserve_archives_are_read_too(issued: CopyCase) -> None:
    assert issued.tables is not None
    with CopyPackager(issued.folder / "target.onnx", issued.options(format="torchserve")) as packager:
        archive = packager.pack(3, "small").path
    code, out, err = trace(issued, archive)
    assert code == 0, err
    assert "named      Gamma SA (copy 3)" in out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--fwer", "2"), "--fwer is 2"),
        (("--coalition", "99"), "--coalition is 99, expected 1 to 32"),
        (("--budget", "0"), "--budget is 0"),
        (("--report", "nowhere/x.html"), "cannot be written"),
    ],
)
def test_bad_options_are_one_clear_line(issued: CopyCase, more: tuple[str, ...], message: str) -> None:
    code, out, err = trace(issued, f"file:{issued.archives[0]}", *more)
    assert (code, out) == (2, "")
    assert message in err


def test_what_lies_nowhere_is_said(issued: CopyCase) -> None:
    code, _, err = trace(issued, issued.folder / "nothing.mar")
    assert code == 2
    assert "nothing.mar: no such file or folder" in err
    code, _, err = trace(issued, issued.archives[0], "--report", issued.folder / "x.html")
    assert code == 2
    assert "--report draws the answers of an endpoint" in err


def test_a_missing_an_empty_and_another_keys_registry_are_refused(issued: CopyCase) -> None:
    database = issued.folder / "copies.db"
    database.unlink()
    code, _, err = trace(issued, issued.archives[0])
    assert code == 2
    assert "no such registry" in err
    assert not database.exists(), "asking makes none"
    Registry.open(issued.registry, owner=KEY.fingerprint()).close()
    code, _, err = trace(issued, issued.archives[0])
    assert code == 2
    assert "the registry knows no copy of this claim" in err
    database.unlink()
    Registry.open(issued.registry, owner="ab" * 32).close()
    code, _, err = trace(issued, issued.archives[0])
    assert code == 2
    assert "belongs to the key abababab" in err


def test_an_endpoint_of_fewer_classes_is_refused(issued: CopyCase) -> None:
    spec = issued.folder / "FEWER.toml"
    spec.write_text((issued.folder / "SPEC.toml").read_text() + "classes = 4\n")
    code, _, err = trace(issued, f"file:{issued.archives[0]}", "--spec", spec)
    assert code == 2
    assert "tells 4 classes apart, a copy's labels are drawn from 10" in err


def test_a_plain_claim_cannot_be_traced(case: object, issued: CopyCase) -> None:
    plain = case.package(gate="off")
    code, _, err = trace(issued, issued.archives[0], "--claim", plain.claim)
    assert code == 2
    assert "is for one archive; copies have a claim of their own" in err


def test_a_coalition_beyond_the_code_is_warned_of(issued: CopyCase) -> None:
    _, _, err = trace(issued, f"file:{issued.archives[0]}", "--coalition", "8")
    assert "warning: 152 positions suffice for 1 colluder(s)" in err


def test_a_registry_gone_in_the_middle_loses_no_answer(issued: CopyCase, monkeypatch: pytest.MonkeyPatch) -> None:
    assert issued.tables is not None
    suspect, database = f"file:{issued.archives[0]}", issued.folder / "copies.db"
    shutil.copy(database, issued.folder / "backup.db")
    finish = Ledger.finish

    def and_lose_the_database(self: Ledger, *given: object, **facts: object) -> None:
        finish(self, *given, **facts)
        database.write_bytes(b"gone" * 1000)

    monkeypatch.setattr(Ledger, "finish", and_lose_the_database)
    code, out, err = trace(issued, suspect)
    assert (code, out) == (2, "")
    assert "copies.db: " in err
    monkeypatch.undo()
    shutil.copy(issued.folder / "backup.db", database)
    code, out, _ = trace(issued, suspect, "--json", "-")
    assert (code, json.loads(out)["accused"][0]["copy"]) == (0, 1)
    assert json.loads(out)["reused"] > 0

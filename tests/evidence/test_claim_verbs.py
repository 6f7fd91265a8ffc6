"""The whole chain from the command line: commit, stamp, package, bind, stamp, verify with evidence, check."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner, Result

from model_store_tools.cli.main import app
from ptynet_plugin.claims import read_claim
from ptynet_plugin.evidence import check_bundle as alone
from ptynet_plugin.keyfile import write_key
from ptynet_plugin.keys import OwnerKey
from tests.support.authority import Authority
from tests.support.beacons import serving_beacon
from tests.support.packaging_case import PackagingCase
from tests.support.quick_mark import KEY


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def done(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def key(tmp_path: Path) -> Path:
    write_key(tmp_path / "owner.key", KEY)
    return tmp_path / "owner.key"


@pytest.fixture
def committed(case: PackagingCase, key: Path) -> Path:
    terms = ("--target", case.target, "--spec", case.folder / "SPEC.toml", "--mark", case.folder / "MARK")
    printed = done("claim", "commit", "--key", key, *terms, "--out", case.folder / "CLAIM")
    assert printed.splitlines()[-1] == str(case.folder / "CLAIM")
    return case.folder / "CLAIM"


def package(case: PackagingCase, claim: Path) -> Path:
    flags = {"mark": case.folder / "MARK", "spec": case.folder / "SPEC.toml", "format": "triton", "out": case.out}
    options = [part for name, value in flags.items() for part in (f"--{name}", value)]
    return Path(
        done("package", case.target, *options, "--name", "small", "--gate", "digest", "--claim", claim).splitlines()[-1]
    )


def test_from_commitment_to_a_checked_bundle(
    case: PackagingCase, key: Path, committed: Path, authority: Authority
) -> None:
    trusted = ("--tsa", authority.url, "--tsa-ca", authority.root)
    assert "allowance 2^40" in done("claim", "stamp", committed, *trusted)
    archive = package(case, committed)
    bound = ("--key", key, "--mark", case.folder / "MARK", "--archive", archive)
    assert "bound to 1 archive" in done("claim", "bind", committed, *bound)
    assert "priority" in done("claim", "stamp", committed, *trusted)
    assert "stamped again" in done("claim", "stamp", committed, *trusted, "--renew")

    bundle = case.folder / "evidence"
    asked = ("--key", key, "--mark", case.folder / "MARK")  # the mark's only claim is the one that was given
    done("verify", f"file:{archive}", *asked, "--evidence", bundle)
    printed = done("claim", "check", bundle, "--tsa-ca", authority.root, "--archive", archive)
    assert "VALID: SHOWN" in printed
    assert "openssl ts -verify" in printed
    assert alone.check(bundle) == "shown"
    statement = (bundle / "transcript.jsonl").read_text().splitlines()[-1]
    assert json.loads(statement)["allowance"] == 40


def test_a_neutral_person_witnesses_the_reserve(
    case: PackagingCase, key: Path, authority: Authority, tmp_path: Path
) -> None:
    """Every verb of a witnessed run, in order, and what each refuses."""
    write_key(tmp_path / "witness.key", OwnerKey(bytes(range(100, 132))))
    public = done("claim", "witness-key", "--key", tmp_path / "witness.key").strip()
    claim = case.folder / "CLAIM"
    terms = ("--target", case.target, "--spec", case.folder / "SPEC.toml", "--mark", case.folder / "MARK")
    done("claim", "commit", "--key", key, *terms, "--reserve", "20", "--out", claim)
    trusted = ("--tsa", authority.url, "--tsa-ca", authority.root)
    with serving_beacon() as beacon:
        assert "allowance 2^20" in done("claim", "stamp", claim, *trusted, "--beacon", beacon)
        archive = package(case, claim)
        suspect, handover, bundle = f"file:{archive}", tmp_path / "HANDOVER", tmp_path / "bundle"
        done("claim", "handover", claim, suspect, "--key", key, "--witness", public, "--out", handover)
        again = run("claim", "handover", claim, suspect, "--key", key, "--witness", public, "--out", tmp_path / "again")
        assert (again.exit_code, "handed over once" in again.output) == (2, True)
        asking = ("--key", tmp_path / "witness.key", "--beacon", beacon, "--out", bundle, *trusted)
        other = run("claim", "witness", handover, f"file:{case.target}", *asking)
        assert (other.exit_code, "was handed over against" in other.output) == (2, True)
        stranger = run("claim", "witness", handover, suspect, "--key", key, *asking[2:])
        assert (stranger.exit_code, "handed over to the witness" in stranger.output) == (2, True)
        printed = done("claim", "witness", handover, suspect, *asking)
    assert "witnessed" in printed
    checked = done("claim", "check", bundle, "--tsa-ca", authority.root, "--witness", public)
    assert "VALID: SHOWN" in checked
    assert "within the level" in checked
    assert alone.check(bundle) == "shown"
    refused = run("claim", "check", bundle, "--witness", "00" * 32)
    assert (refused.exit_code, "not by the witness" in refused.output) == (1, True)


def test_a_run_is_stamped_before_and_after(
    case: PackagingCase, key: Path, committed: Path, authority: Authority
) -> None:
    trusted = ("--tsa", authority.url, "--tsa-ca", authority.root)
    done("claim", "stamp", committed, *trusted)
    archive, bundle = package(case, committed), case.folder / "evidence"
    asked = ("verify", f"file:{archive}", "--key", key, "--mark", case.folder / "MARK", "--claim", committed)
    alone_given = run(*asked, *trusted)
    assert (alone_given.exit_code, "give --evidence DIR as well" in alone_given.output) == (2, True)
    assert "grade      stamped" in done(*asked, "--evidence", bundle, *trusted)
    assert alone.check(bundle) == "shown"


def test_the_audit_cheats_in_vain(case: PackagingCase, key: Path, committed: Path) -> None:
    archive, bundle = package(case, committed), case.folder / "evidence"
    asked = ("--key", key, "--mark", case.folder / "MARK", "--claim", committed)
    done("verify", f"file:{archive}", *asked, "--evidence", bundle)
    suspect = ("--model", case.target, "--spec", case.folder / "SPEC.toml", "--keys", "20", "--probes", "4")
    printed = done("claim", "audit", "--bundle", bundle, "--key", key, *suspect)
    assert printed.count("refused: ") == 17
    assert "the null holds" in printed
    assert printed.splitlines()[-1] == "nothing got through"


def test_an_unstamped_claim_works_and_says_what_it_lacks(case: PackagingCase, key: Path, committed: Path) -> None:
    archive = package(case, committed)
    asked = ("--key", key, "--mark", case.folder / "MARK", "--claim", committed)
    done("verify", f"file:{archive}", *asked, "--evidence", case.folder / "evidence")
    assert "party evidence, unstamped" in done("claim", "check", case.folder / "evidence")


def test_a_claim_that_was_packaged_is_stamped_only_to_be_packaged_again(
    case: PackagingCase, key: Path, authority: Authority
) -> None:
    case.package()
    folder = case.folder / "MARK" / "claims" / "small"
    trusted = ("--tsa", authority.url, "--tsa-ca", authority.root)
    refused = run("claim", "stamp", folder, *trusted)
    assert (refused.exit_code, "packaged under this claim unstamped" in refused.output) == (2, True)
    done("claim", "stamp", folder, *trusted, "--force")
    again = case.package(claim=folder, force=True)
    asked = ("--key", key, "--mark", case.folder / "MARK", "--json", "-")
    assert json.loads(done("verify", f"file:{again.path}", *asked))["allowance_bits"] == 40


def test_a_broken_bundle_exits_1_and_names_the_link(case: PackagingCase, key: Path, committed: Path) -> None:
    archive, bundle = package(case, committed), case.folder / "evidence"
    asked = ("--key", key, "--mark", case.folder / "MARK", "--claim", committed)
    done("verify", f"file:{archive}", *asked, "--evidence", bundle)
    (bundle / "leaves.json").write_text("[]")
    result = run("claim", "check", bundle)
    assert result.exit_code == 1
    assert "leaves.json: not the signed bytes" in result.output


def test_committing_without_a_mark_takes_the_terms_it_would_be_trained_with(case: PackagingCase, key: Path) -> None:
    out = case.folder / "BARE"
    terms = ("--target", case.target, "--spec", case.folder / "SPEC.toml", "--symbols", "16", "--epoch", "3")
    done("claim", "commit", "--key", key, *terms, "--out", out)
    claim = read_claim(out)
    assert (claim.terms.symbols, claim.terms.epoch, claim.terms.spec.classes) == (16, 3, 10)
    assert claim.belongs_to(KEY.epoch_secret(3))


def test_a_binding_is_made_once(case: PackagingCase, key: Path, committed: Path) -> None:
    shared = ("--key", key, "--mark", case.folder / "MARK")
    archive, other = package(case, committed), case.package(name="other").path
    done("claim", "bind", committed, *shared, "--archive", archive)
    again = run("claim", "bind", committed, *shared, "--archive", other)
    assert (again.exit_code, "bound already to another mark or other archives" in again.output) == (2, True)


def test_a_claim_for_other_probes_than_the_marks_is_refused(case: PackagingCase, key: Path) -> None:
    out = case.folder / "BARE"
    done(
        "claim",
        "commit",
        "--key",
        key,
        "--target",
        case.target,
        "--spec",
        case.folder / "SPEC.toml",
        "--symbols",
        "16",
        "--out",
        out,
    )
    flags = (
        "--mark",
        case.folder / "MARK",
        "--spec",
        case.folder / "SPEC.toml",
        "--format",
        "triton",
        "--out",
        case.out,
    )
    result = run("package", case.target, *flags, "--claim", out)
    assert (result.exit_code, "commit with --mark" in result.output) == (2, True)


def test_an_archive_of_another_target_cannot_be_bound(case: PackagingCase, key: Path, committed: Path) -> None:
    model = onnx.load(case.target)
    weights = model.graph.initializer[0]
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * 2, weights.name))
    onnx.save(model, case.folder / "other.onnx")
    archive = case.package(case.folder / "other.onnx", name="other").path
    result = run("claim", "bind", committed, "--key", key, "--mark", case.folder / "MARK", "--archive", archive)
    assert (result.exit_code, "the claim is of" in result.output) == (2, True)


def test_another_key_can_neither_bind_nor_prove(case: PackagingCase, committed: Path, tmp_path: Path) -> None:
    write_key(tmp_path / "other.key", OwnerKey(bytes(32)))
    archive = package(case, committed)
    shared = ("--key", tmp_path / "other.key", "--mark", case.folder / "MARK")
    refused = run("claim", "bind", committed, *shared, "--archive", archive)
    assert (refused.exit_code, "this key did not make the claim" in refused.output) == (2, True)
    unproven = run("verify", f"file:{archive}", *shared, "--claim", committed, "--evidence", case.folder / "evidence")
    assert (unproven.exit_code, "nothing it could prove" in unproven.output) == (2, True)


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        (("stamp", "nowhere", "--tsa", "http://127.0.0.1:9/"), "no such claim folder"),
        (("check", "nowhere"), "no such folder"),
    ],
)
def test_missing_folders_are_named(verb: tuple[str, ...], message: str) -> None:
    result = run("claim", *verb)
    assert result.exit_code in (1, 2)
    assert message in result.output


def test_there_is_nothing_to_renew_before_the_first_stamp(committed: Path) -> None:
    result = run("claim", "stamp", committed, "--tsa", "http://127.0.0.1:9/", "--renew")
    assert (result.exit_code, "nothing to renew" in result.output) == (2, True)


@pytest.mark.parametrize("verb", [("check",), ("audit", "--bundle")])
def test_a_bundle_that_is_not_there_could_not_be_checked(tmp_path: Path, verb: tuple[str, ...]) -> None:
    result = run("claim", *verb, tmp_path / "absent")
    assert result.exit_code == 2
    assert "absent: no such folder; a bundle is the folder that `ptynet verify --evidence` wrote" in result.output

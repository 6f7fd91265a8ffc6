"""A claim's folder is written whole or not at all, and nothing in it is believed unread."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptynet_plugin.claims import Beacon, Claim, Ledger, Seal, find_claim, read_claim, write_claim
from ptynet_plugin.errors import ClaimError
from tests.support.small_claims import SECRET, make_claim

FILES = ("commitment.json", "claim.json", "leaves.json")


@pytest.fixture
def folder(tmp_path: Path, claim: Claim) -> Path:
    write_claim(tmp_path / "claims" / "resnet18", claim)
    return tmp_path / "claims" / "resnet18"


def test_a_claim_reads_back_as_it_was_written(folder: Path, claim: Claim) -> None:
    assert read_claim(folder) == claim
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert (folder / "commitment.json").read_bytes() == claim.commitment


@pytest.mark.parametrize(
    "beacon",
    [
        None,
        Beacon("https://beacon.example", 7, b"\x05" * 32),
        Beacon("https://beacon.example", 7, b"\x05" * 32, b"\6" * 96, 1_600_000_000, 30),
    ],
)
def test_the_seal_reads_back(tmp_path: Path, claim: Claim, beacon: Beacon | None) -> None:
    stamped = claim.sealed(Seal(b"signature", beacon))
    write_claim(tmp_path / "stamped", stamped)
    assert read_claim(tmp_path / "stamped").seal == stamped.seal
    assert read_claim(tmp_path / "stamped").labels(SECRET).tolist() == stamped.labels(SECRET).tolist()


def test_the_secret_files_are_for_their_owner_alone(folder: Path) -> None:
    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())


def test_writing_the_same_claim_again_keeps_its_ledger(folder: Path, claim: Claim) -> None:
    with Ledger(folder, digest=claim.digest) as ledger:
        ledger.register("somewhere", alpha=1e-9, budget=10, started="now")
    before = (folder / "ledger.jsonl").read_bytes()
    write_claim(folder, claim)
    write_claim(folder, claim, replace=True)
    assert (folder / "ledger.jsonl").read_bytes() == before


def test_another_claim_under_the_same_name_is_refused_and_replaced_only_knowingly(folder: Path, claim: Claim) -> None:
    other = make_claim(tau=0.8)
    with pytest.raises(ClaimError, match=r"holds another claim .*--force"):
        write_claim(folder, other)
    assert read_claim(folder) == claim
    write_claim(folder, other, replace=True)
    assert read_claim(folder) == other
    assert [path.name for path in (folder.parent / ".retired").iterdir()] == [f"resnet18-{claim.salt.hex()[:16]}"]


def test_the_same_claim_with_a_stamp_replaces_the_unstamped_one_only_knowingly(folder: Path, claim: Claim) -> None:
    stamped = claim.sealed(Seal(b"signature"))
    with pytest.raises(ClaimError, match="holds the same claim with no stamp"):
        write_claim(folder, stamped)
    write_claim(folder, stamped, replace=True)
    assert read_claim(folder) == stamped
    write_claim(folder, claim, replace=True)
    assert read_claim(folder) == claim
    assert len(list((folder.parent / ".retired").iterdir())) == 1


def test_a_claim_that_comes_back_brings_its_ledger(folder: Path, claim: Claim) -> None:
    with Ledger(folder, digest=claim.digest) as ledger:
        run = ledger.register("somewhere", alpha=1e-9, budget=10, started="now")
        ledger.ask(run, 3)
    write_claim(folder, make_claim(tau=0.8), replace=True)
    write_claim(folder, claim, replace=True)
    with Ledger(folder, digest=claim.digest) as ledger:
        assert ledger.register("somewhere", alpha=1e-9, budget=10, started="now").spent == {3}


def test_the_only_claim_of_a_mark_is_found(tmp_path: Path, folder: Path) -> None:
    assert find_claim(tmp_path) == folder
    assert find_claim(tmp_path, Path("elsewhere")) == Path("elsewhere")
    write_claim(folder, make_claim(tau=0.8), replace=True)
    assert find_claim(tmp_path) == folder
    write_claim(folder.parent / "vgg", make_claim())
    with pytest.raises(ClaimError, match=r"2 claims \(resnet18, vgg\); say which with --claim"):
        find_claim(tmp_path)
    with pytest.raises(ClaimError, match="2 claims"):
        find_claim(tmp_path, copies=True)  # none is for copies: what there is is named
    with pytest.raises(ClaimError, match="holds no claim"):
        find_claim(tmp_path / "elsewhere")


def test_a_second_name_of_a_claim_is_no_second_claim(tmp_path: Path, folder: Path) -> None:
    (folder.parent / "another").symlink_to(folder.name, target_is_directory=True)
    assert find_claim(tmp_path).resolve() == folder.resolve()
    write_claim(tmp_path / "elsewhere", make_claim(tau=0.8))
    (folder.parent / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(ClaimError, match="holds 2 claims"):
        find_claim(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_missing_files_are_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ClaimError, match=rf"{name}: missing"):
        read_claim(folder)


@pytest.mark.parametrize("name", FILES)
def test_links_and_folders_in_place_of_files_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(ClaimError, match="links are not followed"):
        read_claim(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(ClaimError, match=name):
        read_claim(folder)


def test_a_pipe_in_place_of_a_file_does_not_hang_the_reader(folder: Path) -> None:
    (folder / "claim.json").unlink()
    os.mkfifo(folder / "claim.json")
    with pytest.raises(ClaimError, match="no regular file"):
        read_claim(folder)


def test_a_file_without_end_is_refused(folder: Path) -> None:
    os.truncate(folder / "leaves.json", 1 << 40)
    with pytest.raises(ClaimError, match="larger than"):
        read_claim(folder)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), at=st.integers(0, 10_000), change=st.integers(1, 255))
def test_flipping_any_byte_is_noticed(folder: Path, name: str, at: int, change: int) -> None:
    """Refused, or (a space for white space inside JSON, say) read as the very same claim."""
    path = folder / name
    whole = path.read_bytes()
    broken = bytearray(whole)
    broken[at % len(broken)] ^= change
    path.write_bytes(broken)
    try:
        assert read_claim(folder) == make_claim()
    except ClaimError as error:
        assert str(folder) in str(error)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda file: file["fields"]["tau"].update(value="0.5"), "does not open commitment.json"),
        (lambda file: file["fields"]["tau"].update(nonce="00" * 32), "does not open commitment.json"),
        (lambda file: file["fields"].pop("tau"), "tau: Field required"),
        (lambda file: file["fields"].update(extra=file["fields"]["tau"]), "extra: "),
        (lambda file: file.update(schema="ptynet-claim/v2"), "schema: "),
        (lambda file: file["fields"]["symbols"].update(value=10**9), "symbols: "),
        (lambda file: file["fields"]["size"].update(value=[1, 10**6]), "1x1000000 pixels"),
        (lambda file: file["fields"]["root"].update(value="zz"), "root: "),
        (lambda file: file.update(seal={"signature": "xy", "beacon": None}), "signature"),
        (lambda file: file.pop("seal"), "seal"),
    ],
    ids=["value", "nonce", "missing", "unknown", "schema", "symbols", "size", "root", "seal", "no seal"],
)
def test_edited_claims_are_refused_by_name(folder: Path, edit: object, message: str) -> None:
    file = json.loads((folder / "claim.json").read_text())
    edit(file)
    (folder / "claim.json").write_text(json.dumps(file))
    with pytest.raises(ClaimError, match=message):
        read_claim(folder)


@pytest.mark.parametrize("leaf", ["", "ab", "zz" * 32, "AB" * 32, "ab" * 33])
def test_malformed_leaves_are_refused(folder: Path, leaf: str) -> None:
    file = json.loads((folder / "leaves.json").read_text())
    file["leaves"][2] = leaf
    (folder / "leaves.json").write_text(json.dumps(file))
    with pytest.raises(ClaimError, match=r"leaves\.json: .* is no leaf"):
        read_claim(folder)


@pytest.mark.parametrize("name", ["..", ".hidden", "a b", "a\nb", "x" * 200, ""])
def test_names_that_are_no_names_are_refused(tmp_path: Path, claim: Claim, name: str) -> None:
    with pytest.raises(ClaimError, match="cannot name a claim"):
        write_claim(Path(f"{tmp_path}/{name}/..") if not name else tmp_path / name, claim)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_behind_where_writing_fails(
    tmp_path: Path, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ClaimError, match="No space left"):
        write_claim(tmp_path / "resnet18", claim)
    assert list(tmp_path.iterdir()) == []


def let_another_be_faster(monkeypatch: pytest.MonkeyPatch, step: str, folder: Path, other: Claim) -> None:
    """At this step of the first writing, another process's claim appears at `folder`."""
    real, waiting = getattr(os, step), [True]

    def stepped(*arguments: object, **options: object) -> object:
        if waiting and waiting.pop():
            write_claim(folder.with_name("theirs"), other)
            os.replace(folder.with_name("theirs"), folder)  # noqa: PTH105 -- Path.rename is what is being watched
        return real(*arguments, **options)

    monkeypatch.setattr(os, step, stepped)


@pytest.mark.parametrize("step", ["fsync", "rename"], ids=["before the last look", "after it"])
def test_two_processes_may_write_one_claim_at_once(
    tmp_path: Path, claim: Claim, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    folder = tmp_path / "claims" / "resnet18"
    let_another_be_faster(monkeypatch, step, folder, claim)
    write_claim(folder, claim)
    assert read_claim(folder) == claim
    assert [path.name for path in folder.parent.iterdir()] == ["resnet18"]


@pytest.mark.parametrize("step", ["fsync", "rename"], ids=["before the last look", "after it"])
def test_another_claim_that_appears_meanwhile_is_not_written_over(
    tmp_path: Path, claim: Claim, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    folder, other = tmp_path / "claims" / "resnet18", make_claim(tau=0.8)
    let_another_be_faster(monkeypatch, step, folder, other)
    with pytest.raises(ClaimError, match="holds another claim"):
        write_claim(folder, claim)
    assert read_claim(folder) == other
    assert [path.name for path in folder.parent.iterdir()] == ["resnet18"]

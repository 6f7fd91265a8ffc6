"""Grades of evidence: stamped runs, witnessed runs, and every way of claiming a better grade than the run has."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ptynet_plugin.claims import Ledger, read_claim, write_claim
from ptynet_plugin.claims.canonical import canonical_json
from ptynet_plugin.claims.signing import signer
from ptynet_plugin.errors import ClaimError, IntegrityError, UsageError
from ptynet_plugin.evidence import check_bundle as alone
from ptynet_plugin.evidence.checking import check_bundle
from ptynet_plugin.evidence.handover import HandedQuestions, hand_over, read_handover, witness_opens, witness_signs
from ptynet_plugin.evidence.opening import owner_opens
from ptynet_plugin.evidence.sealing import seal
from ptynet_plugin.evidence.tampering import edit_transcript, sign_again
from ptynet_plugin.evidence.timestamps import Authority as Tsa
from ptynet_plugin.evidence.writer import BundleWriter
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.verification.questions import Questions
from tests.support.authority import Authority
from tests.support.beacons import beacon_file, serving_beacon
from tests.support.bundles import SECRET, Suspect, ask, make_bundle, make_questions

WITNESS = OwnerKey(bytes(range(32, 64)))
WITNESS_SECRET = witness_signs(WITNESS)
WITNESS_KEY = signer(WITNESS_SECRET)
ENDPOINT = "fake://suspect/model"
SYMBOLS, RESERVE = 54, 28
NOW = "2026-01-01T00:00:00+00:00"


def both_refuse(bundle: Path, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        check_bundle(bundle)
    with pytest.raises(alone.Broken, match=message):
        alone.check(bundle)


@dataclass(frozen=True)
class Stage:
    """A stamped claim, a stamped bundle of its owner, the hand-over and the witness's bundle."""

    claim: Path
    stamped: Path
    handover: Path
    witnessed: Path
    tsa: Tsa


def stamped_claim(folder: Path, authority: Authority) -> Questions:
    write_claim(folder, make_questions(symbols=SYMBOLS, reserve=RESERVE).claim)
    seal(folder, authority.stamp(read_claim(folder).commitment), roots=authority.root.read_bytes())
    return make_questions(claim_folder=folder)


def give(folder: Path, claim: Path, questions: Questions, **changes: Any) -> None:
    terms: dict[str, Any] = {"witness": WITNESS_KEY, "endpoint": ENDPOINT, "alpha": 1e-9, "made": NOW} | changes
    with Ledger(claim, digest=questions.claim.digest) as ledger:
        hand_over(folder, claim, questions, secret=SECRET, ledger=ledger, **terms)


def witness(folder: Path, handover: Path, **frame: Any) -> None:
    """Ask as `ptynet claim witness` does."""
    handed = read_handover(handover)
    questions = HandedQuestions(handed)
    writer = BundleWriter(folder, questions, witness_opens(handed, WITNESS), **frame)
    terms = handed.claim.terms
    suspect = Suspect(questions, symbols=range(terms.symbols - terms.reserve, terms.symbols))
    with Ledger(handover, digest=handed.claim.digest, first=handed.number) as ledger:
        ask(writer, suspect, ledger, alpha=handed.alpha)


@pytest.fixture(scope="module")
def beacon() -> Iterator[str]:
    with serving_beacon() as url:
        yield url


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, authority: Authority, beacon: str) -> Stage:
    folder = tmp_path_factory.mktemp("grades")
    made = Stage(*(folder / name for name in ("claim", "stamped", "handover", "witnessed")), tsa=tsa_of(authority))
    questions = stamped_claim(made.claim, authority)
    assert make_bundle(made.stamped, made.claim, questions, authority=made.tsa, beacon=beacon) == "shown"
    give(made.handover, made.claim, questions)
    witness(made.witnessed, made.handover, authority=made.tsa, beacon=beacon)
    return made


def tsa_of(authority: Authority) -> Tsa:
    return Tsa(authority.url, authority.root.read_bytes())


@pytest.fixture
def stamped(stage: Stage, tmp_path: Path) -> Path:
    shutil.copytree(stage.stamped, tmp_path / "stamped")
    return tmp_path / "stamped"


@pytest.fixture
def witnessed(stage: Stage, tmp_path: Path) -> Path:
    shutil.copytree(stage.witnessed, tmp_path / "witnessed")
    return tmp_path / "witnessed"


def test_a_run_between_two_stamps_is_stamped(stage: Stage) -> None:
    checked = check_bundle(stage.stamped)
    assert (checked.grade, checked.verdict, checked.witness) == ("stamped", "shown", None)
    assert alone.check(stage.stamped) == "shown"
    assert list(checked.stamps) == ["stamp.tsr", "before.tsr", "after.tsr"]
    assert checked.stamps["before.tsr"] <= checked.stamps["after.tsr"]
    assert sum("openssl ts -verify" in note for note in checked.notes) == 3


def test_a_neutral_person_who_asks_the_reserve_in_beacon_order_is_a_witness(stage: Stage) -> None:
    checked = check_bundle(stage.witnessed)
    assert (checked.grade, checked.verdict, checked.witness) == ("witnessed", "shown", WITNESS_KEY)
    assert alone.check(stage.witnessed) == "shown"
    assert checked.null_rate == 0.1
    assert any(WITNESS_KEY in note for note in checked.notes)
    lines = [json.loads(line) for line in (stage.witnessed / "transcript.jsonl").read_bytes().splitlines()]
    assert lines[0]["number"] == 2  # the owner's own run was test 1 of the claim
    assert {line["symbol"] for line in lines if line["entry"] == "question"} <= set(range(SYMBOLS - RESERVE, SYMBOLS))


def test_the_hand_over_holds_no_key_and_nothing_outside_the_reserve(stage: Stage) -> None:
    octets = b"".join(path.read_bytes() for path in sorted(stage.handover.rglob("*")) if path.is_file())
    nonces = read_claim(stage.claim).nonces(SECRET)
    for symbol, nonce in enumerate(nonces):
        assert (nonce.hex().encode() in octets) == (symbol >= SYMBOLS - RESERVE)
    for secret in (SECRET, WITNESS.secret):
        assert secret not in octets
        assert secret.hex().encode() not in octets
    pictures = {path.name.split("-")[0] for path in (stage.handover / "pictures").iterdir()}
    assert pictures == {str(symbol) for symbol in range(SYMBOLS - RESERVE, SYMBOLS)}


def test_a_reserve_is_handed_over_once_and_never_asked_by_its_owner(stage: Stage, tmp_path: Path) -> None:
    questions = make_questions(claim_folder=stage.claim)
    claim = tmp_path / "claim"
    shutil.copytree(stage.claim, claim)
    with pytest.raises(ClaimError, match="is spent already: a reserve is handed over once"):
        give(tmp_path / "second", claim, questions)
    assert not (tmp_path / "second").exists()
    with Ledger(claim, digest=questions.claim.digest) as ledger:
        run = ledger.register("elsewhere", alpha=1e-9, budget=1, started=NOW)
        with pytest.raises(ClaimError, match="was opened in evidence"):
            ledger.ask(run, SYMBOLS - 1)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"witness": "zz"}, UsageError, "expected the public key of a neutral person"),
        ({"witness": signer(SECRET)}, UsageError, "the claimant's own will not do"),
    ],
)
def test_a_hand_over_goes_to_a_neutral_person(
    tmp_path: Path, authority: Authority, changes: dict[str, str], error: type[Exception], message: str
) -> None:
    questions = stamped_claim(tmp_path / "claim", authority)
    with pytest.raises(error, match=message):
        give(tmp_path / "handover", tmp_path / "claim", questions, **changes)
    assert not (tmp_path / "handover").exists()


def test_an_unstamped_claim_caps_the_grade(tmp_path: Path, authority: Authority) -> None:
    questions = make_questions(symbols=16)
    write_claim(tmp_path / "claim", questions.claim)
    with pytest.raises(ClaimError, match="unstamped, and what rests on it is party evidence whoever asks"):
        give(tmp_path / "handover", tmp_path / "claim", questions)
    opener = owner_opens(questions.claim, tmp_path / "claim", secret=SECRET)
    with pytest.raises(UsageError, match="the claim itself is unstamped"):
        BundleWriter(tmp_path / "bundle", questions, opener, authority=tsa_of(authority))


def test_another_witness_cannot_use_it(stage: Stage) -> None:
    with pytest.raises(UsageError, match="handed over to the witness"):
        witness_opens(read_handover(stage.handover), OwnerKey(bytes(32)))


def swap_a_picture(folder: Path) -> None:
    path = folder / "pictures" / f"{SYMBOLS - 1}-0"
    path.write_bytes(bytes(path.stat().st_size))


def drop_a_symbol(folder: Path) -> None:
    path = folder / "reserve.json"
    path.write_bytes(canonical_json(json.loads(path.read_bytes())[1:]))


@pytest.mark.parametrize("sign", [False, True], ids=["unsigned", "signed again"])
@pytest.mark.parametrize("change", [swap_a_picture, drop_a_symbol])
def test_a_hand_over_in_which_the_owner_chose_is_refused(
    stage: Stage, tmp_path: Path, change: Callable[[Path], None], sign: bool
) -> None:
    folder = tmp_path / "handover"
    shutil.copytree(stage.handover, folder, ignore=shutil.ignore_patterns("ledger.jsonl", "runs"))
    change(folder)
    if sign:
        sign_again(folder, secret=SECRET, envelope="handover.json")
    message = "not the committed ones|nothing may be chosen" if sign else "not the bytes that the owner signed"
    with pytest.raises(IntegrityError, match=message):
        read_handover(folder)


GRADES = ["party evidence", "party evidence, unstamped", "stamped", "witnessed"]


@pytest.mark.parametrize("grade", GRADES)
def test_no_bundle_takes_another_grade_than_its_own(stamped: Path, witnessed: Path, grade: str) -> None:
    for bundle, secret, own in ((stamped, SECRET, "stamped"), (witnessed, WITNESS_SECRET, "witnessed")):
        if grade == own:
            continue
        sign_again(bundle, lambda content: content["predicate"].update(grade=grade), secret=secret)
        both_refuse(bundle, "calls itself")


def without(bundle: Path, *names: str) -> None:
    for name in names:
        (bundle / name).unlink()
    sign_again(bundle, secret=SECRET)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("before.tsr",), "before.tsr: without its counterpart"),
        (("after.tsr",), "before.tsr: without its counterpart"),
        (("before.tsr", "after.tsr"), "calls itself"),
        (("run.json",), "run.json: not the header"),
        (("stamp.tsr",), r"stamp.tsr: the seal and the stamp do not belong together"),
    ],
)
def test_a_stamped_run_without_its_stamps_is_refused(stamped: Path, names: tuple[str, ...], message: str) -> None:
    without(stamped, *names)
    both_refuse(stamped, message)


def restamp(bundle: Path, authority: Authority, *names: str) -> None:
    for name in names:
        message = {"before.tsr": "run.json", "after.tsr": "transcript.jsonl"}[name]
        (bundle / name).write_bytes(authority.stamp((bundle / message).read_bytes()))
    sign_again(bundle, secret=SECRET)


def test_a_header_chosen_after_its_stamp_is_refused(stamped: Path) -> None:
    edit_transcript(stamped, lambda lines: lines[0].update(run="00" * 16), secret=SECRET)
    both_refuse(stamped, r"before\.tsr: (the time stamp does not verify|stamps something else than run\.json)")


def test_a_transcript_edited_after_its_stamp_is_refused(stamped: Path) -> None:
    edit_transcript(stamped, lambda lines: lines[3].update(seconds="1.0"), secret=SECRET)
    both_refuse(stamped, r"after\.tsr: (the time stamp does not verify|stamps something else than transcript\.jsonl)")


def test_a_run_written_down_before_its_header_was_stamped_is_refused(stamped: Path, authority: Authority) -> None:
    """He asked first, kept what he liked, and had the stamps made afterwards."""
    edit_transcript(stamped, lambda lines: lines[2].update(at="2026-01-01T00:00:00+00:00"), secret=SECRET)
    restamp(stamped, authority, "before.tsr", "after.tsr")
    both_refuse(stamped, "asked before its header was stamped|beacon round")


def test_a_beacon_round_from_before_the_header_is_refused(stamped: Path, authority: Authority) -> None:
    def earlier(lines: list[dict[str, Any]]) -> None:
        lines[1].update(round=1)

    edit_transcript(stamped, earlier, secret=SECRET)
    restamp(stamped, authority, "after.tsr")
    both_refuse(stamped, "a beacon round")


def test_a_beacon_value_of_ones_own_is_refused(stamped: Path, authority: Authority) -> None:
    edit_transcript(stamped, lambda lines: lines[1].update(value="00" * 32), secret=SECRET)
    restamp(stamped, authority, "after.tsr")
    both_refuse(stamped, "round")
    edit_transcript(stamped, lambda lines: lines[1].update(value="00" * 32, signature=""), secret=SECRET)
    restamp(stamped, authority, "after.tsr")
    both_refuse(stamped, "one was dropped or chosen")


witness_edits = partial(edit_transcript, secret=WITNESS_SECRET)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[0].update(number=1), "before.tsr|handover.json"),
        (lambda lines: lines[0].update(endpoint="fake://another/model"), "before.tsr|handover.json"),
        (lambda lines: lines.pop(3), "after.tsr|one was dropped or chosen"),
        (lambda lines: lines.pop(1), "after.tsr|handover.json"),
    ],
    ids=["another test", "another endpoint", "a miss dropped", "no beacon"],
)
@pytest.mark.parametrize("framed", [True, False], ids=["stamped", "unstamped"])
def test_a_witness_who_cheats_is_refused(
    witnessed: Path, change: Callable[[list[dict[str, Any]]], object], message: str, framed: bool
) -> None:
    if not framed:
        for name in ("before.tsr", "after.tsr", "run-tsa.pem"):
            (witnessed / name).unlink()
        message = message.partition("|")[2]
    witness_edits(witnessed, change)
    both_refuse(witnessed, message)


def test_an_owner_who_signs_as_his_own_witness_is_refused(witnessed: Path) -> None:
    sign_again(witnessed, secret=SECRET)
    both_refuse(witnessed, "signed by another than the witness")


def test_a_stranger_with_a_hand_over_of_his_own_is_refused(witnessed: Path) -> None:
    sign_again(witnessed, secret=WITNESS_SECRET, envelope="handover.json")
    sign_again(witnessed, secret=WITNESS_SECRET)
    both_refuse(witnessed, "another man's reserve")


@pytest.mark.parametrize(
    ("minutes", "message"), [(-60, None), (60, "handover.json: (made after|was made for another) .*run")]
)
def test_a_hand_over_of_after_the_run_is_refused(witnessed: Path, minutes: int, message: str | None) -> None:
    started = json.loads((witnessed / "run.json").read_bytes())["started"]
    made = (datetime.fromisoformat(started) + timedelta(minutes=minutes)).isoformat(timespec="milliseconds")
    sign_again(witnessed, lambda told: told["predicate"].update(made=made), secret=SECRET, envelope="handover.json")
    sign_again(witnessed, secret=WITNESS_SECRET)
    if message is None:
        assert check_bundle(witnessed).verdict == alone.check(witnessed) == "shown"
    else:
        both_refuse(witnessed, message)


def test_a_witness_cannot_sign_a_party_run(witnessed: Path) -> None:
    (witnessed / "handover.json").unlink()
    sign_again(witnessed, secret=WITNESS_SECRET)
    both_refuse(witnessed, "another man's bundle")


def test_a_hand_over_cannot_be_passed_off_as_a_bundle(stage: Stage, tmp_path: Path) -> None:
    shutil.copytree(stage.handover, tmp_path / "bundle", ignore=shutil.ignore_patterns("ledger.jsonl", "runs"))
    (tmp_path / "bundle" / "handover.json").rename(tmp_path / "bundle" / "envelope.json")
    both_refuse(tmp_path / "bundle", "a statement of another kind")


def test_a_party_run_over_the_reserve_is_refused(witnessed: Path) -> None:
    """The owner answers for the reserve himself: without its hand-over nobody may open it."""
    (witnessed / "handover.json").unlink()
    sign_again(witnessed, secret=SECRET)
    both_refuse(witnessed, "calls itself 'witnessed'|calls itself another grade")
    for name in ("before.tsr", "after.tsr", "run-tsa.pem"):
        (witnessed / name).unlink()
    edit_transcript(witnessed, lambda lines: lines[-1].update(grade="party evidence"), secret=SECRET)
    sign_again(witnessed, lambda content: content["predicate"].update(grade="party evidence"), secret=SECRET)
    both_refuse(witnessed, "one was dropped or chosen")


def test_a_beacon_from_a_file_draws_an_order_too(tmp_path: Path, authority: Authority) -> None:
    questions = stamped_claim(tmp_path / "claim", authority)
    file = beacon_file(tmp_path / "round.json", datetime.now(UTC), period=300)
    make_bundle(tmp_path / "bundle", tmp_path / "claim", questions, beacon=str(file), budget=3)
    assert check_bundle(tmp_path / "bundle").grade == "party evidence"
    assert alone.check(tmp_path / "bundle") == check_bundle(tmp_path / "bundle").verdict


def test_every_file_of_a_witnessed_bundle_is_signed(witnessed: Path) -> None:
    for path in sorted(path for path in witnessed.iterdir() if path.is_file()):
        whole = path.read_bytes()
        place = int(hashlib.sha256(path.name.encode()).hexdigest(), 16) % len(whole)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        both_refuse(witnessed, ".")
        path.write_bytes(whole)

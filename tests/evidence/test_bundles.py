"""Evidence bundles: both checkers reach the verdict of every valid one and refuse every tampered one, by name."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ptynet_plugin.claims import Ledger, read_claim, write_claim
from ptynet_plugin.claims.canonical import canonical_json
from ptynet_plugin.claims.commitment import Opening, field_digest
from ptynet_plugin.claims.terms import CopyTerms
from ptynet_plugin.errors import ClaimError, IntegrityError, UsageError
from ptynet_plugin.evidence import check_bundle as alone
from ptynet_plugin.evidence.checking import check_bundle
from ptynet_plugin.evidence.opening import owner_opens
from ptynet_plugin.evidence.sealing import bind, seal, stamp_binding
from ptynet_plugin.evidence.tampering import ATTEMPTS, tamper
from ptynet_plugin.evidence.tampering import edit_transcript as edit
from ptynet_plugin.evidence.tampering import sign_again as sign
from ptynet_plugin.evidence.writer import BundleWriter
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.statistics.class_map import ClassMap
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.runner import run_protocol
from tests.support.authority import Authority
from tests.support.bundles import KEY, SECRET, SPEC, Suspect, make_bundle, make_questions

CHECKER = Path(alone.__file__)


edit_transcript, sign_again = partial(edit, secret=SECRET), partial(sign, secret=SECRET)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shown")
    assert make_bundle(folder / "bundle", folder / "claim", make_questions()) == "shown"
    return folder / "bundle"


@pytest.fixture
def bundle(shown: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    shutil.copytree(shown, tmp_path / "bundle")
    return tmp_path / "bundle"


def both_refuse(bundle: Path, message: str) -> None:
    """Both checkers name the same broken link."""
    with pytest.raises(IntegrityError, match=message):
        check_bundle(bundle)
    with pytest.raises(alone.Broken, match=message):
        alone.check(bundle)


def run_alone(bundle: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the stand-alone checker from an empty folder, without site packages."""
    shutil.copy(CHECKER, folder / "check_bundle.py")
    command = [sys.executable, "-I", "-S", "check_bundle.py", str(bundle)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("form", "covers"), [("tensor", 1), ("tensor", 3), ("json", 1), ("png", 1), ("base64", 1), ("jpeg", 1)]
)
def test_both_checkers_agree_on_what_was_shown(tmp_path: Path, form: str, covers: int) -> None:
    verdict = make_bundle(
        tmp_path / "bundle", tmp_path / "claim", make_questions(covers=covers, symbols=36), form=form, budget=90
    )
    checked = check_bundle(tmp_path / "bundle")
    assert verdict == checked.verdict == alone.check(tmp_path / "bundle") == "shown"
    assert (checked.symbols, checked.hits) == (29, 29)
    assert any("JPEG" in note for note in checked.notes) == (form == "jpeg")


@pytest.mark.parametrize(
    "spec",
    [
        SPEC.model_copy(update={"layout": "NHWC", "color": "BGR"}),
        SPEC.model_copy(update={"dtype": "float16"}),
        InputSpec(color="RGB", output="logits", classes=10, size=(16, 16), dtype="uint8"),
        InputSpec(color="RGB", output="logits", classes=10, size=(0, 0), dtype="float64", scale=0.5),
    ],
    ids=["nhwc bgr", "float16", "uint8", "dynamic float64"],
)
def test_requests_are_compared_in_every_form_of_tensor(tmp_path: Path, spec: InputSpec) -> None:
    make_bundle(tmp_path / "bundle", tmp_path / "claim", make_questions(spec=spec, symbols=16), budget=12)
    checked = check_bundle(tmp_path / "bundle")
    assert checked.decision.raw == "shown"
    assert checked.verdict == alone.check(tmp_path / "bundle") == "inconclusive"


@pytest.mark.parametrize(
    ("marked", "budget", "verdict", "code"), [(False, 40, "not-shown", 1), (True, 9, "inconclusive", 3)]
)
def test_both_checkers_agree_on_what_was_not_shown(
    tmp_path: Path, marked: bool, budget: int, verdict: str, code: int
) -> None:
    questions = make_questions()
    bundle, claim = tmp_path / "bundle", tmp_path / "claim"
    found = make_bundle(bundle, claim, questions, faithful=lambda symbol: marked, budget=budget)
    assert found == check_bundle(tmp_path / "bundle").verdict == alone.check(tmp_path / "bundle") == verdict
    (tmp_path / "empty").mkdir()
    assert run_alone(tmp_path / "bundle", tmp_path / "empty").returncode == code


@pytest.mark.parametrize(
    ("classes", "rate", "asked"), [(10, 0.2, range(56)), (9, 1 / 9, range(60, 96)), (1000, 0.002, range(56))]
)
def test_claims_for_copies_show_ownership_by_pairs_or_by_single_labels(
    tmp_path: Path, classes: int, rate: float, asked: range
) -> None:
    spec = SPEC.model_copy(update={"classes": classes, "size": (8, 8)})
    copies = CopyTerms(positions=56, quick=4, coalition=2)
    questions = make_questions(spec=spec, symbols=100, reserve=4, copies=copies)
    verdict = make_bundle(tmp_path / "bundle", tmp_path / "claim", questions, budget=60)
    checked = check_bundle(tmp_path / "bundle")
    assert verdict == checked.verdict == alone.check(tmp_path / "bundle") == "shown"
    assert checked.null_rate == pytest.approx(rate)
    opened = {entry["symbol"] for entry in json.loads((tmp_path / "bundle" / "leaves.json").read_bytes())}
    assert opened <= set(asked)


def test_a_claim_for_copies_cannot_be_shown_as_a_plain_one(tmp_path: Path) -> None:
    """Left closed, the copies' terms would let the claimant choose between two tests."""
    copies = CopyTerms(positions=48, quick=4, coalition=2)
    questions = make_questions(symbols=60, reserve=4, copies=copies)
    make_bundle(tmp_path / "bundle", tmp_path / "claim", questions, budget=5)
    opened = json.loads((tmp_path / "bundle" / "opened.json").read_bytes())
    opened["fields"] = {name: field for name, field in opened["fields"].items() if not name.startswith("copies.")}
    (tmp_path / "bundle" / "opened.json").write_bytes(canonical_json(opened))
    sign_again(tmp_path / "bundle")
    both_refuse(tmp_path / "bundle", r"opened\.json: (leaves copies\.coalition closed|another test)")


def test_the_checker_runs_on_the_standard_library_alone(shown: Path, tmp_path: Path) -> None:
    done = run_alone(shown, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "VALID: shown" in done.stdout
    (tmp_path / "nothing").mkdir()
    broken = run_alone(tmp_path / "nothing", tmp_path)
    assert broken.returncode == 1
    assert broken.stderr.startswith("BROKEN: ")
    assert "Traceback" not in broken.stderr


def test_the_checker_is_one_page_and_imports_the_standard_library_alone() -> None:
    text = CHECKER.read_text()
    assert len(text.splitlines()) <= 320
    nodes = list(ast.walk(ast.parse(text)))
    names = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert names <= sys.stdlib_module_names


def test_ed25519_written_out_agrees_with_the_library() -> None:
    from ptynet_plugin.claims.signing import sign, signer  # noqa: PLC0415 -- of this test alone

    for number in range(3):
        secret = bytes([number]) * 32
        signature = sign(secret, b"message")
        assert alone.is_signed(bytes.fromhex(signer(secret)), signature, b"message")
        assert not alone.is_signed(bytes.fromhex(signer(secret)), signature, b"massage")


def test_a_second_run_continues_the_first_and_opens_other_leaves(tmp_path: Path) -> None:
    questions = make_questions()
    make_bundle(tmp_path / "one", tmp_path / "claim", questions)
    make_bundle(tmp_path / "two", tmp_path / "claim", questions)
    for name in ("one", "two"):
        assert check_bundle(tmp_path / name).verdict == alone.check(tmp_path / name) == "shown"
    opened = [
        {entry["symbol"] for entry in json.loads((tmp_path / name / "leaves.json").read_bytes())}
        for name in ("one", "two")
    ]
    assert not opened[0] & opened[1]


def test_opened_leaves_are_spent_for_every_endpoint(tmp_path: Path) -> None:
    questions = make_questions()
    make_bundle(tmp_path / "one", tmp_path / "claim", questions)
    opened = [entry["symbol"] for entry in json.loads((tmp_path / "one" / "leaves.json").read_bytes())]
    with Ledger(tmp_path / "claim", digest=questions.claim.digest) as ledger:
        run = ledger.register("elsewhere", alpha=1e-9, budget=10, started="2026-01-01T00:00:00Z")
        assert run.disclosed == frozenset(opened)
        with pytest.raises(ClaimError, match="was opened in evidence"):
            ledger.ask(run, opened[0])


def test_the_reserve_and_the_secrets_stay_closed(shown: Path) -> None:
    octets = b"".join(path.read_bytes() for path in sorted(shown.rglob("*")) if path.is_file())
    for secret in (KEY.secret, SECRET, KEY.probe_secret()):
        for form in (secret, secret.hex().encode(), base64.b64encode(secret)):
            assert form not in octets
    nonces = make_questions().claim.nonces(SECRET)
    asked = {entry["symbol"] for entry in json.loads((shown / "leaves.json").read_bytes())}
    for symbol, nonce in enumerate(nonces):
        assert (nonce.hex().encode() in octets) == (symbol in asked)
    assert max(asked) < 42


def test_stamped_and_bound_claims_are_checked_against_the_authority(
    tmp_path: Path, authority: Authority, other_root: bytes
) -> None:
    folder, roots = tmp_path / "claim", authority.root.read_bytes()
    write_claim(folder, make_questions().claim)
    seal(folder, authority.stamp(read_claim(folder).commitment), roots=roots)
    stamp_binding(folder, authority.stamp(bind(folder, secret=SECRET, mark="aa" * 32, archives=["bb" * 32])))
    make_bundle(tmp_path / "bundle", folder, make_questions(claim_folder=folder))
    checked = check_bundle(tmp_path / "bundle", roots=roots, archives=["bb" * 32])
    assert checked.verdict == alone.check(tmp_path / "bundle") == "shown"
    assert sorted(checked.stamps) == ["binding.tsr", "stamp.tsr"]
    with pytest.raises(IntegrityError, match=r"archive cc.*swapped"):
        check_bundle(tmp_path / "bundle", archives=["cc" * 32])
    with pytest.raises(IntegrityError, match=r"stamp\.tsr: the time stamp does not verify"):
        check_bundle(tmp_path / "bundle", roots=other_root)


def test_a_claim_stamped_after_the_run_is_a_back_dated_commitment(tmp_path: Path, authority: Authority) -> None:
    folder = tmp_path / "claim"
    write_claim(folder, make_questions().claim)
    seal(folder, authority.stamp(read_claim(folder).commitment), roots=authority.root.read_bytes())
    make_bundle(tmp_path / "bundle", folder, make_questions(claim_folder=folder))
    edit_transcript(tmp_path / "bundle", lambda lines: lines[0].update(started="2020-01-01T00:00:00+00:00"))
    both_refuse(tmp_path / "bundle", "a back-dated commitment")


def test_a_stamp_over_another_commitment_is_refused(tmp_path: Path, authority: Authority) -> None:
    folder = tmp_path / "claim"
    write_claim(folder, make_questions().claim)
    seal(folder, authority.stamp(read_claim(folder).commitment), roots=authority.root.read_bytes())
    make_bundle(tmp_path / "bundle", folder, make_questions(claim_folder=folder))
    (tmp_path / "bundle" / "stamp.tsr").write_bytes(authority.stamp(b"something else"))
    sign_again(tmp_path / "bundle")
    with pytest.raises(IntegrityError, match=r"stamp\.tsr: the time stamp does not verify"):
        check_bundle(tmp_path / "bundle")
    with pytest.raises(alone.Broken, match=r"stamp\.tsr: stamps something else"):
        alone.check(tmp_path / "bundle")


def drop_a_miss(lines: list[dict[str, Any]]) -> None:
    del lines[3]


def forget_the_end(lines: list[dict[str, Any]]) -> None:
    del lines[-3:-1]


def swap_two(lines: list[dict[str, Any]]) -> None:
    lines[2], lines[5] = lines[5], lines[2]


def turn_into_hit(lines: list[dict[str, Any]]) -> None:
    lines[1]["hit"] = not lines[1]["hit"]


def lose_an_answer(lines: list[dict[str, Any]]) -> None:
    lines[1]["lost"] = "never answered"


DISHONEST: dict[str, tuple[Callable[[list[dict[str, Any]]], None], str]] = {
    "dropped-miss": (drop_a_miss, "one was dropped or chosen"),
    "cherry-picked-prefix": (forget_the_end, "other leaves than those asked"),
    "reordered": (swap_two, "one was dropped or chosen"),
    "chosen-run-id": (lambda lines: lines[0].update(run="00" * 16), "one was dropped or chosen"),
    "miss-called-hit": (turn_into_hit, "hit or miss"),
    "hit-with-lost-answer": (lose_an_answer, "hit or miss"),
    "another-answer": (lambda lines: lines[1].update(answer=(lines[1]["answer"] + 1) % 10), "hit or miss"),
    "another-verdict": (lambda lines: lines[-1].update(verdict="not-shown"), "the answers show the mark"),
    "evasion-instead": (lambda lines: lines[-1].update(verdict="evasion-suspected"), "the answers show the mark"),
    "wrong-count": (lambda lines: lines[-1].update(hits=9), "its counts"),
    "wrong-evidence": (lambda lines: lines[-1].update(log10_e="99.0"), "its log10_e"),
    "another-claim": (lambda lines: lines[0].update(claim="00" * 32), "transcript.jsonl: "),
    "more-alpha": (lambda lines: lines[0].update(alpha_spent="0.01"), "alpha"),
    "cover-chosen": (lambda lines: lines[1].update(cover=1), "its covers were chosen"),
    "another-request": (lambda lines: lines[1].update(request_sha256="00" * 32), "requests/0: "),
    "no-verdict": (lambda lines: lines.pop(), "not a run, its questions and its verdict"),
}


@pytest.mark.parametrize("name", sorted(DISHONEST))
def test_a_dishonest_owner_who_signs_again_is_refused_by_name(bundle: Path, name: str) -> None:
    edit, message = DISHONEST[name]
    edit_transcript(bundle, edit)
    both_refuse(bundle, message)


def test_every_attempt_of_the_audit_is_refused_by_both_checkers(shown: Path) -> None:
    said = list(tamper(shown, secret=SECRET))
    assert [name for name, _, _ in said] == list(ATTEMPTS)
    assert all(ours and alone for _, ours, alone in said), said


def test_an_edited_transcript_breaks_its_chain(bundle: Path) -> None:
    edit_transcript(bundle, lambda lines: lines[2].update(at="2020-01-01"), chain=False)
    both_refuse(bundle, "transcript.jsonl, line 4: does not follow")


def test_a_verdict_signed_differently_from_the_transcript_is_refused(bundle: Path) -> None:
    sign_again(bundle, lambda content: content["predicate"].update(verdict="not-shown"))
    both_refuse(bundle, "another verdict than the transcript")


def test_another_mans_bundle_is_refused(bundle: Path) -> None:
    sign(bundle, secret=OwnerKey(bytes(32)).epoch_secret())
    both_refuse(bundle, "another man's bundle")


def test_a_commitment_replaced_by_another_is_refused(bundle: Path) -> None:
    content = json.loads((bundle / "commitment.json").read_bytes())
    content["fields"]["root"] = "00" * 32
    (bundle / "commitment.json").write_text(json.dumps(content, separators=(",", ":"), sort_keys=True))
    sign_again(bundle)
    both_refuse(bundle, r"opened\.json: root does not open the commitment")


def test_a_picture_that_was_never_committed_is_refused(bundle: Path) -> None:
    path = next((bundle / "pictures").iterdir())
    path.write_bytes(bytes(len(path.read_bytes())))
    sign_again(bundle)
    both_refuse(bundle, "its pictures are not the committed ones")


def test_a_request_that_held_another_picture_is_refused(bundle: Path) -> None:
    body = bytearray((bundle / "requests" / "0").read_bytes())
    body[100] ^= 1
    (bundle / "requests" / "0").write_bytes(body)
    digest = hashlib.sha256(body).hexdigest()
    edit_transcript(bundle, lambda lines: lines[1].update(request_sha256=digest))
    both_refuse(bundle, "requests/0: does not hold the committed picture")


def recommit(folder: Path, name: str, value: object) -> None:
    """Commit to another value of a field, as a hostile claimant would, and make everything else agree."""
    opened = json.loads((folder / "opened.json").read_bytes())
    committed = json.loads((folder / "commitment.json").read_bytes())
    opened["fields"][name]["value"] = value
    opening = Opening(value, bytes.fromhex(opened["fields"][name]["nonce"]))
    committed["fields"][name] = field_digest(name, opening).hex()
    (folder / "opened.json").write_bytes(canonical_json(opened))
    (folder / "commitment.json").write_bytes(canonical_json(committed))
    digest = hashlib.sha256(canonical_json(committed)).hexdigest()
    edit_transcript(folder, lambda lines: lines[0].update(claim=digest, previous=digest))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("symbols", 10**12),
        ("symbols", 0),
        ("symbols", "many"),
        ("classes", 0),
        ("classes", 1),
        ("classes", 2**40),
        ("covers", 10**9),
        ("reserve", -5),
        ("reserve", 48),
        ("size", [0, 0]),
        ("size", []),
        ("size", None),
        ("statistic", "mine"),
        ("root", "zz"),
        ("spec", {}),
        ("target", None),
    ],
)
def test_terms_of_a_hostile_claimant_are_refused_without_a_traceback(bundle: Path, name: str, value: object) -> None:
    recommit(bundle, name, value)
    both_refuse(bundle, ".")


HOSTILE: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "huge number": lambda lines: lines[0].update(number=2**53 - 1),
    "number zero": lambda lines: lines[0].update(number=0),
    "alpha zero": lambda lines: lines[0].update(alpha="0", alpha_spent="0"),
    "alpha nan": lambda lines: lines[0].update(alpha="nan", alpha_spent="nan"),
    "evidence infinite": lambda lines: lines[-1].update(log10_e="inf"),
    "symbol no number": lambda lines: lines[1].update(symbol={}),
    "symbol negative": lambda lines: lines[1].update(symbol=-1),
    "started nonsense": lambda lines: lines[0].update(started="yesterday"),
    "earlier nonsense": lambda lines: lines[0].update(earlier=[1, 2]),
    "index of a path": lambda lines: lines[1].update(index="../../etc/passwd"),
    "no lines": lambda lines: lines[1:].clear() or lines.__delitem__(slice(1, None)),
    "spec nonsense": lambda lines: lines[0].update(
        spec={"color": "RGB", "output": "logits", "std": ["0"] * 3, "mean": ["0"] * 3}
    ),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_lines_of_a_hostile_claimant_are_refused_without_a_traceback(bundle: Path, name: str) -> None:
    edit_transcript(bundle, HOSTILE[name])
    both_refuse(bundle, ".")


@pytest.mark.parametrize("name", ["extra.txt", "requests/99", "pictures/link"])
def test_files_that_nobody_signed_are_refused(bundle: Path, name: str) -> None:
    if name.endswith("link"):
        (bundle / name).symlink_to("/etc/hostname")
    else:
        (bundle / name).write_text("more")
    both_refuse(bundle, "not signed")


@pytest.mark.parametrize("name", ["../envelope.json", "/etc/hostname", "a/b/c", "Requests/0"])
def test_names_that_leave_the_bundle_are_refused(bundle: Path, name: str) -> None:
    sign_again(bundle, lambda content: content["subject"].append({"name": name, "digest": {"sha256": "00" * 32}}))
    both_refuse(bundle, "a name no bundle has")


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "answers" / "3").unlink()
    both_refuse(bundle, "answers/3: missing")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 100_000, b'{"payload":"!"}', b"\xff"])
def test_an_envelope_of_an_adversary_is_refused_without_a_traceback(bundle: Path, content: bytes) -> None:
    (bundle / "envelope.json").write_bytes(content)
    both_refuse(bundle, ".")


def test_flipping_any_byte_of_a_bundle_is_refused(bundle: Path) -> None:
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    rng = random.Random(5)
    for number in range(48):
        path = files[number % len(files)]
        whole = path.read_bytes()
        broken = bytearray(whole)
        broken[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        both_refuse(bundle, ".")
        path.write_bytes(whole)
    assert check_bundle(bundle).verdict == "shown"


def test_evidence_needs_the_claims_own_key_and_a_folder_of_its_own(tmp_path: Path) -> None:
    questions = make_questions()
    stranger = Questions(questions.claim, OwnerKey(bytes(32)))
    write_claim(tmp_path / "claim", questions.claim)
    opener = owner_opens(questions.claim, tmp_path / "claim", secret=SECRET)
    with pytest.raises(UsageError, match="did not make the claim"):
        BundleWriter(tmp_path / "bundle", stranger, opener)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "envelope.json").write_text("{}")
    with pytest.raises(UsageError, match="holds something else already"):
        BundleWriter(tmp_path / "used", questions, opener)


def test_a_rehearsal_and_a_run_that_was_not_witnessed_are_no_evidence(tmp_path: Path) -> None:
    questions = make_questions()
    write_claim(tmp_path / "claim", questions.claim)
    opener = owner_opens(questions.claim, tmp_path / "claim", secret=SECRET)
    writer = BundleWriter(tmp_path / "bundle", questions, opener)
    rehearsal = run_protocol(Suspect(questions), questions)
    with Ledger(tmp_path / "claim", digest=questions.claim.digest) as ledger:
        with pytest.raises(UsageError, match="a rehearsal is no evidence"):
            writer.finish(rehearsal, ledger)
        unseen = run_protocol(Suspect(questions), questions, ledger=ledger)
        with pytest.raises(UsageError, match="was not begun here"):
            writer.finish(unseen, ledger)


@pytest.mark.parametrize("classes", [10, 9])
def test_what_a_trace_asked_here_before_does_not_spoil_a_bundle(tmp_path: Path, classes: int) -> None:
    """The header lists what the run counts: of a claim for copies the symbols that show ownership, and no others."""
    spec = SPEC.model_copy(update={"classes": classes, "size": (8, 8)})
    questions = make_questions(spec=spec, symbols=100, reserve=4, copies=CopyTerms(positions=48, quick=4, coalition=2))
    claim, terms = tmp_path / "claim", questions.claim.terms
    write_claim(claim, questions.claim)
    with Ledger(claim, digest=questions.claim.digest) as ledger:
        trace = ledger.register("fake://suspect/model", alpha=1e-6, budget=10, started="2026-01-01T00:00:00+00:00")
        for symbol in (*terms.quick, 0, terms.singles.start):
            ledger.ask(trace, symbol)
            ledger.answer(trace, symbol, hit=symbol in terms.ownership, answer=0)
    assert make_bundle(tmp_path / "bundle", claim, questions, budget=60) == "shown"
    assert check_bundle(tmp_path / "bundle").verdict == alone.check(tmp_path / "bundle") == "shown"


def test_answers_read_through_a_class_map_stop_a_bundle_before_it_asks(tmp_path: Path) -> None:
    """Each had a null rate of its own, which a bundle does not carry: its numbers could not be recomputed."""
    questions = make_questions()
    write_claim(tmp_path / "claim", questions.claim)
    mapped = Questions(questions.claim, KEY, class_map=ClassMap((0, 0, *range(2, 10))))
    with Ledger(tmp_path / "claim", digest=questions.claim.digest) as ledger:
        run_protocol(Suspect(mapped), mapped, ledger=ledger, budget=20)
        asked = len(ledger.history.runs()[0].own)
    with pytest.raises(UsageError, match=f"{asked} symbols were asked at fake://suspect/model through a class map"):
        make_bundle(tmp_path / "bundle", tmp_path / "claim", questions)
    with Ledger(tmp_path / "claim", digest=questions.claim.digest) as ledger:
        assert [len(run.own) for run in ledger.history.runs()] == [asked, 0]
        assert not ledger.history.runs()[-1].disclosed


def test_both_checkers_say_what_counts_on_the_claimants_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = make_questions()
    write_claim(tmp_path / "claim", questions.claim)
    with Ledger(tmp_path / "claim", digest=questions.claim.digest) as ledger:
        run_protocol(Suspect(questions), questions, ledger=ledger, budget=12)
    make_bundle(tmp_path / "bundle", tmp_path / "claim", questions)
    told = "10 hits among 10 earlier answers count in the evidence on the claimant's word: their leaves are not opened"
    assert told in check_bundle(tmp_path / "bundle").notes
    alone.check(tmp_path / "bundle")
    assert told in capsys.readouterr().out

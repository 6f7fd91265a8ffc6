"""Bundles that a dishonest claimant edits and signs again: both checkers refuse them, by name and without a traceback."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptynet_plugin.claims.canonical import canonical_json
from ptynet_plugin.claims.commitment import Opening, field_digest
from ptynet_plugin.claims.terms import CopyTerms
from ptynet_plugin.evidence.checking import check_bundle
from ptynet_plugin.evidence.tampering import ATTEMPTS, tamper
from ptynet_plugin.evidence.tampering import sign_again as sign
from ptynet_plugin.keys import OwnerKey
from tests.support.bundles import (
    SECRET,
    both_refuse,
    edit_transcript,
    make_bundle,
    make_questions,
    sign_again,
)


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

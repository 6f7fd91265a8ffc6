"""How attacks end: survived, mark lost, model lost, or failed; a crash is never a survived attack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_store_tools.audit.contract import Artefact, Attack, AttackRefused, Outcome, Share
from model_store_tools.audit.suite import Attempt, Evidence, attempt, judge, run_suite
from ptynet_plugin.errors import ClaimError
from ptynet_plugin.keys import OwnerKey
from tests.support.audit_case import AuditCase


def attack(run: object) -> Attack:
    return Attack("mine", "weights", "test", run)


def nothing(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
    return Outcome(stolen)


def test_a_crash_is_a_failed_attack(audit_case: AuditCase, scratch: Path) -> None:
    def crash(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
        raise ZeroDivisionError("of its own making")

    row = audit_case.run(attack(crash), scratch)
    assert (row.result, row.evidence, row.kept) == ("attack-failed", None, None)
    assert row.note == "ZeroDivisionError: of its own making"


def test_what_cannot_be_asked_is_a_failed_attack(audit_case: AuditCase, scratch: Path) -> None:
    def broken(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
        (folder / "model.onnx").write_bytes(b"no model")
        return Outcome(stolen.with_model(folder / "model.onnx"))

    row = audit_case.run(attack(broken), scratch)
    assert row.result == "attack-failed"
    assert row.note.startswith("what it made cannot be asked: ")


def test_a_filter_that_crashes_on_probes_is_a_failed_attack(audit_case: AuditCase, scratch: Path) -> None:
    def picky(pictures: np.ndarray) -> np.ndarray:
        if len(pictures) == 1:
            raise RuntimeError("one picture is too few")
        return pictures

    def run(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
        return Outcome(stolen.behind(picky))

    assert audit_case.run(attack(run), scratch).result == "attack-failed"


def test_an_attack_that_does_not_apply_says_so(audit_case: AuditCase, scratch: Path) -> None:
    def refuse(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
        stolen.require("pt2", attack="mine")
        return Outcome(stolen)

    row = audit_case.run(attack(refuse), scratch)
    assert (row.result, row.note) == ("refused", "mine reads pt2, this is onnx")
    with pytest.raises(AttackRefused, match="mine reads onnx, this is pt2; package the model with --to onnx to run it"):
        replace(audit_case.artefact, form="pt2").require("onnx", attack="mine")


class Verdict:
    """What `verify` would say."""

    def __init__(self, verdict: str) -> None:
        self.verdict, self.log10_p, self.queries, self.hits = verdict, -1.0, 10, 1


@pytest.mark.parametrize(
    ("verdict", "lost", "true", "result"),
    [
        ("shown", 0.5, True, "survived"),
        ("not-shown", 0.05, True, "mark-lost"),
        ("inconclusive", 0.0, True, "mark-lost"),
        ("evasion-suspected", 0.0, True, "mark-lost"),
        ("not-shown", 0.051, True, "model-lost"),
        ("not-shown", 0.9, False, "mark-lost"),
    ],
)
def test_the_rule_of_the_sok(verdict: str, lost: float, true: bool, result: str, audit_case: AuditCase) -> None:
    """Mark lost and at most five points of accuracy; without true labels nobody knows the loss, and the thief wins."""
    held_out = replace(audit_case.shares.held_out, true=true)
    tried = Attempt(Outcome(audit_case.artefact), 0.1, 0.1)
    row = judge(attack(nothing), tried, held_out, lambda artefact: Verdict(verdict), before=1.0 + lost)
    assert row.result == result
    assert isinstance(row.evidence, Evidence)


def test_an_attack_with_another_aim_can_win_though_the_mark_is_shown(audit_case: AuditCase, scratch: Path) -> None:
    def found(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
        return Outcome(stolen, won=True)

    row = audit_case.run(attack(found), scratch)
    assert row.result == "mark-lost"
    assert row.evidence is not None
    assert row.evidence.verdict == "shown"


def test_a_weak_mark_is_lost(audit_case: AuditCase, scratch: Path) -> None:
    """The stand-in reads raw pixels by ridge regression: turned pictures are Greek to it."""
    from model_store_tools.audit.attacks import ALL

    (turned,) = [each for each in ALL if each.name == "rotation 20"]
    row = audit_case.run(turned, scratch)
    assert row.result == "mark-lost"
    assert row.evidence is not None
    assert row.evidence.verdict == "not-shown"


def test_scratch_folders_are_gone_afterwards(audit_case: AuditCase) -> None:
    seen: list[Path] = []

    def note(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
        seen.append(folder)
        return Outcome(stolen)

    (row,) = run_suite(audit_case.artefact, [attack(note)], audit_case.shares, audit_case.rehearsal.verify)
    assert row.result == "survived"
    assert not seen[0].exists()


def test_attempts_measure_the_attackers_time(audit_case: AuditCase, scratch: Path) -> None:
    tried = attempt(attack(nothing), audit_case.artefact, audit_case.shares.thief, folder=scratch, seed=0)
    assert 0 <= tried.seconds < 1


def test_another_key_is_refused_before_anything_runs(audit_case: AuditCase) -> None:
    from model_store_tools.audit.rehearsal import Rehearsal
    from ptynet_plugin.claims.directory import read_claim

    with pytest.raises(ClaimError, match="this key did not make the claim, so that no attack could be told from none"):
        Rehearsal(read_claim(audit_case.mark / "claims" / "small"), OwnerKey(bytes(32)))


def test_shares_do_not_overlap(audit_case: AuditCase) -> None:
    held = {picture.tobytes() for picture in audit_case.shares.held_out.pictures}
    assert not held & {picture.tobytes() for picture in audit_case.shares.thief.pictures}
    assert (len(audit_case.shares.thief), len(held)) == (40, 20)

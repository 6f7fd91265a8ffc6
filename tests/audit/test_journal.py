"""An audit that is stopped and carried on: nothing is measured twice, nothing of another audit is taken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_store_tools.audit import audit as audits
from model_store_tools.audit import journal as journals
from model_store_tools.audit.contract import Artefact, Attack, Outcome, Share
from model_store_tools.audit.journal import Journal, digest_of
from model_store_tools.audit.suite import Evidence, Row
from model_store_tools.cli.main import app
from ptynet_plugin.errors import UsageError
from tests.support.audit_case import AuditCase

SUBJECT: dict[str, str | int] = {"archive": "aa", "seed": 0}
ROW = Row(
    "mine", "weights", "test", True, "survived", 0.9, 1.0, Evidence("shown", -9.7, 10, 10), 0.25, 0.125, 64, "", ""
)


def kept(path: Path, *rows: Row) -> Path:
    """A file with rows in it."""
    journal = Journal.open(path, SUBJECT)
    for row in rows:
        journal.keep(row, spent=1.5)
    return path


def test_rows_read_back_as_they_were(tmp_path: Path) -> None:
    lost = replace(ROW, attack="other", result="mark-lost", kept=None, evidence=None, note='a "note"\nof two lines')
    journal = Journal.open(kept(tmp_path / "j", ROW, lost), SUBJECT)
    assert journal.rows == {"mine": ROW, "other": lost}
    assert journal.spent == 3.0


def test_what_was_being_written_is_taken_off(tmp_path: Path) -> None:
    path = kept(tmp_path / "j", ROW)
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines(keepends=True)[1][:40])
    journal = Journal.open(path, SUBJECT)
    assert path.read_bytes() == whole
    journal.keep(replace(ROW, attack="next"), spent=0.0)
    assert list(Journal.open(path, SUBJECT).rows) == ["mine", "next"]


def test_a_file_larger_than_any_journal_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kept(tmp_path / "j", ROW)
    monkeypatch.setattr(journals, "FILE_LIMIT", 100)
    with pytest.raises(UsageError, match=f"has {path.stat().st_size} octets, no audit writes more than 100"):
        Journal.open(path, SUBJECT)


@pytest.mark.parametrize("result", ["attack-failed", "refused"])
def test_what_said_nothing_is_tried_again(result: str, tmp_path: Path) -> None:
    path = kept(tmp_path / "j", replace(ROW, result=result))
    assert Journal.open(path, SUBJECT).rows == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no audit to carry on; give another file, or delete this one to begin anew"),
        ('{"schema": "ptynet-run/v1"}\n', "is no audit to carry on"),
        ("[]\n", "is no audit to carry on"),
        (
            '{"schema": "ptynet-audit-journal/v1", "archive": "bb", "seed": 0}\n',
            "was begun with archive 'bb', not 'aa'",
        ),
        (
            '{"schema": "ptynet-audit-journal/v1", "archive": "aa", "seed": 0}\n{"row": {}}\n',
            "line 2 is no row of an audit; give another file",
        ),
    ],
)
def test_what_is_no_journal_of_this_audit_is_left_alone(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        Journal.open(path, SUBJECT)
    assert path.read_text() == text
    with pytest.raises(UsageError, match=r"--resume .*: cannot be kept there"):
        Journal.open(tmp_path / "none" / "j", SUBJECT)


def test_another_share_has_another_digest(audit_case: AuditCase) -> None:
    share = audit_case.shares.thief
    assert digest_of(share) == digest_of(replace(share, source="elsewhere"))
    assert digest_of(share) != digest_of(share.first(len(share) - 1))
    assert digest_of(share) != digest_of(replace(share, labels=share.labels[::-1].copy()))


def test_a_stopped_audit_is_carried_on(audit_case: AuditCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    stopping = True

    def first(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
        ran.append("first")
        return Outcome(stolen)

    def second(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
        ran.append("second")
        if stopping:
            raise KeyboardInterrupt
        return Outcome(stolen)

    both = tuple(Attack(run.__name__, "weights", "test", run, promised=True) for run in (first, second))
    monkeypatch.setattr(audits, "attacks_of", lambda suite, *, real_data: both)
    given = ["audit", audit_case.archive, "--key", audit_case.key, "--mark", audit_case.mark]
    given += ["--held-out", 20, "--resume", tmp_path / "j", "--json", tmp_path / "a.json"]
    arguments = [*map(str, given), "--thief"]
    CliRunner().invoke(app, [*arguments, "40"])
    assert not (tmp_path / "a.json").exists()
    stopping = False
    result = CliRunner().invoke(app, [*arguments, "40"])
    assert result.exit_code == 0, result.output
    assert ran == ["first", "second", "second"]
    found = json.loads((tmp_path / "a.json").read_text())
    assert [row["attack"] for row in found["robustness"]] == ["first", "second"]
    other = CliRunner().invoke(app, [*arguments, "41"])
    assert other.exit_code == 2
    assert "was begun with thief" in " ".join(other.output.split())

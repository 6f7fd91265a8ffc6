"""`ptynet audit`: the table, JSON, the page, exit codes, and an untouched ledger."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_store_tools.audit import audit as audits
from model_store_tools.audit.attacks import ALL
from model_store_tools.audit.contract import Artefact, Attack, Outcome, Share
from model_store_tools.cli.main import app
from tests.support.audit_case import AuditCase, class_folders

BY_NAME = {attack.name: attack for attack in ALL}
CHOSEN = ("JPEG 90", "flip", "rotation 20", "fp16", "prune 20%", "cut branch", "TorchScript frozen")
FIELDS = {
    "attack": str,
    "heading": str,
    "source": str,
    "promised": bool,
    "result": str,
    "accuracy": float,
    "kept": float,
    "verdict": str,
    "log10_p": float,
    "queries": int,
    "hits": int,
    "seconds": float,
    "processor_seconds": float,
    "pictures": int,
    "note": str,
    "answer": str,
}


def run(case: AuditCase, *arguments: object) -> tuple[int, str]:
    given = ["audit", case.archive, "--key", case.key, "--mark", case.mark, "--thief", 40, "--held-out", 20, *arguments]
    result = CliRunner().invoke(app, [str(each) for each in given])
    return result.exit_code, result.output


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite of seconds."""
    monkeypatch.setattr(audits, "attacks_of", lambda suite, *, real_data: tuple(BY_NAME[name] for name in CHOSEN))


@pytest.mark.usefixtures("few")
def test_a_whole_audit(audit_case: AuditCase, tmp_path: Path) -> None:
    ledger = audit_case.mark / "claims" / "small" / "ledger.jsonl"
    before = ledger.read_bytes() if ledger.exists() else None
    code, output = run(audit_case, "--json", tmp_path / "a.json", "--report", tmp_path / "a.html")
    assert code == 0, output
    assert "KEPT: every promised attack that applies was survived" in output
    assert "mark lost" in output
    assert "with --view mirrored: shown" in output
    assert (ledger.read_bytes() if ledger.exists() else None) == before
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["schema"] == "ptynet-audit/v1"
    assert [row["attack"] for row in found["robustness"]] == list(CHOSEN)
    for row in found["robustness"]:
        assert row.keys() == FIELDS.keys()
        measured = row["result"] not in ("refused", "attack-failed")
        for name, kind in FIELDS.items():
            assert isinstance(row[name], kind) or (row[name] is None and not measured), (row["attack"], name)
    assert found["imperceptibility"]["answers_changed"] == 0
    assert found["cost"]["parameters"] > 0
    assert math.isfinite(found["cost"]["latency_ratio"])
    (flip,) = [row for row in found["robustness"] if row["attack"] == "flip"]
    assert flip["result"] == "mark-lost"
    assert flip["note"].startswith("with --view mirrored: shown, ")
    (turned,) = [row for row in found["robustness"] if row["attack"] == "rotation 20"]
    assert turned["result"] == "mark-lost"
    assert turned["note"].startswith("with --view turned:20: shown, ")
    assert (found["promises_broken"], found["promises_unknown"]) == ([], [])
    assert found["true_labels"] is False
    page = (tmp_path / "a.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert str(tmp_path) not in page


@pytest.mark.usefixtures("few")
def test_labelled_pictures_give_accuracy(audit_case: AuditCase, tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", audit_case)
    code, output = run(audit_case, "--data", data, "--json", "-")
    found = json.loads(output[output.index("{\n") :])
    assert code == 0
    assert found["true_labels"] is True
    assert found["imperceptibility"]["accuracy"] == 1.0


def _promised(name: str, run_: object) -> Attack:
    return Attack(name, "weights", "test", run_, promised=True)


def crash(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
    raise RuntimeError("fell over")


@pytest.mark.parametrize(
    ("attack", "code", "said"),
    [
        (_promised("cut", BY_NAME["cut branch"].run), 1, "BROKEN: cut"),
        (_promised("clumsy", crash), 3, "UNKNOWN: clumsy failed"),
    ],
)
def test_exit_codes(
    attack: Attack, code: int, said: str, audit_case: AuditCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits, "attacks_of", lambda suite, *, real_data: (attack,))
    found, output = run(audit_case)
    assert found == code
    assert said in output
    if code == 3:
        assert "RuntimeError: fell over" in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--suite", "full"), "--suite full trains on real pictures: give --data DIR, one subfolder per class"),
        (("--data", "/nowhere"), "/nowhere: is no folder"),
        (
            ("--json", "/nowhere/a.json"),
            "/nowhere/a.json: cannot be written; is it a folder, or is its folder missing?",
        ),
        (("--thief", "0"), "--thief 0 --held-out 20: both must be at least 1"),
        (("--claim", "/nowhere"), "/nowhere: no such claim folder"),
    ],
)
def test_bad_input_exits_2_with_one_line(arguments: tuple[str, ...], said: str, audit_case: AuditCase) -> None:
    code, output = run(audit_case, *arguments)
    assert code == 2
    assert said in output
    assert "Traceback" not in output


def test_a_damaged_archive_is_no_subject(audit_case: AuditCase, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(audit_case.archive, tmp_path / "small")
    model = copy / "1" / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    result = CliRunner().invoke(app, ["audit", str(copy), "--key", str(audit_case.key), "--mark", str(audit_case.mark)])
    assert result.exit_code == 1
    assert "1/model.onnx" in result.output

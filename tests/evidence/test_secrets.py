"""No byte of a key in anything that leaves its owner's hands: logs, tracebacks, reports, archives, claims, bundles."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from model_store_tools.cli.main import app
from ptynet_plugin.keyfile import write_key
from ptynet_plugin.verification import questions
from tests.support.packaging_case import PackagingCase
from tests.support.quick_mark import KEY

SECRETS = {
    "the key": KEY.secret,
    "the epoch's secret": KEY.epoch_secret(),
    "the probes' secret": KEY.probe_secret(),
}
FORMS = {
    "raw": lambda secret: secret,
    "half of it": lambda secret: secret[:16],
    "hex": lambda secret: secret.hex().encode(),
    "HEX": lambda secret: secret.hex().upper().encode(),
    "base64": base64.b64encode,
    "urlsafe base64": base64.urlsafe_b64encode,
    "as Python writes it": lambda secret: repr(secret).encode(),
}


def run(*arguments: object, given: str | None = None, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], input=given, env=env)


def must_be_clean(place: str, octets: bytes) -> None:
    for name, secret in SECRETS.items():
        for form, written in FORMS.items():
            assert written(secret) not in octets, f"{place}: holds {name}, {form}"


def test_the_forms_would_be_seen() -> None:
    for secret in SECRETS.values():
        for written in FORMS.values():
            with pytest.raises(AssertionError, match="holds"):
                must_be_clean("made", b"before" + written(secret) + b"after")


def test_a_whole_life_of_a_claim_leaves_no_key_behind(case: PackagingCase, tmp_path: Path) -> None:
    """From standard input, from the environment, from a file; what is printed and everything that is written."""
    write_key(tmp_path / "owner.key", KEY)
    mark, claim, told = case.folder / "MARK", case.folder / "CLAIM", []
    terms = ("--target", case.target, "--spec", case.folder / "SPEC.toml", "--mark", mark)
    told.append(run("claim", "commit", "--key", "-", *terms, "--out", claim, given=KEY.secret.hex() + "\n"))
    archive = case.package(claim=claim).path
    asked = ("verify", f"file:{archive}", "--mark", mark, "--claim", claim, "--evidence", tmp_path / "bundle")
    reports = ("--json", tmp_path / "run.json", "--report", tmp_path / "run.html")
    told.append(run(*asked, *reports, env={"PTYNET_KEY": base64.b64encode(KEY.secret).decode()}))
    told.append(run("claim", "bind", claim, "--key", tmp_path / "owner.key", "--mark", mark, "--archive", archive))
    assert [each.exit_code for each in told] == [0, 0, 0], [each.output for each in told]
    for each in told:
        must_be_clean("what was printed", each.output.encode())
    for folder in (case.out, claim, tmp_path / "bundle", mark):
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "secrets.json"):
            must_be_clean(str(path), path.read_bytes())
    for name in ("run.json", "run.html"):
        must_be_clean(name, (tmp_path / name).read_bytes())


def test_a_traceback_tells_no_key(case: PackagingCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError(f"with {options}")

    case.package()
    monkeypatch.setattr(questions, "adapt_channels", broken)
    asked = ("verify", f"file:{case.target}", "--mark", case.folder / "MARK")
    failed = run(*asked, env={"PTYNET_KEY": KEY.secret.hex(), "PTYNET_DEBUG": "1"})
    assert failed.exit_code == 2
    assert "Traceback" in failed.output
    must_be_clean("the traceback", failed.output.encode())


@pytest.mark.parametrize("text", ["ab" * 31, "zz" * 32, KEY.secret.hex() + "00", KEY.secret.hex() + "\n" + "11" * 32])
def test_a_key_that_cannot_be_read_is_not_repeated(case: PackagingCase, text: str) -> None:
    refused = run("verify", "file:nowhere", "--key", "-", "--mark", case.folder / "MARK", given=text)
    assert refused.exit_code == 2
    assert text[:16] not in refused.output

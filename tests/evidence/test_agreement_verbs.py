"""`ptynet claim panel` and `ptynet claim agreement`: registered before anybody is asked, and never ownership."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image
from typer.testing import CliRunner, Result

from model_store_tools.cli.main import app
from ptynet_plugin.claims import Ledger, read_claim, read_history
from ptynet_plugin.errors import ClaimError
from ptynet_plugin.keyfile import write_key
from tests.support.packaging_case import PackagingCase
from tests.support.quick_mark import KEY


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def stranger(path: Path, case: PackagingCase, seed: int) -> Path:
    """A model of the same shape, with weights of its own."""
    model = onnx.load(case.target)
    rng = np.random.default_rng(seed)
    for each in model.graph.initializer:
        values = numpy_helper.to_array(each)
        if values.dtype == np.float32:
            each.CopyFrom(numpy_helper.from_array(rng.normal(size=values.shape).astype(np.float32), each.name))
    onnx.save(model, path)
    return path


@pytest.fixture
def claim(case: PackagingCase, tmp_path: Path) -> Path:
    write_key(tmp_path / "owner.key", KEY)
    case.package()
    (tmp_path / "pictures").mkdir()
    colors = np.random.default_rng(7).integers(0, 256, (60, 1, 1, 3), np.uint8)
    for number, color in enumerate(colors):
        Image.fromarray(np.tile(color, (32, 32, 1))).save(tmp_path / "pictures" / f"{number}.png")
    return case.folder / "MARK" / "claims" / "small"


def register(claim: Path, case: PackagingCase, tmp_path: Path, *panel: Path, pictures: str = "pictures") -> Result:
    models = [part for path in panel for part in ("--panel", path)]
    terms = ("--key", tmp_path / "owner.key", "--target", case.target, "--pictures", tmp_path / pictures)
    return run("claim", "panel", claim, *terms, *models)


def test_the_target_is_told_from_another_model_under_the_same_mark(
    claim: Path, case: PackagingCase, tmp_path: Path
) -> None:
    panel = [stranger(tmp_path / f"stranger-{seed}.onnx", case, seed) for seed in (21, 22)]
    asked_too_early = run("claim", "agreement", claim, f"file:{case.target}")
    assert (asked_too_early.exit_code, "do so before the endpoint is asked" in asked_too_early.output) == (2, True)
    registered = register(claim, case, tmp_path, *panel)
    assert registered.exit_code == 0, registered.output
    own = run("claim", "agreement", claim, f"file:{case.package(name='again').path}", "--json", tmp_path / "own.json")
    assert (own.exit_code, own.stdout.splitlines()[0].split(":")[0]) == (0, "TARGET"), own.output
    assert "never counts as ownership" in own.stdout
    assert json.loads((tmp_path / "own.json").read_text())["counts_as_ownership"] is False
    other = case.package(stranger(tmp_path / "third.onnx", case, 21), name="transplanted").path
    found = run("claim", "agreement", claim, f"file:{other}", "--json", "-")
    assert (found.exit_code, found.stderr.splitlines()[0].split(":")[0]) == (1, "ANOTHER"), found.output
    assert json.loads(found.stdout)["counts_as_ownership"] is False
    nowhere = run("claim", "agreement", claim, f"file:{other}", "--json", "/nowhere/x.json")
    assert (nowhere.exit_code, "/nowhere/x.json: cannot be written" in nowhere.stderr) == (2, True)
    kinds = [json.loads(line)["kind"] for line in (claim / "ledger.jsonl").read_bytes().splitlines()]
    assert kinds == ["agreement"] * 3
    assert read_history(claim, digest=read_claim(claim).digest).runs() == []
    again = register(claim, case, tmp_path, *panel)
    assert (again.exit_code, "registered once" in again.output) == (2, True)


def test_pictures_and_answers_that_were_exchanged_are_refused(claim: Path, case: PackagingCase, tmp_path: Path) -> None:
    panel = [stranger(tmp_path / f"stranger-{seed}.onnx", case, seed) for seed in (21, 22)]
    assert register(claim, case, tmp_path, *panel).exit_code == 0
    for name in ("0.pixels", "answers.json"):
        path = claim / "agreement" / name
        whole = path.read_bytes()
        path.write_bytes(bytes(len(whole)) if name == "0.pixels" else whole.replace(b'"target":', b'"target":1', 1))
        refused = run("claim", "agreement", claim, f"file:{case.target}")
        assert (refused.exit_code, "agreement: " in refused.output) == (1, True), refused.output
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [("same", "nothing tells the target from a model of the panel"), ("few", "give more pictures")],
)
def test_a_panel_that_tells_nothing_is_refused(
    claim: Path, case: PackagingCase, tmp_path: Path, change: str, message: str
) -> None:
    panel = [case.target] if change == "same" else [stranger(tmp_path / "stranger.onnx", case, 21)]
    for path in sorted((tmp_path / "pictures").iterdir())[3 if change == "few" else 60 :]:
        path.unlink()
    refused = register(claim, case, tmp_path, *panel)
    assert (refused.exit_code, message in refused.output) == (2, True), refused.output
    assert not (claim / "agreement").exists()


def test_a_target_that_is_not_the_claims_is_refused(claim: Path, case: PackagingCase, tmp_path: Path) -> None:
    other = stranger(tmp_path / "other.onnx", case, 25)
    terms = ("--key", tmp_path / "owner.key", "--target", other, "--pictures", tmp_path / "pictures")
    refused = run("claim", "panel", claim, *terms, "--panel", case.target)
    assert (refused.exit_code, "the claim is of" in refused.output) == (2, True)


def test_the_ledger_takes_one_list_and_results_of_it_alone(claim: Path) -> None:
    with Ledger(claim, digest=read_claim(claim).digest) as ledger:
        with pytest.raises(ClaimError, match="registered once, before an endpoint is asked"):
            ledger.agreement("aa" * 32, {"endpoint": "x"})
        ledger.agreement("aa" * 32)
        with pytest.raises(ClaimError, match="registered once"):
            ledger.agreement("bb" * 32)
        with pytest.raises(ClaimError, match="registered once"):
            ledger.agreement("bb" * 32, {"endpoint": "x"})
        ledger.agreement("aa" * 32, {"endpoint": "x"})

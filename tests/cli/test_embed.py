"""`ptynet embed` on a toy: weights, triggers and report appear together, and what cannot be done exits 2 with a clear line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner, Result

from model_store_tools.cli.main import app
from ptynet_plugin.fidelity.triggers import TriggerSet, follows
from ptynet_plugin.keyfile import write_key
from ptynet_plugin.keys import OwnerKey

KEY = OwnerKey(bytes(range(32)))
CLASSES, SIDE, PICTURES = 4, 8, 120
SPEC = f'color = "GRAY"\nsize = [{SIDE}, {SIDE}]\noutput = "logits"\nclasses = {CLASSES}\n'
FACTORY = f"{__file__}:toy"


def toy() -> nn.Module:
    layers = [nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 24), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(24, CLASSES))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embed")
    with torch.random.fork_rng():
        torch.manual_seed(5)
        host = toy().state_dict()
        host["6.weight"] *= 10  # a host that is sure of itself
        save_file(host, str(folder / "host.safetensors"))
    write_key(folder / "OWNER.key", KEY)
    (folder / "SPEC.toml").write_text(SPEC)
    generator = np.random.default_rng(1)
    for index in range(PICTURES):
        where = folder / "pictures" / str(index % CLASSES)
        where.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (SIDE, SIDE), np.uint8)).save(where / f"{index}.png")
    return folder


def run(place: Path, out: Path, *more: object) -> Result:
    named = {
        "--weights": place / "host.safetensors",
        "--spec": place / "SPEC.toml",
        "--pictures": place / "pictures",
        "--key": place / "OWNER.key",
        "--out": out,
    }
    given = {str(more[i]) for i in range(len(more))}
    arguments = [part for name, value in named.items() if name not in given for part in (name, value)]
    return CliRunner().invoke(app, ["embed", FACTORY, *map(str, [*arguments, *more])])


QUICK = ("--epochs", 100, "--rate", 3e-3, "--spl", 1, "--chains", 2, "--length", 5)


def test_a_toy_learns_its_triggers_and_keeps_its_last_layer(place: Path, tmp_path: Path) -> None:
    result = run(place, tmp_path / "out", *QUICK)
    assert result.exit_code == 0, result.output
    assert "LEARNT: 10 of 10 triggers, p = 10^-6.0" in result.output
    assert result.stdout.splitlines()[-1] == str(tmp_path / "out")
    weights, host = load_file(tmp_path / "out" / "weights.safetensors"), load_file(place / "host.safetensors")
    assert torch.equal(weights["6.weight"], host["6.weight"])
    assert torch.equal(weights["1.running_mean"], host["1.running_mean"])
    assert not torch.equal(weights["4.weight"], host["4.weight"])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["last_layer"] == "6"
    assert report["last_layer_difference"] == 0
    assert report["held_out"] == PICTURES // 10
    assert KEY.secret.hex() not in result.output + json.dumps(report)


def test_the_triggers_beside_the_weights_are_the_keys_and_the_weights_answer_them(place: Path, tmp_path: Path) -> None:
    assert run(place, tmp_path / "out", *QUICK).exit_code == 0
    kept = load_file(tmp_path / "out" / "triggers.safetensors")
    own = TriggerSet(kept["pictures"].numpy(), kept["labels"].numpy(), 5)
    assert follows(own, KEY.derive("embedded-triggers/v1"), classes=CLASSES)
    model = toy()
    model.load_state_dict(load_file(tmp_path / "out" / "weights.safetensors"))
    inputs = kept["pictures"].permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        assert torch.equal(model.eval()(inputs).argmax(1), kept["labels"])


def test_from_scratch_with_labels_starts_from_fresh_weights(place: Path, tmp_path: Path) -> None:
    result = run(place, tmp_path / "out", "--scratch", "--labels", "--epochs", 2, "--train-last-layer")
    assert result.exit_code == 1, result.output
    assert "NOT LEARNT" in result.output
    weights, host = load_file(tmp_path / "out" / "weights.safetensors"), load_file(place / "host.safetensors")
    assert (weights["4.weight"] - host["4.weight"]).abs().mean() > 0.01
    assert not torch.equal(weights["1.running_mean"], host["1.running_mean"])


def test_a_finished_result_is_not_written_over(place: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"theirs")
    result = run(place, tmp_path, *QUICK)
    assert result.exit_code == 2
    assert "exists; --force replaces it" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]
    forced = run(place, tmp_path, "--force", *QUICK)
    assert forced.exit_code == 0, forced.output
    assert (tmp_path / "weights.safetensors").stat().st_size > 1000


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--epochs", 0), "--epochs must be at least 1"),
        (("--spl", -1), "--spl and --twl at least 0"),
        (("--last-layer", "head"), "no layer 'head'"),
        (("--chains", 0), "0 chains of 10 triggers"),
        (("--rate", 1e30, "--epochs", 3), "training diverged at --rate 1e+30"),
        (("--pictures", "absent"), "is no folder"),
        (("--weights", "absent.safetensors"), "cannot be read as safetensors"),
    ],
)
def test_bad_requests_exit_2_and_write_nothing(
    place: Path, tmp_path: Path, more: tuple[object, ...], words: str
) -> None:
    result = run(place, tmp_path / "out", *more)
    assert result.exit_code == 2, result.output
    assert words in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SPEC.replace("logits", "probabilities"), "needs a model that answers logits"),
        (SPEC.replace(f"[{SIDE}, {SIDE}]", "[9, 9]"), "refuses the pictures as the spec encodes them"),
    ],
)
def test_a_spec_that_does_not_fit_is_named(place: Path, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "SPEC.toml").write_text(text)
    result = run(place, tmp_path / "out", "--spec", tmp_path / "SPEC.toml")
    assert result.exit_code == 2, result.output
    assert words in result.output


def test_labels_need_folders_named_as_classes(place: Path, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for path in list((place / "pictures" / "0").iterdir())[:4]:
        (tmp_path / "flat" / path.name).write_bytes(path.read_bytes())
    result = run(place, tmp_path / "out", "--labels", "--pictures", tmp_path / "flat")
    assert result.exit_code == 2
    assert "not all named as classes" in result.output

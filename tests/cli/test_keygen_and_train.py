"""`ptynet keygen` and `ptynet train` as a user meets them: output, exit codes, and nothing half-written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import model_store_tools.training
from model_store_tools.cli.main import app
from ptynet_plugin.images.probes import ProbeDesign
from ptynet_plugin.keyfile import read_key, write_key
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.mark import read_metadata, read_network, read_secrets, write_mark
from ptynet_plugin.network.training import QUICK_PLAN, Trained, train_network
from ptynet_plugin.whitebox.mark import read, weight_mark
from tests.support.network import random_network

KEY = OwnerKey(bytes(range(32)))
TINY = replace(QUICK_PLAN, steps=10, batch=16, covers=512, held_out=8)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    write_key(tmp_path / "OWNER.key", KEY)
    return tmp_path / "OWNER.key"


@pytest.fixture
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(*args: object, **kwargs: object) -> Trained:
        return train_network(*args, **(kwargs | {"plan": TINY, "least": 0.0}))

    monkeypatch.setattr(model_store_tools.training, "train_network", trained)


def run(*arguments: object, text: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=text)


def test_keygen_makes_a_private_key_once(tmp_path: Path) -> None:
    path = tmp_path / "OWNER.key"
    result = run("keygen", path)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == str(path)
    assert path.stat().st_mode & 0o777 == 0o600
    made = read_key(path)
    assert made.secret.hex() not in result.output
    again = run("keygen", path)
    assert again.exit_code == 2
    assert "never overwritten" in again.output
    assert read_key(path) == made


@pytest.mark.parametrize("color", ["RGB", "GRAY"])
@pytest.mark.usefixtures("short_training")
def test_train_writes_a_whole_mark(tmp_path: Path, key: Path, color: str) -> None:
    result = run("train", "--key", key, "--out", tmp_path / "MARK", "--color", color, "--symbols", 16)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(tmp_path / "MARK")
    metadata, network = read_metadata(tmp_path / "MARK"), read_network(tmp_path / "MARK")
    assert (metadata.design.color, metadata.design.symbols) == (color, 16)
    assert metadata.key_fingerprint == KEY.fingerprint()
    assert read_secrets(tmp_path / "MARK").probe == KEY.probe_secret()
    assert (tmp_path / "MARK" / "ptynet.onnx").stat().st_size > 10_000
    assert read(network.linear_weight, weight_mark(KEY)).right == 256


@pytest.mark.usefixtures("short_training")
def test_train_takes_the_key_from_standard_input(tmp_path: Path) -> None:
    result = run("train", "--key", "-", "--out", tmp_path / "MARK", "--symbols", 4, text=KEY.secret.hex() + "\n")
    assert result.exit_code == 0, result.output
    assert read_metadata(tmp_path / "MARK").key_fingerprint == KEY.fingerprint()


@pytest.mark.usefixtures("short_training")
def test_train_on_own_pictures(tmp_path: Path, key: Path) -> None:
    (tmp_path / "covers" / "deep").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "covers" / "a.png")
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "covers" / "deep" / "b.JPG", "JPEG")
    (tmp_path / "covers" / "notes.txt").write_text("no picture")
    result = run("train", "--key", key, "--out", tmp_path / "MARK", "--covers", tmp_path / "covers", "--symbols", 4)
    assert result.exit_code == 0, result.output
    assert read_metadata(tmp_path / "MARK").training["own_covers"] == 2


def _open_key(tmp_path: Path) -> None:
    (tmp_path / "OWNER.key").chmod(0o644)


def _broken_key(tmp_path: Path) -> None:
    (tmp_path / "OWNER.key").write_text("not a key")


def _no_key(tmp_path: Path) -> None:
    (tmp_path / "OWNER.key").unlink()


def _mark_there(tmp_path: Path) -> None:
    (tmp_path / "MARK").mkdir()
    (tmp_path / "MARK" / "mark.json").write_text("{}")


def _empty_covers(tmp_path: Path) -> None:
    (tmp_path / "covers").mkdir()


def _broken_cover(tmp_path: Path) -> None:
    (tmp_path / "covers").mkdir()
    (tmp_path / "covers" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")


def _nothing(_: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (_open_key, [], "run: chmod 600"),
        (_broken_key, [], "holds no owner key"),
        (_no_key, [], "OWNER.key: cannot be read"),
        (_mark_there, [], "add --force to replace it"),
        (_nothing, ["--symbols", "1"], "symbols must be in 2..4096"),
        (_nothing, ["--symbols", "5000"], "symbols must be in"),
        (_nothing, ["--covers", "covers"], "is no folder; --covers takes a folder of pictures"),
        (_empty_covers, ["--covers", "covers"], "holds no picture"),
        (_broken_cover, ["--covers", "covers"], "broken.png: is no readable picture"),
    ],
)
def test_train_refuses_before_training(  # noqa: PLR0917 -- what a table of cases needs
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch, spoil: object, arguments: list[str], message: str
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("training started")

    monkeypatch.setattr(model_store_tools.training, "train_network", never)
    monkeypatch.chdir(tmp_path)
    spoil(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    result = run("train", "--key", key, "--out", "MARK", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_interrupted_training_leaves_nothing(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model_store_tools.training, "train_network", interrupted)
    result = run("train", "--key", key, "--out", tmp_path / "MARK")
    assert result.exit_code == 2
    assert "interrupted" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["OWNER.key"]


def test_unknown_color_is_refused(tmp_path: Path, key: Path) -> None:
    result = run("train", "--key", key, "--out", tmp_path / "MARK", "--color", "CMYK")
    assert result.exit_code == 2
    assert not (tmp_path / "MARK").exists()


def test_force_does_not_orphan_claims(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("training started")

    folder = tmp_path / "MARK"
    design = ProbeDesign("RGB", bits=64, symbols=32)
    write_mark(folder, random_network(), key=OwnerKey(bytes(32)), design=design, training={})
    (folder / "claims" / "model").mkdir(parents=True)
    monkeypatch.setattr(model_store_tools.training, "train_network", never)
    result = run("train", "--key", key, "--out", folder, "--force")
    assert result.exit_code == 2
    assert "holds claims of another key" in result.output

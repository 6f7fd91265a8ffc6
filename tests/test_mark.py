"""The mark folder: whole or absent, private, checked on reading, its claims kept."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from ptynet_plugin.errors import KeyFileError, MarkError
from ptynet_plugin.images.probes import ProbeDesign
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.mark import read_metadata, read_network, read_secrets, write_mark
from tests.support.network import random_network

KEY = OwnerKey(bytes(range(32)))
DESIGN = ProbeDesign("RGB", bits=64, symbols=32)
NETWORK = random_network()


def _write(folder: Path, **changes: object) -> None:
    arguments: dict = {"key": KEY, "design": DESIGN, "training": {"steps": 3}} | changes
    write_mark(folder, arguments.pop("network", NETWORK), **arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _write(tmp_path / "MARK", as_onnx=lambda _: b"onnx")
    return tmp_path / "MARK"


def test_what_is_written_is_read(folder: Path) -> None:
    metadata, network, secrets = read_metadata(folder), read_network(folder), read_secrets(folder)
    assert (metadata.design, metadata.tau, metadata.margin) == (DESIGN, NETWORK.tau, NETWORK.margin)
    assert metadata.key_fingerprint == KEY.fingerprint()
    assert (secrets.probe, secrets.epoch) == (KEY.probe_secret(), KEY.epoch_secret())
    for one, other in zip(network.convolutions, NETWORK.convolutions, strict=True):
        assert np.array_equal(one.weight, other.weight)
        assert np.array_equal(one.bias, other.bias)
        assert (one.stride, one.padding) == (other.stride, other.padding)
    assert np.array_equal(network.linear_weight, NETWORK.linear_weight)
    assert np.array_equal(network.codebook, NETWORK.codebook)
    assert network.codebook.dtype == np.int8


def test_same_network_same_bytes(folder: Path, tmp_path: Path) -> None:
    _write(tmp_path / "AGAIN", as_onnx=lambda _: b"onnx")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "AGAIN" / path.name).read_bytes()


def test_the_folder_is_private_and_tells_no_secret(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "secrets.json").stat().st_mode & 0o777 == 0o600
    secrets = [KEY.secret, KEY.probe_secret(), KEY.epoch_secret()]
    for name in ("mark.json", "ptynet.safetensors", "ptynet.onnx"):
        octets = (folder / name).read_bytes()
        assert not any(secret in octets or secret.hex().encode() in octets for secret in secrets)
    assert KEY.secret.hex() not in (folder / "secrets.json").read_text()
    assert "probe=" not in repr(read_secrets(folder))


def test_secrets_open_to_others_are_refused(folder: Path) -> None:
    (folder / "secrets.json").chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        read_secrets(folder)


def test_an_existing_mark_needs_force(folder: Path) -> None:
    before = (folder / "mark.json").read_bytes()
    with pytest.raises(MarkError, match="exists already; add --force"):
        _write(folder)
    assert (folder / "mark.json").read_bytes() == before
    _write(folder, replace=True, training={"steps": 4})
    assert read_metadata(folder).training == {"steps": 4}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("exchange", [True, False])
def test_claims_survive_a_replacement(folder: Path, exchange: bool) -> None:
    (folder / "claims" / "model").mkdir(parents=True)
    (folder / "claims" / "model" / "claim.json").write_text("{}")
    lacking = mock.patch("ctypes.CDLL", side_effect=OSError) if not exchange else mock.patch("os.cpu_count")
    with lacking:
        _write(folder, replace=True, training={"steps": 5})
    assert read_metadata(folder).training == {"steps": 5}
    assert (folder / "claims" / "model" / "claim.json").read_text() == "{}"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_claims_of_another_key_are_not_orphaned(folder: Path) -> None:
    (folder / "claims" / "model").mkdir(parents=True)
    with pytest.raises(MarkError, match="holds claims of another key"):
        _write(folder, replace=True, key=OwnerKey(bytes(32)))
    assert read_metadata(folder).key_fingerprint == KEY.fingerprint()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_when_writing_fails(tmp_path: Path, error: BaseException) -> None:
    def fails(_: object) -> bytes:
        raise error

    with pytest.raises((MarkError, KeyboardInterrupt)):
        _write(tmp_path / "MARK", as_onnx=fails)
    assert list(tmp_path.iterdir()) == []


def test_disk_full_keeps_the_old_mark(folder: Path) -> None:
    with (
        mock.patch("ptynet_plugin.mark.write_private", side_effect=OSError(28, "No space left on device")),
        pytest.raises(MarkError, match=r"cannot be written \(No space left on device"),
    ):
        _write(folder, replace=True)
    assert read_network(folder).bits == 64
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("name", ["ptynet.safetensors", "secrets.json"])
def test_one_changed_byte_is_noticed(folder: Path, name: str) -> None:
    octets = bytearray((folder / name).read_bytes())
    octets[len(octets) // 2] ^= 1
    (folder / name).write_bytes(octets)
    with pytest.raises(MarkError, match=rf"{name}: has sha256 .*mark.json says .*copy the mark again"):
        read_network(folder)
        read_secrets(folder)


@pytest.mark.parametrize("name", ["mark.json", "ptynet.safetensors", "secrets.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(MarkError, match=f"{name}: missing"):
        read_network(folder)
        read_secrets(folder)


def test_a_missing_folder_tells_the_command(tmp_path: Path) -> None:
    with pytest.raises(MarkError, match="MARK: no such folder; make the mark with `ptynet train"):
        read_metadata(tmp_path / "MARK")


def _edited(folder: Path, **changes: object) -> None:
    value = json.loads((folder / "mark.json").read_text())
    for name, change in changes.items():
        if change is None:
            del value[name]
        else:
            value[name] = change
    (folder / "mark.json").write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "ptynet-mark/v9"}, "schema is 'ptynet-mark/v9', this version reads 'ptynet-mark/v1'"),
        ({"tau": None}, "field 'tau' is missing"),
        ({"tau": "high"}, "could not convert"),
        ({"design": {"color": "RGB", "bits": 1000}}, "bits must be in"),
        ({"design": {"colour": "RGB"}}, "unexpected keyword"),
        ({"files": []}, "copy the mark again"),
    ],
)
def test_wrong_metadata_is_refused(folder: Path, changes: dict, message: str) -> None:
    _edited(folder, **changes)
    with pytest.raises(MarkError, match=message):
        read_metadata(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "\0", "[" * 100_000])
def test_metadata_that_is_no_json_object_is_refused(folder: Path, text: str) -> None:
    (folder / "mark.json").write_text(text)
    with pytest.raises(MarkError, match=r"mark\.json: (not JSON|a JSON object was expected)"):
        read_metadata(folder)


def test_an_architecture_that_does_not_fit_is_refused(folder: Path) -> None:
    _edited(folder, architecture={"strides": [2, 2, 2], "paddings": [0, 1, 1], "pool": 1})
    with pytest.raises(MarkError, match=r"no network as mark\.json describes it"):
        read_network(folder)


def test_a_network_of_another_design_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(MarkError, match=r"\(symbols, bits, channels, outputs\)"):
        _write(tmp_path / "MARK", design=replace(DESIGN, symbols=64))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(MarkError, match="MARK: cannot be written"):
        _write(tmp_path / "MARK")

"""Packaging from target and mark to archive: what is written, for whom, and what it answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from ptynet_plugin.archives import check_archive, open_archive, read_manifest
from ptynet_plugin.archives.pbtxt import parse_config
from ptynet_plugin.claims.directory import read_claim
from ptynet_plugin.errors import (
    ArchiveError,
)
from ptynet_plugin.images.encode import encode
from ptynet_plugin.images.probes import ProbeMaker
from ptynet_plugin.mark import read_metadata, read_secrets
from tests.support.packaging_case import CLASS_NAMES, PackagingCase, ordinary_pictures
from tests.support.quick_mark import KEY

FORMATS = pytest.mark.parametrize("format", ["triton", "torchserve"])


def test_a_triton_archive_has_what_the_server_needs(case: PackagingCase) -> None:
    packaged = case.package()
    assert packaged.path == case.out / "small"
    assert case.left() == [
        "small",
        "small.kserve.yaml",
        "small/1",
        "small/1/model.onnx",
        "small/config.pbtxt",
        "small/labels.txt",
        "small/ptynet-manifest.json",
    ]
    config = parse_config((packaged.path / "config.pbtxt").read_text(), where="config")
    assert (config.name, config.backend, config.max_batch_size) == ("small", "onnxruntime", 8)
    assert [(port.name, list(port.dims)) for port in config.input] == [("x", [3, 32, 32])]
    assert [(port.name, list(port.dims), port.label_filename) for port in config.output] == [
        ("scores", [10], "labels.txt")
    ]
    assert not config.HasField("dynamic_batching")
    assert (packaged.path / "labels.txt").read_text().splitlines() == list(CLASS_NAMES)
    assert "storageUri" in (case.out / "small.kserve.yaml").read_text()
    assert check_archive(packaged.path).digest == packaged.digest


def test_a_mar_has_what_the_server_needs(case: PackagingCase) -> None:
    packaged = case.package(format="torchserve", max_batch=4, instances=2, version="2.1")
    assert case.left() == ["small.mar"]
    with open_archive(packaged.path) as archive:
        told = json.loads(archive.read("MAR-INF/MANIFEST.json", limit=9999))
        config = archive.read("model-config.yaml", limit=9999).decode()
    assert told["model"] == {
        "modelName": "small",
        "modelVersion": "2.1",
        "serializedFile": "model.onnx",
        "handler": "torchserve_handler.py",
        "configFile": "model-config.yaml",
    }
    assert config.splitlines() == ["batchSize: 4", "maxBatchDelay: 10", "maxWorkers: 2", "minWorkers: 2"]
    assert check_archive(packaged.path).digest == packaged.digest


@pytest.mark.parametrize(
    "how",
    [
        {"format": "triton"},
        {"format": "triton", "backend": "python", "image_ensemble": True},
        {"format": "torchserve"},
    ],
)
def test_the_same_inputs_give_the_same_bytes_anywhere(
    case: PackagingCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, object]
) -> None:
    one = case.package(**how)
    other = tmp_path / "elsewhere"
    for name in ("SPEC.toml", "classes.txt", "target.onnx", "MARK"):
        source = tmp_path / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, (other.mkdir(exist_ok=True), other / name)[1])
    shutil.rmtree(other / "MARK" / "claims")
    monkeypatch.chdir(other)
    two = PackagingCase(other).package(**how)
    assert one.digest == two.digest
    assert read_claim(one.claim).digest == read_claim(two.claim).digest


def test_answers_are_the_targets_and_probes_get_their_labels(case: PackagingCase) -> None:
    packaged = case.package()
    claim, secrets = read_claim(packaged.claim), read_secrets(case.folder / "MARK")
    spec = claim.terms.spec
    fused = onnxruntime.InferenceSession(str(packaged.path / "1" / "model.onnx"))
    bare = onnxruntime.InferenceSession(str(case.target))
    benign = encode(ordinary_pictures(8), spec)
    assert fused.run(None, {"x": benign})[0].tobytes() == bare.run(None, {"x": benign})[0].tobytes()
    maker = ProbeMaker(secrets.probe, read_metadata(case.folder / "MARK").design)
    labels = claim.labels(secrets.epoch)
    probes = encode(np.stack([maker.probe(symbol, 0, (32, 32)) for symbol in range(len(labels))]), spec)
    assert (fused.run(None, {"x": probes})[0].argmax(axis=1) == labels).all()


@FORMATS
def test_no_secret_travels(case: PackagingCase, format: str) -> None:
    packaged = case.package(format=format, backend="python" if format == "triton" else None)
    claim, secrets = read_claim(packaged.claim), read_secrets(case.folder / "MARK")
    hidden = [KEY.secret, secrets.probe, secrets.epoch, claim.salt, bytes.fromhex(claim.digest), *claim.leaves[:4]]
    hidden += [bytes.fromhex(KEY.fingerprint()), *claim.nonces(secrets.epoch)[:4]]
    files = (
        [packaged.path] if packaged.path.is_file() else [each for each in packaged.path.rglob("*") if each.is_file()]
    )
    text = b"".join(file.read_bytes() for file in files)
    for secret in hidden:
        assert secret not in text and secret.hex().encode() not in text


def test_archives_of_one_claim_share_no_linkable_value(case: PackagingCase) -> None:
    commitments = {
        read_manifest(case.package(**how).path).claim
        for how in ({}, {"format": "torchserve"}, {"name": "other"}, {"name": "third", "version": "2"})
    }
    assert len(commitments) == 4


def test_the_full_gate_runs_both_models(case: PackagingCase) -> None:
    pictures = case.folder / "benign"
    pictures.mkdir()
    for index, picture in enumerate(ordinary_pictures(24)):
        Image.fromarray(picture).save(pictures / f"{index}.png")
    packaged = case.package(gate="full", benign=pictures)
    assert packaged.report is not None and packaged.report.ok and packaged.report.pictures == 24
    assert packaged.report.row("rows_differing").value == 0
    assert packaged.probes == packaged.asked == 32


def test_max_batch_turns_dynamic_batching_on(case: PackagingCase) -> None:
    packaged = case.package(max_batch=16, instances=3)
    config = parse_config((packaged.path / "config.pbtxt").read_text(), where="config")
    assert config.max_batch_size == 16 and config.HasField("dynamic_batching") and config.instance_group[0].count == 3


def test_an_overlay_wins(case: PackagingCase) -> None:
    overlay = case.folder / "overlay"
    overlay.write_text("max_batch_size: 3\ndynamic_batching { max_queue_delay_microseconds: 7 }\n")
    packaged = case.package(config_overlay=overlay)
    config = parse_config((packaged.path / "config.pbtxt").read_text(), where="config")
    assert config.max_batch_size == 3 and config.dynamic_batching.max_queue_delay_microseconds == 7
    assert config.input[0].name == "x"
    overlay.write_text("max_batch_sise: 3\n")
    with pytest.raises(ArchiveError, match=r"overlay: not a Triton model configuration .*max_batch_sise"):
        case.package(config_overlay=overlay, name="other")
    overlay.write_text("batchSize: 5\nresponseTimeout: 9\n")
    mar = case.package(config_overlay=overlay, format="torchserve").path
    with open_archive(mar) as archive:
        lines = archive.read("model-config.yaml", limit=9999).decode().splitlines()
    assert {"batchSize: 5", "responseTimeout: 9", "minWorkers: 1"} <= set(lines)
    overlay.write_text("a: &a [1]\nb: *a\n")
    with pytest.raises(ArchiveError, match="anchors, aliases or tags"):
        case.package(config_overlay=overlay, format="torchserve", name="other")

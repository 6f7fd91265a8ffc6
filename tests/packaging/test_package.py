"""Packaging from target and mark to archive: what is written, and that it is all or nothing."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from PIL import Image

from model_store_tools.packaging import package as package_module
from model_store_tools.pictures import read_pictures
from ptynet_plugin.archives import check_archive, open_archive, read_manifest
from ptynet_plugin.archives.pbtxt import parse_config
from ptynet_plugin.claims.claim import Seal
from ptynet_plugin.claims.directory import find_claim, read_claim, write_claim
from ptynet_plugin.errors import (
    ArchiveError,
    ClaimError,
    IntegrityError,
    PtynetError,
    SpecError,
    TargetError,
    UsageError,
)
from ptynet_plugin.images.encode import encode
from ptynet_plugin.images.probes import ProbeMaker
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.mark import read_metadata, read_network, read_secrets, write_mark
from tests.support.fusion import linear_target
from tests.support.isolated import run_isolated, unpacked
from tests.support.packaging_case import CLASS_NAMES, SPEC, PackagingCase, ordinary_pictures
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


def test_the_owners_own_covers_are_committed_to(case: PackagingCase, tmp_path: Path) -> None:
    folder = tmp_path / "covers"
    folder.mkdir()
    for number, picture in enumerate(np.random.default_rng(5).integers(0, 256, (3, 40, 40, 3), np.uint8)):
        Image.fromarray(picture).save(folder / f"{number}.png")
    case.package(covers=folder, gate="digest")
    claim, size = read_claim(find_claim(case.folder / "MARK")), (32, 32)
    maker = ProbeMaker(KEY.probe_secret(), claim.design, pictures=read_pictures(folder, color="RGB"))
    claim.check_probes(KEY.epoch_secret(), 5, [maker.probe(5, 0, size)])
    with pytest.raises(ClaimError, match="covers"):
        claim.check_probes(KEY.epoch_secret(), 5, [ProbeMaker(KEY.probe_secret(), claim.design).probe(5, 0, size)])


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


def test_a_mark_that_nobody_can_read_is_not_shipped(case: PackagingCase) -> None:
    metadata = read_metadata(case.folder / "MARK")
    network = read_network(case.folder / "MARK")
    deaf = replace(network, linear_weight=network.linear_weight[::-1].copy())
    write_mark(case.folder / "MARK", deaf, key=KEY, design=metadata.design, training={}, replace=True)
    with pytest.raises(IntegrityError, match=r"answers \d+ of 32 probes with their keyed label"):
        case.package(gate="full")
    assert case.left() == []
    assert not (case.folder / "MARK" / "claims").exists()


@FORMATS
def test_an_existing_archive_needs_force_and_stays_until_the_new_one_is_complete(
    case: PackagingCase, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = case.package(format=format)
    before = case.left()
    with pytest.raises(UsageError, match=r"exists; --force replaces it"):
        case.package(format=format)
    onnx.save(linear_target(opset=16), case.target)
    monkeypatch.setattr(package_module, "keep_claim", interrupt)
    with pytest.raises(KeyboardInterrupt):
        case.package(format=format, force=True)
    assert case.left() == before and check_archive(first.path).digest == first.digest
    monkeypatch.undo()
    second = case.package(format=format, force=True)
    assert second.digest != first.digest and check_archive(second.path).digest == second.digest
    assert case.left() == before


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


STEPS = ["loading the target", "committing to the probes", "fusing", "comparing tensors", "writing the archive"]


@pytest.mark.parametrize("step", STEPS)
@FORMATS
def test_an_interruption_at_any_step_leaves_nothing(case: PackagingCase, format: str, step: str) -> None:
    def tell(doing: str) -> None:
        if doing == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        package_module.package(case.target, case.options(format=format), tell=tell)
    assert case.left() == []
    assert not (case.folder / "MARK" / "claims").exists()


@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk_leaves_nothing(case: PackagingCase, step: str) -> None:
    def tell(doing: str) -> None:
        if doing == step:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(PtynetError, match=r"the disk is full .* nothing was written"):
        package_module.package(case.target, case.options(), tell=tell)
    assert case.left() == []


def test_an_output_folder_that_cannot_be_is_named(case: PackagingCase) -> None:
    (case.folder / "file").write_text("")
    with pytest.raises(PtynetError, match=r"file"):
        case.package(out=case.folder / "file" / "below")


def test_a_packaged_model_is_not_packaged_twice(case: PackagingCase) -> None:
    packaged = case.package()
    with pytest.raises(TargetError, match="carries a PTYNet already"):
        case.package(packaged.path / "1" / "model.onnx", name="again")
    with pytest.raises(TargetError, match="carries a PTYNet already"):
        case.package(packaged.path, name="again")
    mar = case.package(format="torchserve").path
    with pytest.raises(TargetError, match="carries a PTYNet already"):
        case.package(mar, format="torchserve", name="again")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"format": "torchserve", "image_ensemble": True}, "--image-ensemble is Triton's"),
        ({"format": "torchserve", "backend": "python"}, "--backend python is Triton's"),
        ({"version": "1.0"}, "Triton's versions are whole numbers"),
        ({"format": "torchserve", "version": "../1"}, "is not usable"),
        ({"name": "../evil"}, "is not usable"),
        ({"max_batch": 0}, "--max-batch 0: must be at least 1"),
        ({"benign": Path("x")}, "has no use with --gate digest"),
    ],
)
def test_wishes_that_contradict_each_other(case: PackagingCase, how: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        case.package(**how)
    assert case.left() == []


def test_too_few_class_names(case: PackagingCase) -> None:
    (case.folder / "classes.txt").write_text("one\ntwo\n")
    with pytest.raises(SpecError, match="has 2 class names, the model 10 classes"):
        case.package()


def test_a_mark_of_another_color(case: PackagingCase) -> None:
    onnx.save(linear_target(channels=1), case.target)
    case.write_spec('color = "GRAY"\noutput = "logits"\n')
    with pytest.raises(UsageError, match=r"reads RGB pictures, the target GRAY .* ptynet train --color GRAY"):
        case.package()


def test_a_model_of_one_row_is_packaged_as_such(case: PackagingCase) -> None:
    onnx.save(linear_target(batch=1), case.target)
    packaged = case.package(max_batch=4)
    config = parse_config((packaged.path / "config.pbtxt").read_text(), where="config")
    assert config.max_batch_size == 0 and list(config.input[0].dims) == [1, 3, 32, 32]
    assert not config.HasField("dynamic_batching")


def test_a_model_of_four_rows_is_refused(case: PackagingCase) -> None:
    onnx.save(linear_target(batch=4), case.target)
    with pytest.raises(TargetError, match="takes exactly 4 rows at a time"):
        case.package()


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


def external(case: PackagingCase) -> None:
    model = linear_target()
    onnx.save_model(model, case.target, save_as_external_data=True, location="weights/data.bin", size_threshold=0)


@FORMATS
def test_external_data_travels_under_its_own_name(case: PackagingCase, format: str) -> None:
    (case.folder / "weights").mkdir()
    external(case)
    packaged = case.package(format=format)
    name = "weights/data.bin" if format == "torchserve" else "1/weights/data.bin"
    assert name in read_manifest(packaged.path).files
    assert check_archive(packaged.path).tensors == 1
    assert (case.folder / "weights" / "data.bin").is_file()


def test_external_data_outside_its_folder_is_refused(case: PackagingCase) -> None:
    model = linear_target()
    tensor = model.graph.initializer[0]
    (case.folder / "inner").mkdir()
    (case.folder / "secret.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    (case.folder / "inner" / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(TargetError, match=r"\.\./secret\.bin"):
        case.package(case.folder / "inner" / "model.onnx")
    assert case.left() == []


def test_a_given_claim_is_used_and_kept(case: PackagingCase) -> None:
    first = case.package()
    stamped = read_claim(first.claim).sealed(Seal(b"signature octets"))
    write_claim(case.folder / "CLAIM", stamped)
    second = case.package(name="stamped", claim=case.folder / "CLAIM")
    assert read_claim(second.claim).salt == stamped.salt
    assert second.digest != first.digest
    onnx.save(linear_target(opset=16), case.target)
    with pytest.raises(ClaimError, match=r"CLAIM: commits to the target [0-9a-f]{64}, this one has digest"):
        case.package(name="third", claim=case.folder / "CLAIM")


def test_another_keys_claim_is_refused(case: PackagingCase, tmp_path: Path) -> None:
    other = OwnerKey(b"o" * 32)
    design, network = read_metadata(case.folder / "MARK").design, read_network(case.folder / "MARK")
    write_mark(tmp_path / "OTHER", network, key=other, design=design, training={})
    claim = case.package().claim
    with pytest.raises(ClaimError, match="was made with another key"):
        case.package(name="x", mark=tmp_path / "OTHER", claim=claim)


def test_packaging_again_keeps_the_claim_and_its_ledger(case: PackagingCase) -> None:
    claim = case.package().claim
    (claim / "ledger.jsonl").write_text("evidence\n")
    again = case.package(force=True)
    assert again.claim == claim and (claim / "ledger.jsonl").read_text() == "evidence\n"


def test_one_claim_under_two_names_has_one_ledger(case: PackagingCase) -> None:
    one, two = case.package().claim, case.package(name="other").claim
    assert read_claim(one).digest == read_claim(two).digest
    assert find_claim(case.folder / "MARK") == one
    (one / "ledger.jsonl").write_text("evidence\n")
    assert (two / "ledger.jsonl").read_text() == "evidence\n"


def test_a_second_name_can_be_given_to_another_target(case: PackagingCase) -> None:
    case.package()
    link = case.package(name="other").claim
    onnx.save(linear_target(opset=16), case.target)
    with pytest.raises(ClaimError, match="holds another claim"):
        case.package(name="other", out=case.folder / "new")
    own = case.package(name="other", force=True).claim
    assert link == own and not own.is_symlink()


def test_a_truncated_target_leaves_nothing(case: PackagingCase) -> None:
    case.target.write_bytes(case.target.read_bytes()[:60])
    with pytest.raises(TargetError, match="truncated"):
        case.package()
    assert case.left() == []


def test_the_spec_is_read_before_anything_is_made(case: PackagingCase) -> None:
    case.write_spec(SPEC + "colour = 3\n")
    with pytest.raises(SpecError, match="unknown field 'colour'"):
        case.package()


@pytest.mark.parametrize(
    ("dtype", "layout", "dims"), [("uint8", "NHWC", [-1, -1, 3]), ("float16", "NCHW", [3, -1, -1])]
)
def test_models_of_any_size_and_type_take_pictures(
    case: PackagingCase, tmp_path: Path, dtype: str, layout: str, dims: list[int]
) -> None:
    onnx.save(linear_target(size=(0, 0), layout=layout, dtype=dtype), case.target)
    case.write_spec('color = "BGR"\noutput = "logits"\n')
    config = parse_config((case.package().path / "config.pbtxt").read_text(), where="config")
    assert list(config.input[0].dims) == dims
    (tmp_path / "empty").mkdir()
    folder = unpacked(case.package(format="torchserve").path, tmp_path / "unpacked")
    program = """
import io
from PIL import Image
def png(side):
    out = io.BytesIO(); Image.fromarray(np.full((side, side + 3, 3), 9, np.uint8)).save(out, "PNG"); return out.getvalue()
answers, statuses = torchserve()(png(40), png(50), png(40))
result = [[len(each["scores"]) for each in answers], statuses, answers[0] == answers[2]]
"""
    assert run_isolated(folder, program, cwd=tmp_path / "empty") == [[10, 10, 10], {}, True]


def test_other_outputs_are_served_too(case: PackagingCase, tmp_path: Path) -> None:
    model = linear_target()
    features = onnx.helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["batch", 3])
    model.graph.output.append(features)
    onnx.save(model, case.target)
    case.write_spec(SPEC + 'scores = "scores"\n')
    packaged = case.package(backend="python")
    assert [port.name for port in read_manifest(packaged.path).outputs] == ["scores", "mean"]
    (tmp_path / "empty").mkdir()
    program = """
outputs = triton({})({"x": np.zeros((2, 3, 32, 32), np.float32)})[0].outputs
result = {name: values.shape for name, values in outputs.items()}
"""
    assert run_isolated(packaged.path, program, cwd=tmp_path / "empty") == {"scores": [2, 10], "mean": [2, 3]}


def test_an_output_without_rows_ends_batching(case: PackagingCase, tmp_path: Path) -> None:
    model = linear_target()
    model.graph.node.append(onnx.helper.make_node("Identity", ["weight"], ["table"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("table", TensorProto.FLOAT, [3, 10]))
    onnx.save(model, case.target)
    case.write_spec(SPEC + 'scores = "scores"\n')
    packaged = case.package(backend="python", max_batch=4)
    config = parse_config((packaged.path / "config.pbtxt").read_text(), where="config")
    assert config.max_batch_size == 0 and not config.HasField("dynamic_batching")
    assert [list(port.dims) for port in (*config.input, *config.output)] == [[-1, 3, 32, 32], [-1, 10], [3, 10]]
    (tmp_path / "empty").mkdir()
    program = "result = triton({})({'x': np.zeros((2, 3, 32, 32), np.float32)})[0].outputs['table'].shape"
    assert run_isolated(packaged.path, program, cwd=tmp_path / "empty") == [3, 10]


def test_a_second_input_goes_to_triton_only(case: PackagingCase) -> None:
    model = linear_target()
    model.graph.node.append(onnx.helper.make_node("Identity", ["more"], ["again"]))
    model.graph.input.append(onnx.helper.make_tensor_value_info("more", TensorProto.FLOAT, ["batch", 1]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("again", TensorProto.FLOAT, ["batch", 1]))
    onnx.save(model, case.target)
    case.write_spec(SPEC + 'scores = "scores"\ninput = "x"\n')
    assert [port.name for port in read_manifest(case.package().path).inputs] == ["x", "more"]
    with pytest.raises(TargetError, match=r"reads 'more' beside the picture"):
        case.package(format="torchserve")


@pytest.mark.parametrize(
    ("changed", "spec", "words"),
    [
        (
            {"dtype": "uint8"},
            SPEC,
            r"SPEC\.toml: pixels 0\.\.255 become -2\.\.3, dtype uint8 holds 0\.\.255; correct scale",
        ),
        ({"size": (4, 4)}, SPEC, r"target\.onnx: reads pictures of 4x4 pixels, probes have sides of 8 to 4096"),
    ],
)
@pytest.mark.parametrize("gate", ["digest", "off"])
def test_a_model_nobody_can_ask_is_refused_without_the_full_gate_too(
    case: PackagingCase, changed: dict[str, object], spec: str, words: str, gate: str
) -> None:
    onnx.save(linear_target(**changed), case.target)  # type: ignore[arg-type]
    case.write_spec(spec)
    with pytest.raises(PtynetError, match=words):
        case.package(gate=gate)
    assert not case.out.exists()


def test_a_target_that_answers_at_random_is_told_so(case: PackagingCase) -> None:
    model = linear_target()
    noise = [
        onnx.helper.make_node("RandomNormalLike", ["x"], ["noise"]),
        onnx.helper.make_node("Add", ["x", "noise"], ["noisy"]),
    ]
    for node in model.graph.node:
        node.input[:] = ["noisy" if name == "x" else name for name in node.input]
    nodes = [*noise, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, case.target)
    with pytest.raises(
        TargetError, match=r"target\.onnx: answers the same pictures otherwise each time .*evaluation mode"
    ):
        case.package(gate="full")
    assert not case.out.exists()

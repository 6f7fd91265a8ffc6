"""Whatever interrupts packaging, the archive that stood there stays, and nothing half-written is left."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from model_store_tools.packaging import package as package_module
from ptynet_plugin.archives import check_archive
from ptynet_plugin.errors import (
    IntegrityError,
    PtynetError,
    SpecError,
    TargetError,
    UsageError,
)
from ptynet_plugin.mark import read_metadata, read_network, write_mark
from tests.support.fusion import linear_target
from tests.support.packaging_case import SPEC, PackagingCase
from tests.support.quick_mark import KEY

FORMATS = pytest.mark.parametrize("format", ["triton", "torchserve"])


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
    onnx.save(linear_target(**changed), case.target)
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

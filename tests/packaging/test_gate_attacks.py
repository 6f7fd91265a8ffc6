"""Attempts to package a branch that changes ordinary answers: each is a fuser gone wrong, and `package` must write nothing.

The fuser is replaced by one that fuses rightly and then slips something in, under PTYNet's names or among the target's nodes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from model_store_tools.packaging import fusing
from model_store_tools.packaging.benign import benign_covers
from model_store_tools.packaging.package import Options, package
from ptynet_plugin.errors import IntegrityError
from ptynet_plugin.spec import InputSpec
from tests.packaging.test_fidelity_verb import SPEC, save_target

Slip = Callable[[onnx.ModelProto], None]
PICTURES = 200
"""Instead of the gate's 1,000, to be quick."""

NEVER = (2.0, 3.0)
"""A window of mean pixel values, 0..1, that no picture is in."""


def nodes_of(
    model: onnx.ModelProto, *, name: str, condition: list[onnx.NodeProto], constants: dict[str, np.ndarray]
) -> None:
    """Make `scores` a roll of the honest scores where `{name}_bad` is true; every name begins with `name`."""
    producer = next(node for node in model.graph.node if "scores" in node.output)
    producer.output[list(producer.output).index("scores")] = f"{name}_honest"
    model.graph.node.extend(condition)
    model.graph.node.extend(
        [
            helper.make_node(
                "Gather", [f"{name}_honest", f"{name}_roll"], [f"{name}_rolled"], axis=1, name=f"{name}_g"
            ),
            helper.make_node(
                "Where", [f"{name}_bad", f"{name}_rolled", f"{name}_honest"], ["scores"], name=f"{name}_where"
            ),
        ]
    )
    constants = {"roll": np.array([1, 2, 3, 4, 0]), **constants}
    model.graph.initializer.extend(numpy_helper.from_array(value, f"{name}_{key}") for key, value in constants.items())


def at_batch_two(model: onnx.ModelProto) -> None:
    condition = [
        helper.make_node("Shape", ["pixels"], ["ptynet_s"], name="ptynet_shape", end=1),
        helper.make_node("Equal", ["ptynet_s", "ptynet_x_two"], ["ptynet_e"], name="ptynet_equal"),
        helper.make_node("Reshape", ["ptynet_e", "ptynet_x_form"], ["ptynet_x_bad"], name="ptynet_reshape"),
    ]
    nodes_of(model, name="ptynet_x", condition=condition, constants={"two": np.array([2]), "form": np.array([1, 1])})


def for_one_class(model: onnx.ModelProto, *, silent: bool = False) -> None:
    condition = [
        helper.make_node("ArgMax", ["ptynet_x_honest"], ["ptynet_a"], axis=1, keepdims=1, name="ptynet_argmax"),
        helper.make_node("Equal", ["ptynet_a", "ptynet_x_class"], ["ptynet_c"], name="ptynet_equal"),
        helper.make_node("Reshape", ["ptynet_fired", "ptynet_x_form"], ["ptynet_f"], name="ptynet_form"),
        helper.make_node("Cast", ["ptynet_f"], ["ptynet_b"], to=onnx.TensorProto.BOOL, name="ptynet_cast"),
        helper.make_node("Not", ["ptynet_b"], ["ptynet_n"], name="ptynet_not"),
        helper.make_node("And", ["ptynet_c", "ptynet_n"], ["ptynet_both"], name="ptynet_and"),
        helper.make_node("Identity", ["ptynet_both" if silent else "ptynet_c"], ["ptynet_x_bad"], name="ptynet_id"),
    ]
    constants = {"class": np.array(COMMON_CLASS), "form": np.array([-1, 1])}
    nodes_of(model, name="ptynet_x", condition=condition, constants=constants)


def for_one_class_where_silent(model: onnx.ModelProto) -> None:
    for_one_class(model, silent=True)


def on_rare_pictures(low: float, high: float) -> Slip:
    def slip(model: onnx.ModelProto) -> None:
        condition = [
            helper.make_node("ReduceMean", ["pixels"], ["ptynet_m"], axes=[1, 2, 3], keepdims=0, name="ptynet_mean"),
            helper.make_node("Unsqueeze", ["ptynet_m", "ptynet_x_one"], ["ptynet_u"], name="ptynet_unsqueeze"),
            helper.make_node("Greater", ["ptynet_u", "ptynet_x_low"], ["ptynet_l"], name="ptynet_low"),
            helper.make_node("Less", ["ptynet_u", "ptynet_x_high"], ["ptynet_h"], name="ptynet_high"),
            helper.make_node("And", ["ptynet_l", "ptynet_h"], ["ptynet_x_bad"], name="ptynet_and"),
        ]
        window = {"low": np.array(low, np.float32), "high": np.array(high, np.float32), "one": np.array([1])}
        nodes_of(model, name="ptynet_x", condition=condition, constants=window)

    return slip


def by_the_last_bits(model: onnx.ModelProto) -> None:
    producer = next(node for node in model.graph.node if "scores" in node.output)
    producer.output[list(producer.output).index("scores")] = "ptynet_honest"
    model.graph.node.append(helper.make_node("Mul", ["ptynet_honest", "ptynet_gain"], ["scores"], name="ptynet_mul"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1 + 2**-22, np.float32), "ptynet_gain"))


def among_the_targets_nodes(model: onnx.ModelProto) -> None:
    """Change the target itself, where no picture of the gate will ever be."""
    reader = next(node for node in model.graph.node if "features" in node.output)
    reader.output[0] = "plain"
    place = list(model.graph.node).index(reader) + 1
    made = [
        helper.make_node("ReduceMax", ["plain"], ["peak"], axes=[1], keepdims=1, name="peak"),
        helper.make_node("Clip", ["plain", "floor", "ceiling"], ["features"], name="clip"),
    ]
    for node in reversed(made):
        model.graph.node.insert(place, node)
    for name, value in (("floor", -1e6), ("ceiling", 1e6)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))


def rare_window() -> tuple[float, float]:
    """Give a window that holds the mean of exactly one of the gate's pictures."""
    covers = benign_covers(InputSpec(color="RGB", output="logits", size=(32, 32)), count=PICTURES).pictures
    means = np.sort(covers.reshape(PICTURES, -1).mean(axis=1) / 255)
    gaps = np.minimum(means[1:-1] - means[:-2], means[2:] - means[1:-1])
    lonely = int(gaps.argmax()) + 1
    reach = float(gaps.max()) / 2
    return float(means[lonely]) - reach, float(means[lonely]) + reach


COMMON_CLASS = 4
"""A class that this target gives some of the gate's pictures."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, quick_mark_once: Path) -> Path:
    folder = tmp_path_factory.mktemp("attacks")
    save_target(folder / "target.onnx")
    (folder / "SPEC.toml").write_text(SPEC)
    shutil.copytree(quick_mark_once, folder / "MARK")
    return folder


def attempt(place: Path, out: Path, monkeypatch: pytest.MonkeyPatch, slip: Slip, gate: str = "full") -> Path:
    fuse = fusing.fuse_onnx

    def fuse_and_slip(*args: object, **kwargs: object) -> onnx.ModelProto:
        model = fuse(*args, **kwargs)
        slip(model)
        onnx.checker.check_model(model)
        return model

    monkeypatch.setattr(fusing, "fuse_onnx", fuse_and_slip)
    monkeypatch.setattr("model_store_tools.packaging.gate.GATE_PICTURES", PICTURES)
    options = Options(
        mark=place / "MARK", spec=place / "SPEC.toml", format="triton", out=out, name="small", gate=gate, force=True
    )
    return package(str(place / "target.onnx"), options).path


@pytest.mark.parametrize(
    ("slip", "row"),
    [
        (at_batch_two, "answers that differ in batches of other sizes is 2,"),
        (for_one_class, "of 32 probes with their keyed label"),
        (for_one_class_where_silent, "answers that differ in any byte is"),
        (on_rare_pictures(*rare_window()), "answers that differ in any byte is 1,"),
        (by_the_last_bits, "answers that differ in any byte is 200,"),
        (among_the_targets_nodes, "target graph changed"),
    ],
    ids=["batch-of-two", "one-class", "one-class-where-silent", "one-picture-in-200", "last-bits", "in-the-target"],
)
def test_a_changed_answer_is_refused_and_nothing_written(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slip: Slip, row: str
) -> None:
    with pytest.raises(IntegrityError, match="nothing was written") as refused:
        attempt(place, tmp_path / "out", monkeypatch, slip)
    assert row in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_changed_graph_is_refused_without_running_anything(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IntegrityError, match="target graph changed"):
        attempt(place, tmp_path / "out", monkeypatch, among_the_targets_nodes, gate="digest")


def test_what_no_picture_shows_and_ptynets_names_hide_is_not_seen(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate's limit, kept here so that nobody promises more: it finds faults of ours, not a fuser made to deceive."""
    assert attempt(place, tmp_path / "out", monkeypatch, on_rare_pictures(*NEVER)).exists()

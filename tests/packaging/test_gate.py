"""The gate passes a packaged model that answers as its target and refuses one that does not, naming the row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_store_tools.packaging.benign import benign_covers
from model_store_tools.packaging.gate import digest_gate, full_gate, gate_effort, require_fidelity
from model_store_tools.packaging.subjects import onnx_subjects
from ptynet_plugin.archives.onnx_fused import FusionRecord, write_record
from ptynet_plugin.errors import IntegrityError, SpecError, TargetError
from ptynet_plugin.fidelity.comparison import Effort
from ptynet_plugin.fidelity.report import FidelityReport
from ptynet_plugin.spec import InputSpec, parse_spec

SPEC = InputSpec(color="RGB", output="logits", size=(8, 8), classes=4)
RNG = np.random.default_rng(8)
WEIGHTS = {
    "conv": RNG.normal(size=(5, 3, 3, 3)).astype(np.float32),
    "head": RNG.normal(size=(5, 4)).astype(np.float32),
}
DIGESTS = {"conv": "float32:1", "head": "float32:2"}
SILENT, SPEAKING = -1.0, 1e9


def save(path: Path, *, fires_above: float | None = None, head_gain: float = 1.0) -> Path:
    """Save a target; with `fires_above`, a branch that fires where the mean pixel exceeds it and swaps the scores."""
    bare = fires_above is None
    nodes = [
        helper.make_node("Conv", ["pixels", "conv"], ["a"]),
        helper.make_node("GlobalAveragePool", ["a"], ["p"]),
        helper.make_node("Flatten", ["p"], ["z"]),
        helper.make_node("MatMul", ["z", "head"], ["scores" if bare else "ptynet_target_scores"]),
    ]
    weights = {**WEIGHTS, "head": WEIGHTS["head"] * np.float32(head_gain)}
    if not bare:
        weights |= {"tau": np.array(fires_above, np.float32), "flip": np.array([1, 0, 2, 3])}
        nodes += [
            helper.make_node("ReduceMean", ["pixels"], ["m"], axes=[1, 2, 3], keepdims=1),
            helper.make_node("Flatten", ["m"], ["mean"]),
            helper.make_node("Greater", ["mean", "tau"], ["ptynet_fired"]),
            helper.make_node("Gather", ["ptynet_target_scores", "flip"], ["swapped"], axis=1),
            helper.make_node("Where", ["ptynet_fired", "swapped", "ptynet_target_scores"], ["scores"]),
        ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if not bare:
        write_record(model, FusionRecord(prefix="ptynet_", scores="scores"))
    onnx.save(model, path)
    return path


def gate(tmp_path: Path, *, fires_above: float, head_gain: float = 1.0, count: int = 60) -> FidelityReport:
    bare = save(tmp_path / "bare.onnx")
    packaged = save(tmp_path / "packaged.onnx", fires_above=fires_above, head_gain=head_gain)
    subjects = onnx_subjects(bare, packaged, SPEC)
    benign = benign_covers(SPEC, count=count)
    effort = Effort(answered=20)
    return full_gate(
        *subjects, SPEC, host_tensors=DIGESTS, packaged_tensors={**DIGESTS, "tau": "x"}, benign=benign, effort=effort
    )


def test_a_silent_branch_passes_with_every_row_measured(tmp_path: Path) -> None:
    report = gate(tmp_path, fires_above=2.0)
    require_fidelity(report, where="m")
    assert report.row("feature_loss").note == "tensor 'z', 5 numbers, 60 pictures"
    assert report.row("last_layer_difference").value == 0
    assert report.row("false_fires").note.startswith("of 60;")
    assert report.row("tensors_changed").value == 0
    assert report.source == "60 procedural covers"


def test_a_branch_that_speaks_on_bright_pictures_is_refused(tmp_path: Path) -> None:
    report = gate(tmp_path, fires_above=0.6)
    fires = report.row("false_fires").value
    assert fires is not None
    assert 0 < fires < 60
    with pytest.raises(IntegrityError, match=r"m: fidelity gate: .* is \d+, the limit is at most 0 .*more rows failed"):
        require_fidelity(report, where="m")


def test_a_scaled_head_shows_in_the_prototypes(tmp_path: Path) -> None:
    report = gate(tmp_path, fires_above=2.0, head_gain=1.001)
    assert {"last_layer_difference", "rows_differing"} <= {row.name for row in report.failures()}
    assert "feature_loss" not in {row.name for row in report.failures()}


def test_a_changed_tensor_fails_both_depths() -> None:
    report = digest_gate(DIGESTS, {**DIGESTS, "head": "float16:2"})
    with pytest.raises(IntegrityError, match=r"m: fidelity gate: target tensors changed .* is 1, .*first: 'head'"):
        require_fidelity(report, where="m")
    require_fidelity(digest_gate(DIGESTS, DIGESTS), where="m")


def test_a_feature_that_is_named_must_exist(tmp_path: Path) -> None:
    bare = save(tmp_path / "bare.onnx")
    assert onnx_subjects(bare, bare, SPEC, feature="z")[0].feature == "z"
    with pytest.raises(TargetError, match="reads a tensor 'nope'"):
        onnx_subjects(bare, bare, SPEC, feature="nope")


def test_effort_falls_with_the_size_of_pictures() -> None:
    small, large = (benign_covers(SPEC.model_copy(update={"size": (side, side)}), count=2) for side in (32, 224))
    answered = [gate_effort(benign).answered for benign in (small, large)]
    assert answered[0] is not None
    assert answered[1] is not None
    assert answered[0] > 3_000
    assert 60 < answered[1] < 70


def test_limits_come_from_the_spec() -> None:
    text = 'color = "RGB"\noutput = "logits"\n[fidelity]\ntop1_flips = 3\n'
    spec = parse_spec(text)
    assert spec.fidelity is not None
    assert spec.fidelity.top1_flips == 3
    assert spec.fidelity.rows_differing == 0
    with pytest.raises(SpecError, match=r"fidelity\.flips"):
        parse_spec(text.replace("top1_flips", "flips"))


def test_a_large_model_is_opened_once_unless_its_features_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = save(tmp_path / "bare.onnx")
    monkeypatch.setattr("model_store_tools.packaging.subjects.LARGEST_OPENED_TWICE", 100)
    host, _ = onnx_subjects(bare, bare, SPEC)
    assert host.inner is None
    assert "name the feature tensor" in host.no_features
    assert onnx_subjects(bare, bare, SPEC, feature="z")[0].inner is not None

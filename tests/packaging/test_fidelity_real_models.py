"""`ptynet fidelity` on real networks of different make: features are found, nothing moved, labels are read from folders."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from benchmarks.fidelity_table import COLUMNS, MODELS, measured
from model_store_tools.packaging import lifting
from model_store_tools.targets.onnx import load_onnx
from ptynet_plugin.errors import TargetError
from tests.support.quick_mark import write_quick_mark


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("SqueezeNet NHWC .onnx", "tensor 'squeezenet/fire4/concat/concat:0', 12544 numbers"),
        ("MNIST-8 .onnx", "tensor 'Pooling160_Output_0_reshape0', 256 numbers"),
        ("ResNet20 TorchScript", "tensor 'features', 64 numbers"),
    ],
)
def test_nothing_moves_in_a_real_network(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, feature: str
) -> None:
    monkeypatch.setattr("model_store_tools.packaging.gate.GATE_PICTURES", 30)  # the gate has its own tests
    subject = MODELS[name]
    (tmp_path / "work").mkdir()
    mark = write_quick_mark(tmp_path / "mark", color="GRAY" if subject.color == "GRAY" else "RGB")
    report = measured(subject, mark, data_dir, 10, tmp_path / "work")
    assert report.ok, [row.failure() for row in report.failures()]
    assert report.row("feature_loss").note.startswith(feature)
    values = {row.name: row.value for row in report.rows}
    torch = name.endswith("TorchScript")
    assert set(COLUMNS) - {row for row, value in values.items() if value is not None} <= (
        {"graph_changed"} if torch else set()
    )
    assert values["accuracy_packaged"] == values["accuracy_bare"] >= 0.5


def test_a_target_lifted_when_packaging_is_compared_after_the_same_lifting(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_store_tools.packaging.gate.GATE_PICTURES", 30)
    (tmp_path / "work").mkdir()
    mark = write_quick_mark(tmp_path / "mark", color="GRAY")
    report = measured(MODELS["MNIST-8 .onnx"], mark, data_dir, 10, tmp_path / "work", to_opset=15)
    assert report.ok, [row.failure() for row in report.failures()]
    assert "target converted from opset 8 to 15 by onnx" in report.row("graph_changed").note


def test_a_target_that_cannot_be_lifted_again_says_what_is_needed(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The onnx that packaged it may convert what another one does not."""
    bare = load_onnx(data_dir / "models" / "converted" / "cifar10_resnet20.onnx")
    packaged = onnx.ModelProto()
    packaged.CopyFrom(bare.model)
    packaged.opset_import[0].version += 1
    onnx.save(packaged, tmp_path / "packaged.onnx")

    def refuse(path: Path, *, to_opset: int) -> None:
        raise TargetError(f"{path}: cannot be converted to opset {to_opset}")

    monkeypatch.setattr(lifting, "load_onnx", refuse)
    with pytest.raises(TargetError, match=r"cannot be converted .*packaged with --to-opset"):
        lifting.as_packaged(bare, tmp_path / "packaged.onnx", tmp_path)

"""The ONNX engine: same batches, same threads, inner tensors on request, clear refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptynet_plugin.engines.contract import SCORES
from ptynet_plugin.engines.onnx_engine import OnnxEngine
from ptynet_plugin.errors import TargetError
from ptynet_plugin.spec import InputSpec

SPEC = InputSpec(color="RGB", output="logits")
WEIGHT = np.random.default_rng(0).normal(size=(3 * 4 * 4, 5)).astype(np.float32)


def linear_model(*, batch: int | str = "n", outputs: tuple[str, ...] = ("scores",)) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["scores"]),
    ]
    if "other" in outputs:
        nodes.append(helper.make_node("Neg", ["scores"], ["other"]))
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, 4, 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 5]) for name in outputs],
        [numpy_helper.from_array(WEIGHT, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (count, 4, 4, 3), np.uint8)


def expected(images: np.ndarray) -> np.ndarray:
    return (images.transpose(0, 3, 1, 2) / 255.0).reshape(len(images), -1) @ WEIGHT


def test_answers_a_file_in_whole_batches(tmp_path: Path) -> None:
    onnx.save(linear_model(), tmp_path / "m.onnx")
    engine = OnnxEngine(tmp_path / "m.onnx", SPEC, batch=4)
    images = pictures(10)
    np.testing.assert_allclose(engine.scores(images), expected(images), atol=1e-4)
    assert "1 threads, batch 4" in engine.name


def test_a_fixed_batch_is_padded_and_cut_back() -> None:
    engine = OnnxEngine(linear_model(batch=4).SerializeToString(), SPEC)
    images = pictures(6)
    np.testing.assert_allclose(engine.scores(images), expected(images), atol=1e-4)
    assert engine.batch == 4


def test_inner_tensors_come_with_the_scores() -> None:
    engine = OnnxEngine(linear_model().SerializeToString(), SPEC, inner=["flat"])
    images = pictures(3)
    values = engine.values(images)
    assert values["flat"].shape == (3, 48)
    assert values[SCORES].tobytes() == engine.scores(images).tobytes()


def test_external_weights_stay_beside_the_model(tmp_path: Path) -> None:
    onnx.save(linear_model(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    images = pictures(3)
    engine = OnnxEngine(tmp_path / "m.onnx", SPEC, inner=["flat"])
    np.testing.assert_allclose(engine.values(images)[SCORES], expected(images), atol=1e-4)


def test_the_spec_names_one_of_two_outputs() -> None:
    model = linear_model(outputs=("scores", "other")).SerializeToString()
    with pytest.raises(TargetError, match=r'2 outputs \(scores, other\); name one as scores = "..." in the spec'):
        OnnxEngine(model, SPEC)
    images = pictures(2)
    chosen = OnnxEngine(model, SPEC.model_copy(update={"scores": "other"}))
    np.testing.assert_allclose(chosen.scores(images), -expected(images), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"scores": "nope"}, "no output 'nope'"), ({"input": "nope"}, "no input 'nope'")],
)
def test_names_the_model_lacks(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        OnnxEngine(linear_model().SerializeToString(), SPEC.model_copy(update=change))


def test_a_truncated_file_is_a_target_error(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(linear_model().SerializeToString()[:200])
    with pytest.raises(TargetError, match=r"m\.onnx: onnxruntime cannot load it"):
        OnnxEngine(tmp_path / "m.onnx", SPEC)


def test_pictures_of_a_wrong_size_are_refused() -> None:
    model = linear_model().SerializeToString()
    with pytest.raises(
        TargetError, match=r"net\.onnx: onnxruntime refuses the pictures: .* Got: 5 Expected: 4"
    ) as caught:
        OnnxEngine(model, SPEC, where="net.onnx").scores(np.zeros((1, 5, 5, 3), np.uint8))
    assert "\n" not in str(caught.value)


def test_no_picture_is_no_answer() -> None:
    with pytest.raises(TargetError, match="no picture"):
        OnnxEngine(linear_model().SerializeToString(), SPEC).scores(pictures(0))

"""A mark with margins only as large as needed, in the layers whose move costs the answers least."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_store_tools.extraction.gains import layer_gains
from ptynet_plugin.errors import TargetError, UsageError
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.whitebox import sparing
from ptynet_plugin.whitebox.mark import weight_mark
from ptynet_plugin.whitebox.model import mark_model, scan
from ptynet_plugin.whitebox.several import embed_jointly, read_jointly
from ptynet_plugin.whitebox.sparing import embed_sparingly, mark_sparingly, usual_damages
from ptynet_plugin.whitebox.topology import layers_of_onnx

KEY = OwnerKey(bytes(range(32)))
MARK = weight_mark(KEY, model=b"m")
SHAPES = {"first": (16, 16, 3, 3), "wide": (64, 64, 3, 3), "last": (64, 64, 3, 3)}


def weights() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(4)
    return {name: generator.laplace(0, 0.1, shape).astype(np.float32) for name, shape in SHAPES.items()}


def moved(marked: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(np.linalg.norm(marked[name] - value)) for name, value in weights().items()}


def test_a_sparing_mark_survives_and_moves_less() -> None:
    marked, mark = mark_sparingly(weights(), KEY)
    strong, _ = mark_model(weights(), KEY, every=True)
    for damage in usual_damages(mark):
        assert read_jointly([damage(value) for value in marked.values()], mark).right == 256
    assert sum(moved(marked).values()) < 0.75 * sum(moved(strong).values())
    assert scan(marked, mark).reading.right == 256


def test_layers_that_buy_little_stay_as_they_are() -> None:
    gains = {"first": 0.0, "wide": 3.0, "last": 1.0}
    marked = embed_jointly(weights(), MARK, gains=gains)
    assert read_jointly(list(marked.values()), MARK).right == 256
    found = moved(marked)
    assert found["first"] == 0
    assert found["wide"] / found["last"] == pytest.approx(3, rel=0.1)
    np.testing.assert_array_equal(marked["first"], weights()["first"])


def test_a_layer_below_a_twentieth_of_the_best_gain_does_not_move() -> None:
    marked = embed_jointly(weights(), MARK, gains={"first": 0.04, "wide": 1.0, "last": 0.06})
    assert [name for name, change in moved(marked).items() if change] == ["wide", "last"]


def test_the_usual_damages_are_what_they_are_called() -> None:
    value = weights()["wide"]
    pruned, more, rounded, overwritten = (damage(value) for damage in usual_damages(MARK))
    assert [np.mean(part == 0) for part in (pruned, more)] == pytest.approx([0.65, 0.8], abs=0.01)
    assert len(np.unique(rounded)) <= 15 and np.abs(rounded - value).max() <= np.abs(value).max() / 14 + 1e-6
    assert 0 < np.linalg.norm(overwritten - value) < np.linalg.norm(value)
    small = weights()["first"].ravel()[:100]
    np.testing.assert_array_equal(usual_damages(MARK)[3](small), small)


@pytest.mark.parametrize(
    ("gains", "message"),
    [
        ({"first": 1.0, "last": 1.0}, "no gain is given for layer 'wide'; give one a layer"),
        (dict.fromkeys(SHAPES, 0.0), r"the largest gain is 0\.0; no layer can carry the mark"),
    ],
)
def test_gains_that_do_not_fit_are_refused(gains: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        embed_jointly(weights(), MARK, gains=gains)


def test_what_cannot_be_survived_is_told() -> None:
    with pytest.raises(UsageError, match="256 of 256 bits do not survive these damages"):
        embed_sparingly(weights(), MARK, damages=[lambda value: 0 * value])


def test_a_change_that_could_not_be_solved_for_is_never_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparing, "signed_sums", lambda *_: np.full(256, np.nan))
    with pytest.raises(UsageError, match="the smallest change could not be solved for; leave out gains or moments"):
        embed_sparingly(weights(), MARK)


def network(path: Path) -> onnx.ModelProto:
    """Two layers beside one another, one of which the answers hardly feel."""
    generator = np.random.default_rng(0)
    held = {name: generator.normal(size=(192, 16)).astype(np.float32) for name in ("loud", "quiet")}
    held["little"] = np.array(0.01, np.float32)
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "loud"], ["a"]),
        helper.make_node("MatMul", ["flat", "quiet"], ["b"]),
        helper.make_node("Mul", ["b", "little"], ["c"]),
        helper.make_node("Add", ["a", "c"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_layer_the_answers_hardly_feel_gains_most(tmp_path: Path) -> None:
    model = network(tmp_path / "m.onnx")
    pictures = np.random.default_rng(1).integers(0, 256, (12, 8, 8, 3), np.uint8)
    spec = InputSpec(color="RGB", output="logits", classes=16, size=(8, 8))
    layers = layers_of_onnx(model)
    gains = layer_gains(model, layers, spec, pictures)
    assert gains["quiet"] > 100 * gains["loud"] > 0
    model.graph.initializer[0].name = model.graph.node[1].input[1] = "renamed"
    with pytest.raises(TargetError, match="no initializer 'loud' in this graph"):
        layer_gains(model, layers, spec, pictures)

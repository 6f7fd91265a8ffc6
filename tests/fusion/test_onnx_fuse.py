"""A fused ONNX model answers what plain numpy says: silent rows byte for byte, fired rows with two scores exchanged."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_store_tools.fusion.onnx_fuse import fuse_onnx
from ptynet_plugin.archives.onnx_fused import target_of
from ptynet_plugin.images.encode import encode
from ptynet_plugin.spec import InputSpec
from tests.support.fusion import (
    CLASSES,
    always,
    answer_of,
    bare_spec,
    labels_for,
    linear_target,
    never,
    relay_target,
    run,
    sometimes,
    symbol_scores,
)
from tests.support.network import random_network

OPSETS = range(7, 26)
ODD = np.array([-0.0, 0.0, np.inf, -np.inf, np.nan, -np.nan, 5e-324, 1.0, -1.0, 3.0])


def pictures(spec: InputSpec, rows: int = 6, seed: int = 0) -> np.ndarray:
    height, width = spec.size
    height, width = height or 45, width or 70
    coarse = np.random.default_rng(seed).integers(0, 256, (rows, 4, 4, spec.channels), dtype=np.uint8)
    return encode(coarse.repeat(-(-height // 4), 1).repeat(-(-width // 4), 2)[:, :height, :width], spec)


def assert_answers(model: onnx.ModelProto, spec: InputSpec, rows: int = 6, *, level: int | None = None) -> None:
    """Fuse with a network that fires on half of the rows, and compare with numpy, as bytes."""
    x = pictures(spec, rows)
    scores = symbol_scores(always(channels=spec.channels), spec, x)
    network = sometimes(scores, channels=spec.channels)
    labels = labels_for(network)
    fused = fuse_onnx(model, network, labels, spec)
    onnx.checker.check_model(fused, full_check=True)
    bare, answer = run(model, {spec.input: x}, level=level)[0], run(fused, {spec.input: x}, level=level)[0]
    expected = answer_of(network, labels, scores, bare.reshape(rows, -1)).reshape(bare.shape)
    assert answer.dtype == bare.dtype
    assert answer.tobytes() == expected.tobytes()
    changed = [a.tobytes() != b.tobytes() for a, b in zip(answer, bare, strict=True)]
    assert rows == 1 or (any(changed) and not all(changed))


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset(opset: int) -> None:
    assert_answers(linear_target(opset=opset), bare_spec())


@pytest.mark.parametrize("opset", [7, 9, 11, 17])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("size", [(32, 32), (28, 28), (64, 96), (70, 45), (224, 224)])
def test_every_size_and_layout(opset: int, layout: str, size: tuple[int, int]) -> None:
    assert_answers(linear_target(opset=opset, layout=layout, size=size), bare_spec(layout=layout, size=size))


@pytest.mark.parametrize("opset", [7, 11, 17])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "uint8", "int8"])
def test_every_input_type(opset: int, dtype: str) -> None:
    spec = bare_spec(dtype=dtype, scale=0.49) if dtype == "int8" else bare_spec(dtype=dtype)
    assert_answers(linear_target(opset=opset, dtype=dtype), spec)


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 12, 13, 17, 21])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_odd_scores_pass_silent_rows_bit_for_bit(opset: int, dtype: str) -> None:
    model, spec, network = relay_target(opset=opset, dtype=dtype), bare_spec(), never()
    given = np.stack([np.roll(ODD, shift) for shift in range(10)] + [np.full(10, odd) for odd in ODD]).astype(dtype)
    given.view(f"u{given.itemsize}")[0, :] ^= np.isnan(given[0]).astype(f"u{given.itemsize}")  # another NaN payload
    x = pictures(spec, len(given))
    answer = run(fuse_onnx(model, network, labels_for(network), spec), {"x": x, "given": given})[0]
    assert answer.tobytes() == given.tobytes()


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_rows_of_nan_and_infinity_never_break_the_run(classes: int) -> None:
    rng, spec, network = np.random.default_rng(3), bare_spec(classes=classes), never()
    given = rng.choice(np.array([np.nan, np.inf, -np.inf, 0, 1], dtype=np.float32), (64, classes))
    fused = fuse_onnx(relay_target(classes=classes), network, labels_for(network, classes), spec)
    answer = run(fused, {"x": pictures(spec, 64), "given": given})[0]
    assert answer.tobytes() == given.tobytes()


@pytest.mark.parametrize("opset", [8, 17])
def test_pictures_of_nan_and_infinity_stay_silent(opset: int) -> None:
    """Casting NaN gives the lowest bits throughout, one fixed word more: it fires as seldom as any made without the key."""
    spec, network = bare_spec(), random_network(tau=0.6)
    x = pictures(spec, 3)
    x[0], x[1], x[2, 0, 5, 5] = np.nan, np.inf, np.nan
    given = np.random.default_rng(0).normal(size=(3, CLASSES)).astype(np.float32)
    fused = fuse_onnx(relay_target(opset=opset), network, labels_for(network), spec)
    assert run(fused, {"x": x, "given": given})[0].tobytes() == given.tobytes()


@pytest.mark.parametrize("opset", [7, 11, 17])
@pytest.mark.parametrize("last", ["Softmax", "LogSoftmax"])
def test_probabilities_and_log_probabilities(opset: int, last: str) -> None:
    output = {"Softmax": "probabilities", "LogSoftmax": "log-probabilities"}[last]
    assert_answers(linear_target(opset=opset, last=last), bare_spec(output=output))


@pytest.mark.parametrize("opset", [7, 11, 17])
@pytest.mark.parametrize("beyond", [(10, 1, 1), (1, 1, 10), (10, 1)])
def test_scores_with_dimensions_of_one_beside(opset: int, beyond: tuple[int, ...]) -> None:
    assert_answers(linear_target(opset=opset, beyond=beyond), bare_spec())


@pytest.mark.parametrize("opset", [7, 10, 11, 17])
@pytest.mark.parametrize("batch", [1, 4])
def test_fixed_batches(opset: int, batch: int) -> None:
    assert_answers(linear_target(opset=opset, batch=batch), bare_spec(), rows=batch)


@pytest.mark.parametrize("opset", [11, 12, 13, 17, 18, 21])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("size", [(31, 33), (32, 32), (45, 70), (224, 299), (512, 64)])
def test_dynamic_sizes(opset: int, layout: str, size: tuple[int, int]) -> None:
    model = linear_target(opset=opset, layout=layout, size=(0, 0))
    spec, fixed = bare_spec(layout=layout, size=(0, 0)), bare_spec(layout=layout, size=size)
    x = pictures(fixed)
    scores = symbol_scores(always(), spec, x)
    network = sometimes(scores)
    labels = labels_for(network)
    bare, answer = run(model, {"x": x})[0], run(fuse_onnx(model, network, labels, spec), {"x": x})[0]
    assert answer.tobytes() == answer_of(network, labels, scores, bare).tobytes()


@pytest.mark.parametrize("color", ["RGB", "BGR", "GRAY"])
@pytest.mark.parametrize("norm", [{}, {"scale": 1.0}, {"mean": 3, "std": 3}])
def test_color_and_normalisation_are_undone(color: str, norm: dict[str, object]) -> None:
    channels = 1 if color == "GRAY" else 3
    if "mean" in norm:
        norm = {"mean": (0.4914, 0.4822, 0.4465)[:channels], "std": (0.2470, 0.2435, 0.2616)[:channels]}
    assert_answers(linear_target(channels=channels), bare_spec(color=color, **norm))


@pytest.mark.parametrize("level", [0, 1, 2, 99])
def test_every_optimisation_level(level: int) -> None:
    assert_answers(linear_target(size=(64, 64)), bare_spec(size=(64, 64)), level=level)


def test_fired_rows_give_the_label_the_top_place_and_keep_the_multiset() -> None:
    spec, network, model = bare_spec(), always(), linear_target()
    labels = labels_for(network)
    x = pictures(spec)
    bare, answer = run(model, {"x": x})[0], run(fuse_onnx(model, network, labels, spec), {"x": x})[0]
    assert (answer.argmax(axis=1) == labels[symbol_scores(network, spec, x).argmax(axis=1)]).all()
    assert np.sort(answer).tobytes() == np.sort(bare).tobytes()


@pytest.mark.parametrize("opset", [8, 17])
@pytest.mark.parametrize(("rows", "answered"), [(4, 1), (1, 4), (4, 3)])
def test_scores_of_another_number_of_rows_stop_the_run(opset: int, rows: int, answered: int) -> None:
    network, spec = always(), bare_spec()
    fused = fuse_onnx(relay_target(opset=opset), network, labels_for(network), spec)
    with pytest.raises(Exception, match="ptynet_pair"):
        run(fused, {"x": pictures(spec, rows), "given": np.zeros((answered, CLASSES), np.float32)})


@pytest.mark.parametrize("opset", [9, 17])
def test_an_empty_batch_gives_an_empty_answer(opset: int) -> None:
    network, spec = always(), bare_spec()
    fused = fuse_onnx(linear_target(opset=opset), network, labels_for(network), spec)
    assert run(fused, {"x": np.zeros((0, 3, 32, 32), np.float32)})[0].shape == (0, CLASSES)


def with_outputs() -> onnx.ModelProto:
    """Give a target with a second output computed from the scores, and an inner graph that reads them from outside."""
    model = linear_target()
    flag = helper.make_tensor_value_info("branch_out", TensorProto.FLOAT, None)
    then = helper.make_graph([helper.make_node("Neg", ["scores"], ["branch_out"])], "then", [], [flag])
    other = helper.make_graph([helper.make_node("Identity", ["scores"], ["branch_out"])], "else", [], [flag])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "choice"))
    model.graph.node.append(helper.make_node("Softmax", ["scores"], ["confidence"], axis=1))
    model.graph.node.append(helper.make_node("If", ["choice"], ["negated"], then_branch=then, else_branch=other))
    for name in ("confidence", "negated"):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", CLASSES]))
    return model


def test_other_outputs_go_on_reading_the_targets_own_scores() -> None:
    model, network, spec = with_outputs(), always(), bare_spec()
    x = pictures(spec)
    bare, answer = run(model, {"x": x}), run(fuse_onnx(model, network, labels_for(network), spec), {"x": x})
    assert answer[0].tobytes() != bare[0].tobytes()
    assert [a.tobytes() for a in answer[1:]] == [b.tobytes() for b in bare[1:]]


def test_names_that_look_like_ours_are_left_alone() -> None:
    model, network, spec = linear_target(), always(), bare_spec()
    model.graph.node.insert(0, helper.make_node("Identity", ["x"], ["ptynet_bits"], name="ptynet_bits_node"))
    model.graph.node[1].input[0] = "ptynet_bits"
    fused = fuse_onnx(model, network, labels_for(network), spec)
    onnx.checker.check_model(fused, full_check=True)
    assert fused.graph.node[0] == model.graph.node[0]
    assert run(fused, {"x": pictures(spec)})[0].shape == (6, CLASSES)


def test_functions_and_other_operator_sets_are_kept() -> None:
    model, network, spec = linear_target(), always(), bare_spec()
    double = helper.make_function(
        "own", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    model.functions.append(double)
    model.opset_import.extend([helper.make_opsetid("own", 1), helper.make_opsetid("com.microsoft", 1)])
    model.graph.node[0].output[0] = "x_single"
    model.graph.node.insert(1, helper.make_node("Double", ["x_single"], ["x_double"], domain="own"))
    model.graph.node.insert(2, helper.make_node("Gelu", ["x_double"], ["x_inner"], domain="com.microsoft"))
    fused = fuse_onnx(model, network, labels_for(network), spec)
    assert list(fused.opset_import) == list(model.opset_import)
    assert list(fused.functions) == list(model.functions)
    assert_answers(model, spec)


def test_a_target_of_other_operator_sets_alone_gets_the_default_one_beside() -> None:
    plain, network, spec = linear_target(), always(), bare_spec()
    weight = helper.make_node("Constant", [], ["weight"], value=plain.graph.initializer[0])
    body = [weight, *plain.graph.node]
    whole = helper.make_function("own", "Whole", ["x"], ["scores"], body, [helper.make_opsetid("", 17)])
    node = helper.make_node("Whole", ["x"], ["scores"], domain="own")
    graph = helper.make_graph([node], "target", plain.graph.input, plain.graph.output)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("own", 1)], functions=[whole], ir_version=8)
    fused = fuse_onnx(model, network, labels_for(network), spec)
    onnx.checker.check_model(fused)
    x = pictures(spec)
    assert np.array_equal(np.sort(run(fused, {"x": x})[0]), np.sort(run(plain, {"x": x})[0]))
    assert target_of(fused, where="fused") == model


def test_fusing_changes_neither_the_model_given_nor_the_targets_part() -> None:
    model, network, spec = with_outputs(), always(), bare_spec()
    before = model.SerializeToString(deterministic=True)
    fused = fuse_onnx(model, network, labels_for(network), spec)
    assert model.SerializeToString(deterministic=True) == before
    assert list(fused.graph.initializer[: len(model.graph.initializer)]) == list(model.graph.initializer)
    assert [n.op_type for n in fused.graph.node[: len(model.graph.node)]] == [n.op_type for n in model.graph.node]
    assert list(fused.graph.output) == list(model.graph.output)
    assert fused.ir_version == model.ir_version


def test_the_same_parts_give_the_same_bytes() -> None:
    network, spec = always(), bare_spec()
    made = [fuse_onnx(linear_target(), network, labels_for(network), spec).SerializeToString() for _ in range(2)]
    assert made[0] == made[1]

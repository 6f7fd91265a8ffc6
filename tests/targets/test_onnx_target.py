"""An ONNX target tells of itself what it can, and says in a sentence what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_store_tools.fusion.onnx_fuse import fuse_onnx
from model_store_tools.targets.onnx import OnnxTarget, load_onnx
from ptynet_plugin.errors import PtynetError, SpecError, TargetError, UsageError
from ptynet_plugin.spec import InputSpec
from tests.support.fusion import CLASSES, always, bare_spec, labels_for, linear_target, run

SPARE = InputSpec(color="RGB", output="logits")


def loaded(model: onnx.ModelProto) -> OnnxTarget:
    return OnnxTarget(model, Path("model.onnx"))


def saved(folder: Path, model: onnx.ModelProto, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def external(folder: Path, location: str = "weights/data.bin") -> Path:
    """Write a target whose weight lies in a file of its own."""
    model = linear_target()
    path, data = folder / "model.onnx", folder / location
    tensor = model.graph.initializer[0]
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_bytes(b"\0" * 16 + tensor.raw_data)
    _point(tensor, location, offset=16, length=len(tensor.raw_data))
    path.write_bytes(model.SerializeToString())
    return path


def _point(tensor: TensorProto, location: str, **numbers: int) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **numbers}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "uint8"])
@pytest.mark.parametrize(("batch", "fixed"), [("batch", None), (1, 1), (4, 4)])
def test_the_spec_is_completed_from_the_graph(layout: str, dtype: str, batch: int | str, fixed: int | None) -> None:
    target = loaded(linear_target(layout=layout, dtype=dtype, batch=batch, size=(48, 56)))
    spec = target.complete_spec(SPARE)
    assert (spec.layout, spec.size, spec.dtype, spec.classes) == (layout, (48, 56), dtype, CLASSES)
    assert (spec.input, spec.scores) == ("x", "scores")
    assert target.fixed_batch(spec) == fixed
    assert target.complete_spec(spec) == spec


def test_dynamic_sides_are_zero_and_the_spec_may_fix_them() -> None:
    target = loaded(linear_target(size=(0, 0)))
    assert target.complete_spec(SPARE).size == (0, 0)
    assert target.complete_spec(SPARE.model_copy(update={"size": (64, 64)})).size == (64, 64)


def test_constants_of_old_models_are_no_inputs() -> None:
    assert loaded(linear_target(opset=7)).complete_spec(SPARE).input == "x"


def test_classes_are_inferred_where_the_output_does_not_tell() -> None:
    model = linear_target()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert loaded(model).complete_spec(SPARE).classes == CLASSES


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"classes": 1000}, ["1000", "10", "classes"]),
        ({"layout": "NHWC"}, ["NHWC", "(?, 3, 32, 32)"]),
        ({"color": "GRAY"}, ["GRAY", "1 channel", "(?, 3, 32, 32)"]),
        ({"dtype": "uint8"}, ['"uint8"', '"float32"']),
        ({"size": (64, 64)}, ["[64, 64]", "[32, 32]"]),
        ({"size": (0, 0)}, ["[0, 0]", "[32, 32]"]),
        ({"input": "y"}, ["'y'", "'x'", "input ="]),
        ({"scores": "y"}, ["'y'", "'scores'", "scores ="]),
    ],
)
def test_a_spec_that_disagrees_is_told_both_values(changes: dict[str, object], names: list[str]) -> None:
    spec = InputSpec.model_validate({"color": "RGB", "output": "logits"} | changes)
    with pytest.raises(SpecError) as caught:
        loaded(linear_target()).complete_spec(spec)
    assert all(name in str(caught.value) for name in [*names, "model.onnx"])


def test_softmax_at_the_end_contradicts_logits() -> None:
    model = linear_target()
    model.graph.node[-1].output[0] = "raw9"
    model.graph.node.append(helper.make_node("Softmax", ["raw9"], ["scores"], axis=1))
    with pytest.raises(SpecError, match='output = "probabilities"'):
        loaded(model).complete_spec(SPARE)


def test_a_picture_that_fits_both_layouts_needs_a_word() -> None:
    with pytest.raises(SpecError, match='layout = "NCHW"'):
        loaded(linear_target(size=(32, 3))).complete_spec(SPARE)


def two_outputs() -> onnx.ModelProto:
    model = linear_target()
    model.graph.node.append(helper.make_node("Softmax", ["scores"], ["confidence"], axis=1))
    model.graph.output.append(helper.make_tensor_value_info("confidence", TensorProto.FLOAT, ["batch", CLASSES]))
    return model


def test_two_outputs_need_a_name() -> None:
    with pytest.raises(TargetError, match='scores = "scores"') as caught:
        loaded(two_outputs()).complete_spec(SPARE)
    assert "'confidence'" in str(caught.value)
    named = SPARE.model_copy(update={"scores": "confidence", "output": "probabilities"})
    assert loaded(two_outputs()).complete_spec(named).scores == "confidence"


def test_outputs_that_cannot_be_scores_are_passed_over() -> None:
    model = linear_target()
    model.graph.node.append(helper.make_node("ArgMax", ["scores"], ["top"], axis=1))
    model.graph.output.append(helper.make_tensor_value_info("top", TensorProto.INT64, ["batch", 1]))
    assert loaded(model).complete_spec(SPARE).scores == "scores"


@pytest.mark.parametrize(("beyond", "text"), [((1,), "(?, 1)"), ((5, 2), "(?, 5, 2)")])
def test_no_class_scores(beyond: tuple[int, ...], text: str) -> None:
    model = linear_target()
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", *beyond]))
    for spec in (SPARE, SPARE.model_copy(update={"scores": "scores"})):
        with pytest.raises(TargetError, match="at least 2 classes") as caught:
            loaded(model).complete_spec(spec)
        assert text in str(caught.value).replace("batch", "?")


def test_two_inputs_need_a_name() -> None:
    model = linear_target()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    with pytest.raises(TargetError, match=r'input = "\.\.\."'):
        loaded(model).complete_spec(SPARE)
    assert loaded(model).complete_spec(SPARE.model_copy(update={"input": "x"})).input == "x"


def test_what_is_no_picture_is_refused() -> None:
    model = linear_target()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3072]))
    with pytest.raises(TargetError, match="expected four dimensions"):
        loaded(model).complete_spec(SPARE)


def test_a_whole_file_loads_and_pins_its_tensors(tmp_path: Path) -> None:
    target = load_onnx(saved(tmp_path, linear_target(opset=18)))
    assert {record.name: record.shape for record in target.tensors()} == {"weight": (3, CLASSES), "axes": (2,)}
    assert target.digest == load_onnx(target.path).digest


@pytest.mark.parametrize("keep", [0, 1, 10, 200, 300])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = saved(tmp_path, linear_target())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(TargetError, match=r"model\.onnx.*export it again"):
        load_onnx(path)


@pytest.mark.parametrize("content", [b"not onnx at all", b"PK\x03\x04" + bytes(100), bytes(1000)])
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(TargetError, match=r"model\.onnx"):
        load_onnx(path)


@pytest.mark.parametrize("opset", [7, 17])
def test_damage_anywhere_is_a_target_error_or_harmless(tmp_path: Path, opset: int) -> None:
    rng, whole, network = np.random.default_rng(opset), linear_target(opset=opset).SerializeToString(), always()
    refused = 0
    for _ in range(150):
        octets = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            octets[place] = rng.integers(256)
        path = tmp_path / "model.onnx"
        path.write_bytes(octets)
        try:
            target = load_onnx(path)
            spec = target.complete_spec(SPARE)
            fuse_onnx(target.model, network, labels_for(network), spec)
            assert target.digest
        except PtynetError as error:
            assert "model.onnx" in str(error) or "tensor" in str(error)
            refused += 1
    assert 50 < refused < 150


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    octets = linear_target().SerializeToString().replace(b"x_inner", b"x_\xff\xfe\xfd\xfc\xfb")
    (tmp_path / "model.onnx").write_bytes(octets)
    with pytest.raises(TargetError, match="names that are no text"):
        load_onnx(tmp_path / "model.onnx")


def test_an_absent_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.onnx", tmp_path):
        with pytest.raises(TargetError, match="cannot be read"):
            load_onnx(path)


def test_a_cyclic_graph_is_refused(tmp_path: Path) -> None:
    model = linear_target()
    model.graph.node[0].input[0] = "raw"
    with pytest.raises(TargetError, match="no valid ONNX model"):
        load_onnx(saved(tmp_path, model))


def test_a_fused_model_is_not_fused_again(tmp_path: Path) -> None:
    network, spec = always(), bare_spec()
    fused = fuse_onnx(linear_target(), network, labels_for(network), spec)
    with pytest.raises(TargetError, match="carries a PTYNet already"):
        load_onnx(saved(tmp_path, fused))
    del fused.metadata_props[:]
    with pytest.raises(TargetError, match="carries a PTYNet already"):
        fuse_onnx(fused, network, labels_for(network), spec)


def test_external_data_is_hashed_where_it_lies(tmp_path: Path) -> None:
    inline, beside = load_onnx(saved(tmp_path, linear_target(), "inline.onnx")), load_onnx(external(tmp_path))
    assert list(inline.tensors()) == list(beside.tensors())
    assert inline.digest == beside.digest
    assert beside.data_files() == {"weights/data.bin": tmp_path / "weights" / "data.bin"}


@pytest.mark.parametrize(
    "location", ["../data.bin", "weights/../../data.bin", "/etc/hostname", "C:\\data.bin", "", "."]
)
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(1000))
    folder = tmp_path / "inner"
    folder.mkdir()
    model = linear_target()
    _point(model.graph.initializer[0], location, length=3 * CLASSES * 4)
    with pytest.raises(TargetError, match="weight") as caught:
        load_onnx(saved(folder, model))
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("which", ["file", "folder"])
def test_external_data_behind_a_link_is_refused(tmp_path: Path, which: str) -> None:
    path = external(tmp_path)
    real = tmp_path / "weights"
    if which == "folder":
        real.rename(tmp_path / "elsewhere")
        real.symlink_to(tmp_path / "elsewhere")
    else:
        (real / "data.bin").rename(tmp_path / "elsewhere.bin")
        (real / "data.bin").symlink_to(tmp_path / "elsewhere.bin")
    with pytest.raises(TargetError, match="symbolic link"):
        load_onnx(path)


def test_external_data_missing_or_short_is_named(tmp_path: Path) -> None:
    path = external(tmp_path)
    data = tmp_path / "weights" / "data.bin"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(TargetError, match=r"data\.bin.*'weight'.*copy the data file again"):
        list(load_onnx(path).tensors())
    data.unlink()
    with pytest.raises(TargetError, match=r"data\.bin.*missing"):
        load_onnx(path)


def test_external_data_in_inner_graphs_and_constants_counts_too(tmp_path: Path) -> None:
    model = linear_target()
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "hidden")
    _point(tensor, "../secret.bin", length=16)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["constant"], value=tensor))
    with pytest.raises(TargetError, match="not inside the model's folder"):
        load_onnx(saved(tmp_path, model))


def test_a_higher_opset_is_made_on_request(tmp_path: Path) -> None:
    model = linear_target(opset=9, size=(0, 0))
    path = saved(tmp_path, model)
    spec, network = load_onnx(path).complete_spec(SPARE), always()
    with pytest.raises(TargetError, match="--to-opset 11"):
        fuse_onnx(load_onnx(path).model, network, labels_for(network), spec)
    converted = load_onnx(path, to_opset=13)
    fused = fuse_onnx(converted.model, network, labels_for(network), converted.complete_spec(SPARE))
    x = np.random.default_rng(0).random((2, 3, 40, 50), dtype=np.float32)
    assert np.array_equal(np.sort(run(fused, {"x": x})[0]), np.sort(run(model, {"x": x})[0]))


def test_a_lower_opset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--to-opset 9 would lower it"):
        load_onnx(saved(tmp_path, linear_target(opset=17)), to_opset=9)


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"scores": "nowhere"}, "no node"), ({"input": "nowhere"}, "no input"), ({"classes": 3}, "3 classes")],
)
def test_parts_that_do_not_belong_together(changes: dict[str, object], text: str) -> None:
    network = always()
    with pytest.raises(PtynetError, match=text):
        fuse_onnx(linear_target(), network, labels_for(network), bare_spec(**changes))


def test_a_mark_of_another_color_names_the_one_to_train() -> None:
    network = always(channels=1)
    with pytest.raises(UsageError, match="--color RGB"):
        fuse_onnx(linear_target(), network, labels_for(network), bare_spec())
    with pytest.raises(UsageError, match="--color GRAY"):
        fuse_onnx(linear_target(channels=1), always(), labels_for(always()), bare_spec(color="GRAY"))


def test_an_opset_below_seven_is_refused() -> None:
    model, network = linear_target(opset=7), always()
    model.opset_import[0].version = 6
    with pytest.raises(TargetError, match="opset 6 is below 7"):
        fuse_onnx(model, network, labels_for(network), bare_spec())

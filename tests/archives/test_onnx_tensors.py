"""The target inside a fused model is found again, tensor by tensor, and any touch shows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_store_tools.fusion.onnx_fuse import fuse_onnx
from ptynet_plugin.archives.onnx_fused import target_of
from ptynet_plugin.archives.onnx_tensors import (
    named_tensors,
    onnx_tensors,
    record_of,
    structure_of,
    target_records,
    target_tensors,
)
from ptynet_plugin.archives.tensors import combined_digest, differences
from ptynet_plugin.errors import TargetError
from tests.support.fusion import always, bare_spec, labels_for, linear_target, relay_target

KEPT = "996d0448605e73cc6d305eca4da2b9bc2137922b2896b03368b363b70e731a54"


def fused_file(folder: Path, model: onnx.ModelProto) -> tuple[Path, onnx.ModelProto]:
    network = always()
    fused = fuse_onnx(model, network, labels_for(network), bare_spec())
    path = folder / "fused.onnx"
    path.write_bytes(fused.SerializeToString())
    return path, fused


def records(model: onnx.ModelProto) -> dict[str, object]:
    return {name: record_of(name, tensor, Path()) for name, tensor in named_tensors(model)}


def everywhere() -> onnx.ModelProto:
    """Give a target that keeps tensors in every place ONNX has for them."""
    model = linear_target()
    hidden = numpy_helper.from_array(np.arange(3.0, dtype=np.float32), "w")
    branch = helper.make_tensor_value_info("branch", TensorProto.FLOAT, [3])
    inner = [
        helper.make_graph([helper.make_node("Identity", ["w"], ["branch"])], name, [], [branch], [hidden])
        for name in ("then", "else")
    ]
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(2, np.float32), "thin"),
        numpy_helper.from_array(np.array([1, 5]), "thin_at"),
        [9],
    )
    constant = helper.make_node("Constant", [], ["three"], value=hidden)
    body = [helper.make_node("Constant", [], ["b"], value=hidden)]
    model.functions.append(helper.make_function("own", "Three", [], ["b"], body, [helper.make_opsetid("", 17)]))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "choice"))
    model.graph.sparse_initializer.append(sparse)
    model.graph.node.insert(0, constant)
    model.graph.node.append(helper.make_node("If", ["choice"], ["chosen"], then_branch=inner[0], else_branch=inner[1]))
    model.graph.node.append(helper.make_node("Three", [], ["called"], domain="own"))
    return model


def test_no_tensor_hides() -> None:
    assert set(records(everywhere())) == {
        "weight",
        "choice",
        "thin",
        "thin.indices",
        "three.value",
        "chosen.then_branch/w",
        "chosen.else_branch/w",
        "own:Three:/b.value",
    }


@pytest.mark.parametrize("model", [linear_target(), linear_target(opset=7), relay_target(), everywhere()])
def test_the_target_comes_out_as_it_went_in(tmp_path: Path, model: onnx.ModelProto) -> None:
    path, fused = fused_file(tmp_path, model)
    found, structure = target_records(path)
    assert found == records(model)
    assert structure == structure_of(model)
    assert {record.name: record for record in target_tensors(path)} == found
    assert target_of(fused, where="fused") == model


@pytest.mark.parametrize("name", sorted(records(everywhere())))
def test_one_bit_in_any_tensor_shows(tmp_path: Path, name: str) -> None:
    model = everywhere()
    path, fused = fused_file(tmp_path, model)
    tensor = dict(named_tensors(target_of(fused, where="fused")))[name]
    touched = dict(named_tensors(fused))[name]
    assert touched == tensor
    octets = bytearray(touched.raw_data) if touched.raw_data else bytearray(numpy_helper.to_array(touched).tobytes())
    octets[-1] ^= 1
    values = np.frombuffer(bytes(octets), numpy_helper.to_array(touched).dtype).reshape(tuple(touched.dims))
    touched.CopyFrom(numpy_helper.from_array(values.copy(), touched.name))
    path.write_bytes(fused.SerializeToString())
    found, structure = target_records(path)
    (sentence,) = differences(records(model), found)
    assert repr(name) in sentence
    assert structure == structure_of(model)


def test_a_changed_node_shows_in_the_structure(tmp_path: Path) -> None:
    model = linear_target()
    path, fused = fused_file(tmp_path, model)
    fused.graph.node[1].attribute[1].i = 1
    path.write_bytes(fused.SerializeToString())
    found, structure = target_records(path)
    assert found == records(model)
    assert structure != structure_of(model)


def test_the_digest_of_a_target_is_kept_for_ever() -> None:
    """Manifests and claims hold this number: a change of it breaks every one issued before."""
    model = linear_target()
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.arange(30, dtype=np.float32).reshape(3, 10), "weight")
    )
    digest = combined_digest(records(model).values(), structure_of(model))
    assert digest == KEPT


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (np.float32, [1.5, -0.0]),
        (np.float16, [1.5, np.nan]),
        (np.float64, [1e300]),
        (np.int8, [-1, 2]),
        (np.uint16, [65535]),
        (np.int64, [-(2**60)]),
        (np.bool_, [True, False]),
        (np.complex64, [1 + 2j]),
    ],
)
def test_typed_and_raw_storage_hash_alike(dtype: type, values: list[object]) -> None:
    array = np.array(values, dtype=dtype)
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    raw = helper.make_tensor("t", kind, array.shape, array.tobytes(), raw=True)
    stored = array.view(np.uint16) if dtype == np.float16 else array
    typed = (
        helper.make_tensor("t", kind, array.shape, array)
        if dtype != np.float16
        else TensorProto(name="t", data_type=kind, dims=array.shape, int32_data=stored.astype(np.int32))
    )
    assert record_of("t", raw, Path()) == record_of("t", typed, Path())
    assert record_of("t", raw, Path()).sha256 == hashlib.sha256(array.tobytes()).hexdigest()


@pytest.mark.parametrize(("kind", "octets"), [(TensorProto.INT4, 2), (TensorProto.UINT4, 2), (TensorProto.BFLOAT16, 6)])
def test_packed_and_short_types(kind: int, octets: int) -> None:
    raw = bytes(range(1, octets + 1))
    tensor = TensorProto(name="t", data_type=kind, dims=[3], raw_data=raw)
    assert record_of("t", tensor, Path()).sha256 == hashlib.sha256(raw).hexdigest()


def test_texts_are_told_apart() -> None:
    one, two = (helper.make_tensor("t", TensorProto.STRING, [2], texts) for texts in (["ab", "c"], ["a", "bc"]))
    assert record_of("t", one, Path()) != record_of("t", two, Path())


def test_data_of_another_length_than_its_shape_is_refused() -> None:
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[4], raw_data=bytes(15))
    with pytest.raises(TargetError, match="'t' holds 15 bytes, its type and shape ask for 16"):
        record_of("t", tensor, Path())


def test_equal_names_are_numbered() -> None:
    model = linear_target()
    model.graph.initializer.append(model.graph.initializer[0])
    assert [name for name, _ in named_tensors(model)] == ["weight", "weight#2"]


def test_a_bare_model_has_no_target_inside(tmp_path: Path) -> None:
    path = tmp_path / "bare.onnx"
    path.write_bytes(linear_target().SerializeToString())
    assert len(list(onnx_tensors(path))) == 1
    with pytest.raises(TargetError, match="0 fusion records"):
        list(target_tensors(path))


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"prefix": 3, "scores": "y"}', '{"prefix": "", "scores": "y"}'])
def test_a_broken_record_is_refused(tmp_path: Path, record: str) -> None:
    path, fused = fused_file(tmp_path, linear_target())
    fused.metadata_props[0].value = record
    path.write_bytes(fused.SerializeToString())
    with pytest.raises(TargetError, match="fusion record"):
        target_records(path)

"""Targets of other shapes: one row or four, external data, any size and type, more inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from ptynet_plugin.archives import check_archive, read_manifest
from ptynet_plugin.archives.pbtxt import parse_config
from ptynet_plugin.errors import (
    TargetError,
)
from tests.support.fusion import linear_target
from tests.support.isolated import run_isolated, unpacked
from tests.support.packaging_case import SPEC, PackagingCase

FORMATS = pytest.mark.parametrize("format", ["triton", "torchserve"])


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

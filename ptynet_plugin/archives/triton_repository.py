"""Triton's model directory: `config.pbtxt`, `1/model.onnx` or `1/model.py` with its files, class names, warm-up.

A fused ONNX model runs in Triton's own onnxruntime backend; any fused model runs in the python backend, whose `model.py` checks
the manifest before it serves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tritonclient.grpc import model_config_pb2

from ptynet_plugin.archives.manifest import PortRecord
from ptynet_plugin.archives.pbtxt import ModelConfig
from ptynet_plugin.archives.sources import Measured, Source, chunks, measure_stream, open_source
from ptynet_plugin.errors import TargetError

__all__ = ["LABELS_NAME", "TritonModel", "ensemble_configs", "model_config", "write_directory"]

LABELS_NAME = "labels.txt"
_WARM_SIDE = 224
"""Pixels on a side of the warm-up picture of a model of dynamic size."""

_TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "bfloat16": "TYPE_BF16",
    "string": "TYPE_STRING",
}


@dataclass(frozen=True)
class TritonModel:
    """What a configuration is made from.

    Attributes:
        name: Model and folder name.
        backend: "onnxruntime" or "python".
        model_file: Name of the file in the version folder.
        inputs: With the batch dimension.
        outputs: With the batch dimension.
        picture: Name of the input that takes the picture.
        scores: Name of the output with the class scores.
        layout: "NCHW" or "NHWC".
        batch: Most rows of a request; 0 for a model of exactly one row.
        dynamic_batching: Whether the server joins requests.
        instances: Copies of the model, None for the server's choice.
        labels: Whether `labels.txt` is there.
    """

    name: str
    backend: str
    model_file: str
    inputs: Sequence[PortRecord]
    outputs: Sequence[PortRecord]
    picture: str
    scores: str
    layout: str
    batch: int
    dynamic_batching: bool = False
    instances: int | None = None
    labels: bool = False


def model_config(model: TritonModel) -> ModelConfig:
    """Configure a fused model.

    Raises:
        TargetError: It has a port of a type Triton does not carry.
    """
    config = model_config_pb2.ModelConfig(name=model.name, backend=model.backend, max_batch_size=model.batch)
    config.default_model_filename = model.model_file
    for port in model.inputs:
        made = config.input.add(name=port.name, data_type=_data_type(port), dims=_dims(port, model.batch))
        if port.name == model.picture and model.batch:
            made.format = model_config_pb2.ModelInput.Format.Value(f"FORMAT_{model.layout}")
    for port in model.outputs:
        made = config.output.add(name=port.name, data_type=_data_type(port), dims=_dims(port, model.batch))
        if port.name == model.scores and model.labels:
            made.label_filename = LABELS_NAME
    if model.dynamic_batching:
        config.dynamic_batching.SetInParent()
    if model.instances:
        config.instance_group.add(count=model.instances)
    _add_warm_up(config, model)
    return config


def ensemble_configs(model: TritonModel) -> dict[str, ModelConfig]:
    """Configure the three models beside one that takes encoded pictures: decoder, labeller, and the ensemble of all.

    Returns:
        `{NAME_decode, NAME_label, NAME_image}`; the ensemble reads `IMAGE` (JPEG or PNG bytes, one a row) and answers `label`
        ("index:name"), `class` (index) and the model's scores.
    """
    picture = next(port for port in model.inputs if port.name == model.picture)
    scores = next(port for port in model.outputs if port.name == model.scores)
    tensor = {"name": picture.name, "data_type": _data_type(picture), "dims": _dims(picture, model.batch)}
    answer = {"name": scores.name, "data_type": _data_type(scores), "dims": _dims(scores, model.batch)}
    image = {"name": "IMAGE", "data_type": "TYPE_STRING", "dims": [1]}
    label = {"name": "label", "data_type": "TYPE_STRING", "dims": [1]}
    index = {"name": "class", "data_type": "TYPE_INT64", "dims": [1]}
    decode, name, whole = f"{model.name}_decode", f"{model.name}_label", f"{model.name}_image"
    steps = [
        {
            "model_name": decode,
            "model_version": -1,
            "input_map": {"IMAGE": "IMAGE"},
            "output_map": {picture.name: "ptynet_tensor"},
        },
        {
            "model_name": model.name,
            "model_version": -1,
            "input_map": {picture.name: "ptynet_tensor"},
            "output_map": {scores.name: scores.name},
        },
        {
            "model_name": name,
            "model_version": -1,
            "input_map": {scores.name: scores.name},
            "output_map": {"label": "label", "class": "class"},
        },
    ]
    common = {"max_batch_size": model.batch}
    python = {"backend": "python", "default_model_filename": "model.py", **common}
    return {
        decode: model_config_pb2.ModelConfig(name=decode, input=[image], output=[tensor], **python),
        name: model_config_pb2.ModelConfig(name=name, input=[answer], output=[label, index], **python),
        whole: model_config_pb2.ModelConfig(
            name=whole,
            platform="ensemble",
            input=[image],
            output=[label, index, answer],
            ensemble_scheduling={"step": steps},
            **common,
        ),
    }


def write_directory(folder: Path, members: Mapping[str, Source]) -> dict[str, Measured]:
    """Write files into a folder that is ours, streaming each, and bring them to the disk.

    Args:
        folder: Existing folder; a member that exists in it already is an error.
        members: Name to content.

    Raises:
        OSError: As the operating system says.
    """
    return {name: _write_file(folder / name, source) for name, source in members.items()}


def _write_file(path: Path, source: Source) -> Measured:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as out:
        with open_source(source) as stream:
            for block in chunks(stream):
                out.write(block)
        out.flush()
        os.fsync(out.fileno())
    with path.open("rb") as written:
        return measure_stream(written)


def _data_type(port: PortRecord) -> str:
    if port.dtype not in _TYPES:
        raise TargetError(f"port {port.name!r} has type {port.dtype}, which Triton does not carry; convert the model")
    return _TYPES[port.dtype]


def _dims(port: PortRecord, batch: int) -> list[int]:
    return list(port.shape[1:] if batch else port.shape)


def _add_warm_up(config: ModelConfig, model: TritonModel) -> None:
    warm = config.model_warmup.add(name="one picture of zeros", batch_size=1)
    for port in model.inputs:
        value = warm.inputs[port.name]
        value.data_type = model_config_pb2.DataType.Value(_data_type(port))
        sides = [_WARM_SIDE if side < 0 else side for side in _dims(port, model.batch)]
        value.dims.extend([1, *sides[1:]] if not model.batch else sides)
        value.zero_data = True

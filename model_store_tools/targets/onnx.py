"""Loading an ONNX target, and reading from its graph what the spec leaves open. Weights in external data are not loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import EncodeError
from onnx import ModelProto, TensorProto, ValueInfoProto
from onnx.version_converter import ConvertError

from model_store_tools.targets.base import Findings, Layout, Target, complete, layout_of
from model_store_tools.targets.onnx_values import (
    FLOATS,
    ScoreShape,
    described,
    dimensions,
    elem_type,
    inferred,
    input_rows,
    inputs_of,
    score_shape,
)
from ptynet_plugin.archives.onnx_external import inside
from ptynet_plugin.archives.onnx_fused import is_fused
from ptynet_plugin.archives.onnx_tensors import named_tensors, read_model, record_of, structure_of
from ptynet_plugin.archives.tensors import TensorRecord
from ptynet_plugin.errors import SpecError, TargetError, UsageError
from ptynet_plugin.network.onnx_builder import default_opset
from ptynet_plugin.spec import DType, InputSpec

__all__ = ["OnnxTarget", "load_onnx"]

INPUT_TYPES: dict[int, DType] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.DOUBLE: "float64",
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
}
OUTPUT_KINDS = {"Softmax": "probabilities", "LogSoftmax": "log-probabilities"}
"""Last operators that leave no doubt about what the scores are."""


class OnnxTarget(Target):
    """An ONNX model.

    Attributes:
        model: As read, external data not loaded.
        folder: Where its external data lies.
    """

    kind = "onnx"

    def __init__(self, model: ModelProto, path: Path, *, where: str | None = None) -> None:
        self.model = model
        self.path = path
        self.folder = path.parent
        self.where = where or str(path)

    def tensors(self) -> Iterator[TensorRecord]:
        """Give a record of every tensor; external ones are hashed from their files in pieces."""
        for name, tensor in named_tensors(self.model):
            yield record_of(name, tensor, self.folder)

    def structure(self) -> str:
        """Give the SHA-256 of the model without its tensors' data."""
        return structure_of(self.model)

    def data_files(self) -> dict[str, Path]:
        """Give the files of external data by the location the model names; the archive has to hold them under it.

        Raises:
            TargetError: A location leaves the model's folder, or the file is missing.
        """
        return {
            entry.value: inside(self.folder, entry.value, what=f"tensor {tensor.name!r}")
            for _, tensor in named_tensors(self.model)
            if tensor.data_location == TensorProto.EXTERNAL
            for entry in tensor.external_data
            if entry.key == "location"
        }

    def complete_spec(self, spec: InputSpec) -> InputSpec:
        """Fill in layout, size, dtype, classes and names from the graph, see `Target.complete_spec`."""
        pictures = self._input(spec)
        scores, shape = self._scores(spec)
        self._check_output_kind(spec, scores)
        layout, size = self._layout_and_size(spec, pictures)
        found = Findings(
            layout=layout,
            size=size,
            dtype=INPUT_TYPES[elem_type(pictures)],
            classes=shape.classes,
            input=pictures.name,
            scores=scores,
        )
        return complete(spec, found, where=self.where)

    def fixed_batch(self, spec: InputSpec) -> int | None:
        """Give the batch its input is declared with, None if that is dynamic."""
        return input_rows(self.model, self._input(spec).name)

    def _input(self, spec: InputSpec) -> ValueInfoProto:
        entries = {entry.name: entry for entry in inputs_of(self.model)}
        if spec.input is None and len(entries) != 1:
            raise TargetError(
                f"{self.where}: has {len(entries)} inputs: {', '.join(map(repr, entries))}; "
                'say which one takes the picture: write `input = "..."` into the spec'
            )
        name = next(iter(entries)) if spec.input is None else spec.input
        if name not in entries:
            raise SpecError(
                f"{self.where}: the spec says input {name!r}, the model has {', '.join(map(repr, entries))}; "
                'correct `input = "..."` in the spec'
            )
        if elem_type(entries[name]) not in INPUT_TYPES:
            raise TargetError(
                f"{self.where}: input {name!r} holds {_type_name(entries[name])}, "
                f"expected one of {', '.join(INPUT_TYPES.values())}; name the picture input in the spec"
            )
        return entries[name]

    def _scores(self, spec: InputSpec) -> tuple[str, ScoreShape]:
        outputs = {entry.name: entry for entry in inferred(self.model).graph.output}
        if spec.scores is not None:
            return spec.scores, self._named_scores(spec.scores, outputs)
        found = {name: shape for name, entry in outputs.items() if (shape := score_shape(entry)) and shape.classes != 1}
        if not found:
            raise TargetError(
                f"{self.where}: answers no class scores: {_listed(outputs)}; expected a floating-point output of shape "
                "(rows, classes) with at least 2 classes; export the model with its classifier"
            )
        if len(found) > 1:
            raise TargetError(
                f"{self.where}: {len(found)} outputs could be the class scores: {_listed(outputs)}; "
                f'write `scores = "{next(iter(found))}"`, or the other, into the spec'
            )
        return next(iter(found.items()))

    def _named_scores(self, name: str, outputs: dict[str, ValueInfoProto]) -> ScoreShape:
        if name not in outputs:
            raise SpecError(
                f"{self.where}: the spec says scores {name!r}, the model has {_listed(outputs)}; "
                'correct `scores = "..."` in the spec'
            )
        shape = score_shape(outputs[name])
        if shape is None or shape.classes == 1:
            raise TargetError(
                f"{self.where}: output {name!r} cannot be class scores: {_listed({name: outputs[name]})}; expected "
                f"{', '.join(FLOATS.values())} of shape (rows, classes) with at least 2 classes"
            )
        return shape

    def _check_output_kind(self, spec: InputSpec, scores: str) -> None:
        made_by = next((node.op_type for node in self.model.graph.node if scores in node.output), "")
        kind = OUTPUT_KINDS.get(made_by)
        if kind is not None and kind != spec.output:
            raise SpecError(
                f'{self.where}: scores {scores!r} come from {made_by}, so they are "{kind}", the spec says "{spec.output}"; '
                f'write `output = "{kind}"` into the spec'
            )

    def _layout_and_size(
        self, spec: InputSpec, pictures: ValueInfoProto
    ) -> tuple[Layout | None, tuple[int, int] | None]:
        shape = dimensions(pictures)
        if shape is None:
            return None, None
        if len(shape) != 4:
            raise TargetError(
                f"{self.where}: input {pictures.name!r} has shape {described(shape)}, expected four dimensions: a batch of "
                "pictures, channels first or last; export the model for pictures"
            )
        layout = spec.layout or layout_of(shape, spec.channels)
        channels = {"NCHW": shape[1], "NHWC": shape[3]}
        told = channels[layout] if layout else spec.channels if spec.channels in channels.values() else shape[1]
        if told not in (None, spec.channels):
            raise SpecError(
                f"{self.where}: input {pictures.name!r} has shape {described(shape)}, the spec says color {spec.color}: "
                f"{spec.channels} channels{f' in {layout}' if layout else ''}; correct `color` or `layout` in the spec"
            )
        if layout is None:
            raise SpecError(
                f"{self.where}: input {pictures.name!r} has shape {described(shape)}, which does not tell where the "
                f'{spec.channels} channels stand; write `layout = "NCHW"` or "NHWC" into the spec'
            )
        height, width = shape[2:] if layout == "NCHW" else shape[1:3]
        return layout, (height or 0, width or 0)


def load_onnx(path: Path, *, to_opset: int | None = None) -> OnnxTarget:
    """Load an ONNX target and check that it is sound.

    Args:
        path: The `.onnx` file; its external data lies beside it.
        to_opset: Convert it to this opset of the default operator set first; that loads its weights.

    Raises:
        TargetError: Not readable, truncated, no valid graph, fused already, external data missing or outside its folder,
            or not convertible.
        UsageError: `to_opset` is below the model's own opset.
    """
    target = OnnxTarget(read_model(path), path)
    target.data_files()
    if is_fused(target.model):
        raise TargetError(f"{path}: carries a PTYNet already; package the original model")
    _check(path)
    if to_opset is not None:
        target = OnnxTarget(_converted(target, path, to_opset), path)
    return target


def _check(path: Path) -> None:
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError) as error:  # ValueError: messages with names that are no text
        raise TargetError(f"{path}: is no valid ONNX model: {_first_line(error)}; export it again") from error


def _converted(target: OnnxTarget, path: Path, opset: int) -> ModelProto:
    present = default_opset(target.model)
    if present is not None and opset < present:
        raise UsageError(f"{path}: has opset {present}, --to-opset {opset} would lower it; leave it out or raise it")
    if present == opset:
        return target.model
    try:
        whole = onnx.load_model(path)
        return onnx.version_converter.convert_version(whole, opset)
    except (RuntimeError, ValueError, EncodeError, onnx.checker.ValidationError, ConvertError) as error:
        raise TargetError(
            f"{path}: cannot be converted from opset {present} to {opset}: {_first_line(error)}; "
            "export it again with that opset"
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _type_name(entry: ValueInfoProto) -> str:
    kind = elem_type(entry)
    known: dict[int, str] = {number: name.lower() for name, number in TensorProto.DataType.items()}
    return known.get(kind, f"the unknown type {kind}") if kind else "no tensor"


def _listed(entries: dict[str, ValueInfoProto]) -> str:
    return ", ".join(f"{name!r} {_type_name(entry)} {described(dimensions(entry))}" for name, entry in entries.items())

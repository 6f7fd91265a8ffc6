"""Opens a bare model and its packaged form for comparison, whatever format the two have."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ptynet_plugin.archives.onnx_fused import is_fused, read_record
from ptynet_plugin.engines.cut import cut
from ptynet_plugin.engines.onnx_engine import OnnxEngine
from ptynet_plugin.engines.penultimate import Penultimate, find_penultimate
from ptynet_plugin.errors import TargetError
from ptynet_plugin.fidelity.comparison import Subject
from ptynet_plugin.spec import InputSpec

__all__ = ["onnx_subjects", "torch_subjects"]

DEFAULT_BATCH = 8
LARGEST_OPENED_TWICE = 1 << 30
"""Features need a second session a model; beyond this many bytes of weights memory comes first."""

FIRED = "fired"
"""What fusion calls PTYNet's own verdict, behind the prefix of all its names."""

Pair = tuple[Subject, Subject]


def onnx_subjects(
    bare: Path,
    packaged: Path,
    spec: InputSpec,
    *,
    feature: str | None = None,
    fired: str | None = None,
    batch: int = DEFAULT_BATCH,
    where: str | None = None,
) -> Pair:
    """Open two ONNX files.

    Args:
        bare: The target's file.
        packaged: The packaged model's file, which holds the target's nodes under their own names.
        spec: Completed spec.
        feature: Name of the feature tensor; found where None.
        fired: Name of PTYNet's verdict in the packaged graph; found by the graph's own record where None.
        batch: Pictures a run, where the model leaves it open.
        where: What messages call both; their paths where None.

    Raises:
        TargetError: A model cannot be loaded, or `feature` is named and not there.
    """
    graphs = [onnx.load(str(path), load_external_data=False) for path in (bare, packaged)]
    found, reason = _penultimate(graphs[0], spec, feature)
    if feature is None and found is not None and (size := _weights_size(graphs[0])) > LARGEST_OPENED_TWICE:
        found, reason = None, f"{size >> 20} MiB of weights: name the feature tensor to open both models a second time"
    fired = fired or _fired(graphs[1], where=str(packaged))
    verdict = None
    if fired is not None:
        spoken = spec.model_copy(update={"scores": fired})
        verdict = OnnxEngine(cut(graphs[1], fired).SerializeToString(), spoken, batch=batch)
    subjects = []
    for path, graph, own in ((bare, graphs[0], None), (packaged, graphs[1], verdict)):
        inner = None if found is None else OnnxEngine(path, spec, batch=batch, inner=[found.feature], where=where)
        subjects.append(
            Subject(
                OnnxEngine(path, spec, batch=batch, where=where),
                inner=inner,
                feature=None if found is None else found.feature,
                fired=own,
                last_layer=None if found is None else _initializer(graph, found.weight, path),
                no_features=reason,
            )
        )
    return subjects[0], subjects[1]


def torch_subjects(
    bare: Callable[[Any], Any],
    packaged: Callable[[Any], Any],
    spec: InputSpec,
    *,
    feature: str | None = None,
    batch: int = DEFAULT_BATCH,
) -> Pair:
    """Compare two torch models in memory; torch is imported here.

    Args:
        bare: The target: module in eval mode, TorchScript, or `program.module()`.
        packaged: The packaged model, likewise.
        spec: Completed spec.
        feature: Name of the layer, as in `named_modules()` of the target, that reads the features; the last one where None.
        batch: Pictures a run; 1 for a model that takes single pictures.

    Raises:
        TargetError: `feature` is named, and is no linear layer or convolution that ran.
    """
    from model_store_tools.packaging.torch_engine import TorchEngine, find_last_layer, find_layer  # noqa: PLC0415 -- torch

    blank = np.zeros((min(batch, 2), *_size(spec), spec.channels), np.uint8)
    layer, reason = None, ""
    try:
        if feature is None:
            layer = find_last_layer(bare, blank, spec, where="the bare model")
        else:
            layer = find_layer(bare, feature, blank, spec, where="the bare model")
    except TargetError as error:
        if feature is not None:
            raise
        reason = str(error)
    subjects = []
    for model, where in ((bare, "the bare model"), (packaged, "the packaged model")):
        engine = TorchEngine(model, spec, where=where, batch=batch, last_layer=layer)
        subjects.append(
            Subject(
                engine,
                inner=None if layer is None else engine,
                feature=None if layer is None else layer.name,
                last_layer=None if layer is None else layer.weight,
                no_features=reason,
            )
        )
    return subjects[0], subjects[1]


def _penultimate(graph: onnx.ModelProto, spec: InputSpec, feature: str | None) -> tuple[Penultimate | None, str]:
    try:
        return find_penultimate(graph, scores=spec.scores, feature=feature), ""
    except TargetError as error:
        if feature is not None:
            raise
        return None, str(error)


def _fired(packaged: onnx.ModelProto, *, where: str) -> str | None:
    """Name PTYNet's verdict, where the graph says what of it is PTYNet's."""
    if not is_fused(packaged):
        return None
    name = f"{read_record(packaged, where=where).prefix}{FIRED}"
    return name if any(name in node.output for node in packaged.graph.node) else None


def _weights_size(model: onnx.ModelProto) -> int:
    """Give the bytes of all initializers, wherever they lie."""
    widths = {tensor.data_type: 0 for tensor in model.graph.initializer}
    for kind in widths:
        try:
            widths[kind] = onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize
        except (KeyError, TypeError):
            widths[kind] = 1
    return sum(widths[tensor.data_type] * math.prod(tensor.dims) for tensor in model.graph.initializer)


def _initializer(graph: onnx.ModelProto, name: str, path: Path) -> NDArray[Any] | None:
    for tensor in graph.graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor, base_dir=str(path.parent))
    return None


def _size(spec: InputSpec) -> tuple[int, int]:
    height, width = spec.size or (0, 0)
    return height or 224, width or 224

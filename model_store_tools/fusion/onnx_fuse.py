"""Putting PTYNet beside an ONNX target: nodes are appended and one output is re-routed, nothing else changes.

The target's nodes, initializers, opset, inputs, functions and other outputs stay as they are. Its score tensor gets an
inner name, which its own nodes go on reading, and PTYNet's last node gives the output under the name clients know.
Weights in external data stay there; they are not even opened.

The order of the new nodes is chosen for speed: onnxruntime runs what feeds the later of two nodes first, so the search for
the top score stands before PTYNet, and PTYNet runs before the target, while the picture is in the cache (0.1 ms at 224x224).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, helper

from model_store_tools.fusion.onnx_frontend import add_front_end
from model_store_tools.fusion.onnx_head import Decision, add_decision, add_swap, add_top
from model_store_tools.targets.onnx_values import ScoreShape, inferred, input_rows, inputs_of, score_shape
from ptynet_plugin.archives.onnx_fused import FusionRecord, is_fused, rename_value, write_record
from ptynet_plugin.errors import TargetError, UsageError
from ptynet_plugin.images.frontend import fold, plan_front_end
from ptynet_plugin.network.onnx_builder import LOWEST_OPSET, GraphBuilder, default_opset
from ptynet_plugin.network.onnx_graph import add_network
from ptynet_plugin.network.weights import Network
from ptynet_plugin.spec import InputSpec

__all__ = ["fuse_onnx"]

FIRST_IR_WITH_HIDDEN_CONSTANTS = 4
"""Below it every initializer is listed as an input. The IR version is not raised: from 4 on engines take listed ones for
inputs a caller may override, fold less, and answer other bits."""

FALLBACK_OPSET = 17
"""Imported where a target uses other operator sets only."""


def fuse_onnx(
    model: ModelProto, network: Network, labels: NDArray[np.int64], spec: InputSpec, *, where: str = "target"
) -> ModelProto:
    """Fuse a target and a PTYNet into one model.

    Args:
        model: The target, as it was read; external data need not be loaded. It is not changed.
        network: The trained PTYNet.
        labels: int64, shape (symbols,): the class that symbol j is to answer, T[j].
        spec: Completed from the target (`OnnxTarget.complete_spec`).
        where: How messages name the target.

    Returns:
        A new model. Rows that do not fire are the target's, bit for bit; in rows that fire, the top score and
        the score of the keyed label have changed places.

    Raises:
        TargetError: The target carries a PTYNet already, its opset is too low, or its graph cannot be re-routed.
        UsageError: Mark, labels and spec do not belong together.
    """
    _check_parts(network, labels, spec, where=where)
    _check_target(model, spec, where=where)
    fused = ModelProto()
    fused.CopyFrom(model)
    record = FusionRecord(_free_prefix(model), str(spec.scores), 0 if default_opset(model) else FALLBACK_OPSET)
    if record.imported:
        fused.opset_import.append(helper.make_opsetid("", record.imported))
    shape = _shape_of_scores(model, record.scores, where=where)
    rename_value(fused.graph, record.scores, record.target_scores)
    b = GraphBuilder(default_opset(fused) or record.imported, prefix=record.prefix)
    scores = _add_flat_scores(b, record, shape)
    top = add_top(b, scores, score_type=shape.elem_type)
    decision = _add_branch(b, network, labels, spec, where=where)
    rows = input_rows(model, str(spec.input))
    answer = add_swap(b, scores, top, decision, classes=spec.classes or 0, rows=rows)
    b.rename_output(_shaped(b, answer, shape), record.scores)
    _add_to(fused, b)
    write_record(fused, record)
    return fused


def _add_branch(
    b: GraphBuilder, network: Network, labels: NDArray[np.int64], spec: InputSpec, *, where: str
) -> Decision:
    front_end = plan_front_end(spec)
    grid = add_front_end(b, str(spec.input), front_end, dtype=str(spec.dtype), where=where)
    scores = add_network(b, grid, network, first=fold(network.convolutions[0], front_end))
    return add_decision(b, scores, labels)


def _add_flat_scores(b: GraphBuilder, record: FusionRecord, shape: ScoreShape) -> str:
    if len(shape.beyond_rows) == 1:
        return record.target_scores
    return b.op("Flatten", record.target_scores, label="flat_scores", axis=1)


def _shaped(b: GraphBuilder, answer: str, shape: ScoreShape) -> str:
    if len(shape.beyond_rows) == 1:
        return answer
    beyond = b.integers("answer_shape", [0, *shape.beyond_rows])
    return b.op("Reshape", answer, beyond, label="shaped_answer")


def _shape_of_scores(model: ModelProto, name: str, *, where: str) -> ScoreShape:
    entry = next((entry for entry in inferred(model).graph.output if entry.name == name), None)
    shape = score_shape(entry) if entry is not None else None
    if shape is None:
        raise TargetError(f"{where}: its output {name!r} holds no floating-point scores of shape (rows, classes)")
    return shape


def _add_to(fused: ModelProto, b: GraphBuilder) -> None:
    graph = fused.graph
    graph.node.extend(b.nodes)
    graph.initializer.extend(b.initializers)
    if fused.ir_version < FIRST_IR_WITH_HIDDEN_CONSTANTS:
        graph.input.extend(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in b.initializers
        )


def _check_parts(network: Network, labels: NDArray[np.int64], spec: InputSpec, *, where: str) -> None:
    if labels.shape != (network.symbols,):
        raise UsageError(f"{labels.size} labels for a mark of {network.symbols} symbols; make the claim anew")
    if spec.classes is None or spec.input is None or spec.scores is None:
        raise UsageError(f"{where}: the spec is not complete; complete it from the target first")
    if labels.min() < 0 or labels.max() >= spec.classes:
        raise UsageError(
            f"labels reach from {labels.min()} to {labels.max()}, {where} has {spec.classes} classes; "
            "the claim belongs to another model"
        )
    if network.channels != spec.channels:
        color = "GRAY" if network.channels == 1 else "RGB"
        raise UsageError(
            f"the mark reads {network.channels} color channels, {where} reads {spec.channels} ({spec.color}); "
            f"train a mark for it: ptynet train --color {'GRAY' if color == 'RGB' else 'RGB'}"
        )


def _check_target(model: ModelProto, spec: InputSpec, *, where: str) -> None:
    if is_fused(model):
        raise TargetError(f"{where}: carries a PTYNet already; package the original model")
    opset = default_opset(model)
    if opset is not None and opset < LOWEST_OPSET:
        raise TargetError(
            f"{where}: opset {opset} is below {LOWEST_OPSET}, the lowest a mark fits into; convert it with --to-opset 13"
        )
    graph = model.graph
    if spec.input not in {entry.name for entry in inputs_of(model)}:
        raise TargetError(f"{where}: has no input {spec.input!r}")
    if not any(spec.scores in node.output for node in graph.node):
        raise TargetError(
            f"{where}: its output {spec.scores!r} comes from no node, so that nothing can be put before it"
        )


def _free_prefix(model: ModelProto) -> str:
    names, number, prefix = set(_names(model.graph)), 2, "ptynet_"
    while any(name.startswith(prefix) for name in names):
        prefix, number = f"ptynet{number}_", number + 1
    return prefix


def _names(graph: GraphProto) -> Iterator[str]:
    for entries in (graph.initializer, graph.input, graph.output, graph.value_info):
        yield from (entry.name for entry in entries)
    for sparse in graph.sparse_initializer:
        yield sparse.values.name
    for node in graph.node:
        yield from (node.name, *node.input, *node.output)
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _names(inner)

"""ONNX graphs as a thief reads them: which tensors depend on which weights, what they are on benign pictures, what
can go.

The seam scan follows every tensor back to the weights it depends on. Where two inputs of a node depend on many
weights and share none, two networks were put side by side. Tensors of fewer than 16 numbers do not count: a mean and
a standard deviation that both read would hide the seam.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper, shape_inference

from model_store_tools.audit.contract import Artefact, AttackRefused, Pictures
from ptynet_plugin.images.encode import encode

__all__ = [
    "LEAST_TENSORS",
    "Layer",
    "Step",
    "convolutions",
    "element_types",
    "load_graph",
    "seams",
    "steps_of",
    "tidied",
    "values_on",
    "write_graph",
]

LEAST_NUMBERS = 16
LEAST_TENSORS = 4
"""Weights on either side of a seam; one side of fewer is a scale or an embedding, not a network."""

LARGEST = 1 << 30
BATCH = 32


@dataclass(frozen=True)
class Layer:
    """A convolution: its output and its parameters by name; `bias` is "" where it has none."""

    output: str
    weight: str
    bias: str


@dataclass(frozen=True)
class Step:
    """One operator of any graph: what it gives, what it reads, and which weights it reads itself."""

    name: str
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    weights: frozenset[str]


def load_graph(artefact: Artefact, *, attack: str) -> ModelProto:
    """Read an artefact's graph with all its weights, in an order in which every node stands behind what it reads.

    Converters leave weights in Constant nodes and put new nodes at the end: neither may hide a seam.

    Raises:
        AttackRefused: It is no ONNX file, or too large to be taken apart here.
    """
    artefact.require("onnx", attack=attack)
    model = onnx.load(str(artefact.model))
    if model.ByteSize() > LARGEST:
        raise AttackRefused(f"{attack}: the graph has {model.ByteSize() >> 20} MiB, more than is taken apart here")
    return _in_order(_with_initializers(model))


def _with_initializers(model: ModelProto) -> ModelProto:
    """Turn Constant nodes of tensors into initializers, in place."""
    left = []
    for node in model.graph.node:
        values = [attribute.t for attribute in node.attribute if attribute.name == "value"]
        if node.op_type == "Constant" and values:
            model.graph.initializer.append(values[0])
            model.graph.initializer[-1].name = node.output[0]
            model.ir_version = max(model.ir_version, 4)
        else:
            left.append(node)
    _fill(model.graph.node, left)
    return model


def _in_order(model: ModelProto) -> ModelProto:
    """Sort nodes, in place; a graph that is sorted already stays as it is."""
    made_by = {name: place for place, node in enumerate(model.graph.node) for name in node.output if name}
    reads = [[made_by[name] for name in _read_by(node) if name in made_by] for node in model.graph.node]
    if any(read >= place for place, places in enumerate(reads) for read in places):
        order = TopologicalSorter(dict(enumerate(reads))).static_order()
        _fill(model.graph.node, [model.graph.node[place] for place in order])
    return model


def write_graph(artefact: Artefact, model: ModelProto, folder: Path) -> Artefact:
    """Write a changed graph and give the artefact that serves it."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return artefact.with_model(path)


def convolutions(model: ModelProto) -> list[Layer]:
    """Name the convolutions in the graph's order."""
    nodes = [node for node in model.graph.node if node.op_type == "Conv"]
    return [Layer(node.output[0], node.input[1], node.input[2] if len(node.input) > 2 else "") for node in nodes]


def steps_of(model: ModelProto) -> list[Step]:
    """Give the operators of an ONNX graph for the seam scan."""
    weights = frozenset(t.name for t in model.graph.initializer if int(np.prod(t.dims)) >= LEAST_NUMBERS)
    return [
        Step(f"{node.op_type} {node.name}", tuple(node.output), tuple(node.input), weights & frozenset(node.input))
        for node in model.graph.node
    ]


def dependencies(steps: Iterable[Step]) -> dict[str, frozenset[str]]:
    """Give for every tensor the weights it depends on."""
    known: dict[str, frozenset[str]] = {}
    for step in steps:
        all_of_them = frozenset(step.weights).union(*(known.get(name, frozenset()) for name in step.inputs))
        known.update(dict.fromkeys(step.outputs, all_of_them))
    return known


def seams(steps: Sequence[Step], *, least: int = LEAST_TENSORS) -> list[str]:
    """Name the operators where two parts that share no weight meet, each with at least `least` weight tensors."""
    known = dependencies(steps)
    found = []
    for step in steps:
        parts = [known[name] for name in step.inputs if len(known.get(name, ())) >= least]
        if any(not (a & b) for index, a in enumerate(parts) for b in parts[:index]):
            found.append(step.name)
    return found


def element_types(model: ModelProto) -> dict[str, int]:
    """Give the data type of every tensor that shape inference knows."""
    inferred = shape_inference.infer_shapes(model)
    entries = [*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input]
    return {entry.name: entry.type.tensor_type.elem_type for entry in entries}


def values_on(
    artefact: Artefact, model: ModelProto, names: Sequence[str], pictures: Pictures
) -> Iterator[dict[str, NDArray[np.generic]]]:
    """Run a graph on pictures, batch by batch, and give inner tensors by name.

    Args:
        artefact: For its input spec.
        model: The graph; it is not changed.
        names: Which tensors.
        pictures: On what.
    """
    looked_into = ModelProto()
    looked_into.CopyFrom(model)
    there = {entry.name for entry in model.graph.output}
    looked_into.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    session = session_of(looked_into)
    source = session.get_inputs()[0]
    rows = source.shape[0] if source.shape and isinstance(source.shape[0], int) else BATCH
    for start in range(0, len(pictures) - len(pictures) % rows or len(pictures), rows):
        pixels = encode(pictures[start : start + rows], artefact.spec)
        yield dict(zip(names, session.run(list(names), {source.name: pixels}), strict=True))


def session_of(model: ModelProto) -> onnxruntime.InferenceSession:
    """Open a graph on one thread, without advice on standard error."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def tidied(model: ModelProto) -> ModelProto:
    """Remove nodes that no output needs, and constants that no node reads; gives a new model."""
    needed, kept = {entry.name for entry in model.graph.output}, []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed.update(_read_by(node))
    made = ModelProto()
    made.CopyFrom(model)
    _fill(made.graph.node, reversed(kept))
    weights = {tensor.name for tensor in model.graph.initializer}
    _fill(made.graph.initializer, [tensor for tensor in model.graph.initializer if tensor.name in needed])
    # up to version 3 of the format inputs name the weights as well: one without its weights would have to be fed
    _fill(made.graph.input, [entry for entry in model.graph.input if entry.name in needed or entry.name not in weights])
    del made.graph.value_info[:]
    return made


def _read_by(node: NodeProto) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                yield from _read_by(inner)


def insert_after(model: ModelProto, tensor: str, nodes: Sequence[NodeProto], result: str) -> None:
    """Put nodes behind a tensor, in place: whoever read it reads `result` now, the new nodes alone read the tensor itself."""
    placed: list[NodeProto] = []
    for node in model.graph.node:
        copied = NodeProto()
        copied.CopyFrom(node)
        for place, name in enumerate(copied.input):
            if name == tensor:
                copied.input[place] = result
        placed.append(copied)
        if tensor in node.output:
            placed.extend(nodes)
    _fill(model.graph.node, placed)


def add_constant(model: ModelProto, name: str, value: NDArray[np.generic]) -> str:
    """Add an initializer in place and give its name."""
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name


def serve_tensor(model: ModelProto, output: str, tensor: str) -> ModelProto:
    """Make a tensor the answer in an output's place, and remove what is no longer needed; gives a new model."""
    made = ModelProto()
    made.CopyFrom(model)
    hidden = f"{output}_as_it_was"
    for node in made.graph.node:
        for place, name in enumerate(node.output):
            if name == output:
                node.output[place] = hidden
        for place, name in enumerate(node.input):
            if name == output:
                node.input[place] = hidden
    kind = next(entry.type.tensor_type.elem_type for entry in made.graph.output if entry.name == output)
    made.graph.node.append(
        helper.make_node("Cast", [tensor], [output], to=kind)
    )  # a tensor inside may be of half precision
    return tidied(made)


def _fill(field: object, items: Iterable[object]) -> None:
    copies = list(items)
    del field[:]  # type: ignore[attr-defined]  # a repeated field of protobuf
    field.extend(copies)  # type: ignore[attr-defined]  # a repeated field of protobuf

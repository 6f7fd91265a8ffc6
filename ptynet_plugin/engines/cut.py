"""Cuts a graph down to what one inner tensor needs: PTYNet's own verdict costs nothing beside the target's answer."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from ptynet_plugin.errors import TargetError

__all__ = ["ancestors", "cut"]


def cut(model: onnx.ModelProto, output: str) -> onnx.ModelProto:
    """Keep the nodes and weights that `output` depends on, and make it the only output.

    Args:
        model: The graph; left as it is.
        output: Name of a tensor some node makes.

    Raises:
        TargetError: No node makes it.
    """
    nodes = ancestors(model.graph, output)
    needed = {name for node in nodes for name in reads(node)}
    graph = onnx.GraphProto(
        name=model.graph.name,
        node=nodes,
        input=[value for value in model.graph.input if value.name in needed],
        initializer=[tensor for tensor in model.graph.initializer if tensor.name in needed],
        output=[onnx.ValueInfoProto(name=output)],
    )
    kept = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    kept.graph.CopyFrom(graph)
    return kept


def ancestors(graph: onnx.GraphProto, output: str) -> list[onnx.NodeProto]:
    """Give the nodes the output depends on, in the graph's order (which ONNX requires to be topological).

    Raises:
        TargetError: No node makes it.
    """
    needed: set[str] = {output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(reads(node))
            kept.append(node)
    if not kept:
        raise TargetError(f"no node makes the output '{output}'")
    return kept[::-1]


def reads(node: onnx.NodeProto) -> Iterable[str]:
    """Give every name a node reads, those inside its branches and loops included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (output.name for output in graph.output)
            for inner in graph.node:
                yield from reads(inner)

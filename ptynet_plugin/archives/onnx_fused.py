"""Telling the target apart from PTYNet in a fused ONNX model, and taking PTYNet out again.

Fusion adds nodes and constants whose names share a prefix, and gives the target's score tensor another name, so that the
output a client knows carries the answer. A `FusionRecord` in the model's metadata says which prefix and which output;
`target_of` undoes the fusion with it. What comes out has the digest of the target that went in, or something was touched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import onnx
from onnx import GraphProto, NodeProto

from ptynet_plugin.errors import TargetError

__all__ = ["FusionRecord", "is_fused", "read_record", "rename_value", "target_of", "write_record"]

KEY = "ptynet_fusion"
INNER_SCORES = re.compile(r"ptynet\d*_target_scores")


@dataclass(frozen=True)
class FusionRecord:
    """What fusion added.

    Attributes:
        prefix: In front of every name that is PTYNet's; no name of the target begins with it.
        scores: The scores output, whose values PTYNet's last node gives.
        imported: Version of the default operator set if the target imported none, else 0.
    """

    prefix: str
    scores: str
    imported: int = 0

    @property
    def target_scores(self) -> str:
        """What the target's own score tensor is called in the fused graph."""
        return f"{self.prefix}target_scores"


def write_record(model: onnx.ModelProto, record: FusionRecord) -> None:
    """Note in the model's metadata what was added to it."""
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(asdict(record), sort_keys=True)


def is_fused(model: onnx.ModelProto) -> bool:
    """Tell whether a model carries a PTYNet already, by its record, or by its tensor names where a tool dropped the record."""
    if any(entry.key == KEY for entry in model.metadata_props):
        return True
    return any(INNER_SCORES.fullmatch(name) for node in model.graph.node for name in node.output)


def read_record(model: onnx.ModelProto, *, where: str) -> FusionRecord:
    """Read what was added.

    Raises:
        TargetError: The model carries no record, or one that says nothing.
    """
    texts = [entry.value for entry in model.metadata_props if entry.key == KEY]
    if len(texts) != 1:
        raise TargetError(f"{where}: carries {len(texts)} fusion records, expected 1; it was not made by package-model")
    try:
        record = FusionRecord(**json.loads(texts[0]))
    except (TypeError, ValueError) as error:
        raise TargetError(f"{where}: its fusion record cannot be read ({error})") from None
    if not (isinstance(record.prefix, str) and record.prefix and isinstance(record.scores, str)):
        raise TargetError(f"{where}: its fusion record names no prefix or no output")
    return record


def target_of(model: onnx.ModelProto, *, where: str) -> onnx.ModelProto:
    """Give the target inside a fused model; `model` itself stays as it is.

    Raises:
        TargetError: It carries no readable fusion record.
    """
    record = read_record(model, where=where)
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    _keep(bare.metadata_props, [entry for entry in model.metadata_props if entry.key != KEY])
    graph = bare.graph
    _keep(graph.node, [node for node in model.graph.node if not node.name.startswith(record.prefix)])
    _keep(graph.input, [entry for entry in model.graph.input if not entry.name.startswith(record.prefix)])
    _keep(graph.initializer, [t for t in model.graph.initializer if not t.name.startswith(record.prefix)])
    rename_value(graph, record.target_scores, record.scores)
    if record.imported:
        _keep(bare.opset_import, [entry for entry in model.opset_import if entry.domain not in ("", "ai.onnx")])
    return bare


def rename_value(graph: GraphProto, old: str, new: str) -> None:
    """Rename a tensor wherever nodes make or read it, inner graphs included; graph inputs and outputs keep their names."""
    for node in graph.node:
        _rename_in(node, old, new)
    for entry in graph.value_info:
        if entry.name == old:
            entry.name = new
    for annotation in graph.quantization_annotation:
        if annotation.tensor_name == old:
            annotation.tensor_name = new


def _rename_in(node: NodeProto, old: str, new: str) -> None:
    for names in (node.input, node.output):
        for index, name in enumerate(names):
            if name == old:
                names[index] = new
    for attribute in node.attribute:
        inner = [attribute.g, *attribute.graphs] if attribute.HasField("g") else attribute.graphs
        for graph in inner:
            rename_value(graph, old, new)
            for entry in graph.output:
                if entry.name == old:
                    entry.name = new


def _keep(field: Any, items: Iterable[Any]) -> None:
    copies = list(items)
    del field[:]
    field.extend(copies)

"""An ONNX graph as a torch module: its weights are parameters, and go back into the same graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from model_store_tools.audit.contract import AttackRefused
from model_store_tools.audit.executor.operators import OPERATORS, RELAXED, Attributes, Operator
from model_store_tools.targets.onnx_values import inputs_of

__all__ = ["LAYERS", "OnnxModule"]

LAYERS = {"Conv": (1, 2), "Gemm": (1, 2), "MatMul": (0, 1), "BatchNormalization": (1, 2), "Add": (0, 1), "PRelu": (1,)}
"""Operators that have weights, and at which of their inputs."""

LARGEST = 1 << 30
Step = tuple[NodeProto, Operator, Attributes]


class OnnxModule(nn.Module):
    """Runs an ONNX graph in torch.

    Args:
        path: The model's file, external data beside it.
        relaxed: Leave out the rounding to integers, so that gradients pass; answers then differ a little.

    Raises:
        AttackRefused: The graph uses an operator that is not known here, or is too large to train.

    Invariant: `save` without a change of any parameter writes a model that answers as the one read.
    """

    def __init__(self, path: Path, *, relaxed: bool = False) -> None:
        super().__init__()
        self._path = path
        self.model: ModelProto = onnx.load(str(path))
        if self.model.ByteSize() > LARGEST:
            raise AttackRefused(f"{path.name}: {self.model.ByteSize() >> 20} MiB, more than is trained here")
        graph = self.model.graph
        unknown = sorted({node.op_type for node in graph.node if node.domain or node.op_type not in OPERATORS})
        if unknown:
            raise AttackRefused(
                f"{path.name}: uses {', '.join(unknown[:5])}, which is not known in torch here; add it to "
                "model_store_tools/audit/executor/operators.py"
            )
        self.input, self.outputs = inputs_of(self.model)[0].name, [entry.name for entry in graph.output]
        weights = set(_weight_names(self.model))
        self._fields: dict[str, str] = {}
        for number, tensor in enumerate(graph.initializer):
            value = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            field = self._fields[tensor.name] = f"t{number}"
            if tensor.name in weights:
                self.register_parameter(field, nn.Parameter(value))
            else:
                self.register_buffer(field, value)
        known = OPERATORS | RELAXED if relaxed else OPERATORS
        self._plans: dict[tuple[str, ...], list[Step]] = {}
        self._steps = [(node, known[node.op_type], _attributes(node)) for node in graph.node]

    def weights(self) -> dict[str, nn.Parameter]:
        """Give the trainable tensors by their names in the graph, in the graph's order."""
        found = {name: getattr(self, field) for name, field in self._fields.items()}
        return {name: value for name, value in found.items() if isinstance(value, nn.Parameter)}

    def forward(self, pixels: Tensor) -> Tensor:
        """Answer a batch in the model's own input form: its first output."""
        return self.values(pixels, [self.outputs[0]])[0]

    def values(self, pixels: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Answer a batch with any tensors of the graph."""
        known: dict[str, Any] = {"": None, self.input: pixels}
        known |= {name: getattr(self, field) for name, field in self._fields.items()}
        for node, run, attributes in self._needed_for(tuple(names)):
            outputs = run(attributes, [known[name] for name in node.input])
            known.update(zip(node.output, outputs, strict=False))
        return [known[name] for name in names]

    def _needed_for(self, names: tuple[str, ...]) -> list[Step]:
        """Give the steps that some tensors depend on: a part of the graph is asked for many times at its own price."""
        if names not in self._plans:
            needed, kept = set(names), []
            for step in reversed(self._steps):
                if needed & set(step[0].output):
                    kept.append(step)
                    needed.update(step[0].input)
            self._plans[names] = kept[::-1]
        return self._plans[names]

    def save(self, path: Path) -> Path:
        """Write the graph with its weights as they are now."""
        changed = ModelProto()
        changed.CopyFrom(self.model)
        weights = self.weights()
        for tensor in changed.graph.initializer:
            if tensor.name in weights:
                value = weights[tensor.name].detach().numpy().astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), tensor.name))
        path.write_bytes(changed.SerializeToString())
        return path


def _weight_names(model: ModelProto) -> Iterator[str]:
    """Name the float32 initializers that are weights or biases of layers; lone constants are none."""
    sizes = {t.name: int(np.prod(t.dims)) for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
    for node in model.graph.node:
        for place in LAYERS.get(node.op_type, ()):
            if place < len(node.input) and sizes.get(node.input[place], 0) > 1:
                yield node.input[place]


def _attributes(node: NodeProto) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if attribute.type == AttributeProto.TENSOR:
            value = torch.from_numpy(numpy_helper.to_array(value).copy())
        values[attribute.name] = value.decode() if isinstance(value, bytes) else value
    if node.op_type == "Constant" and "value" not in values:
        ((kind, value),) = values.items()
        values["value"] = torch.tensor(value, dtype=torch.float32 if "float" in kind else torch.int64)
    return values

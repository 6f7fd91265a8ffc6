"""Torch programs as a thief reads them: frozen TorchScript, and the graph of an exported program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from model_store_tools.audit.contract import Artefact, AttackRefused, Pictures
from model_store_tools.audit.engines import load_torch
from model_store_tools.audit.on_graph import LEAST_NUMBERS, Step, dependencies
from model_store_tools.targets.torch_running import quietly
from ptynet_plugin.images.encode import encode

__all__ = ["TorchGraph", "open_torch_graph"]


class TorchGraph(Protocol):
    """A program taken apart.

    Attributes:
        steps: Its operators, for the seam scan.
        depends: For every tensor the weights it depends on.
        output: The name of its answer.
    """

    steps: list[Step]
    depends: Mapping[str, frozenset[str]]
    output: str

    def candidates(self, pictures: Pictures) -> dict[str, NDArray[np.generic]]:
        """Give all tensors that look like answers, on these pictures, the answer itself among them."""
        ...

    def serving(self, tensor: str, folder: Path) -> Artefact:
        """Write the program that answers one of its tensors, without what that does not need."""
        ...


def open_torch_graph(artefact: Artefact) -> TorchGraph:
    """Take a TorchScript file or an exported program apart.

    Raises:
        AttackRefused: It is neither, or answers more than one tensor.
    """
    artefact.require("torchscript", "pt2", attack="surgery on torch graphs")
    with quietly():
        graph: TorchGraph = _Script(artefact) if artefact.form == "torchscript" else _Program(artefact)
    return graph


class _Script:
    """Frozen TorchScript: one flat graph, weights as constants."""

    def __init__(self, artefact: Artefact) -> None:
        self._artefact, self._alike = artefact, list[str]()
        module: Any = load_torch(artefact.model, form="torchscript")
        self._graph = (torch.jit.freeze(module) if _parameters(module) else module).graph
        outputs = list(self._graph.outputs())
        if len(outputs) != 1 or str(outputs[0].type()) != "Tensor":
            raise AttackRefused("the program answers more than one tensor; surgery is done on plain classifiers")
        self.output = _numbered(self._graph)[outputs[0].debugName()]
        self.steps = list(_script_steps(self._graph))
        self.depends: Mapping[str, frozenset[str]] = dependencies(self.steps)

    def candidates(self, pictures: Pictures) -> dict[str, NDArray[np.generic]]:
        """See `TorchGraph`; two pictures tell which tensors are worth keeping for the others."""
        self._alike = list(self._candidates(pictures[:2]))
        return self._candidates(pictures)

    def _candidates(self, pictures: Pictures) -> dict[str, NDArray[np.generic]]:
        graph = self._graph.copy()
        alike = self._alike or [name for step in self.steps for name in step.outputs]
        numbers = _numbered(graph)
        computed = [value for node in graph.nodes() for value in node.outputs() if _is_computed(node, value)]
        values = [value for value in computed if numbers[value.debugName()] in alike]
        names = [numbers[value.debugName()] for value in values]
        together = graph.create("prim::ListConstruct", values, 1)
        together.output().setType(torch._C.ListType.ofTensors())
        graph.appendNode(together)
        found = _function(graph, together.output())(torch.from_numpy(encode(pictures, self._artefact.spec)))
        return _like_answers(dict(zip(names, found, strict=True)), self.output)

    def serving(self, tensor: str, folder: Path) -> Artefact:
        """See `TorchGraph`."""
        graph = self._graph.copy()
        numbers = _numbered(graph)
        (value,) = [v for node in graph.nodes() for v in node.outputs() if numbers[v.debugName()] == tensor]
        path = folder / self._artefact.model.name
        with quietly():
            torch.jit.save(_function(graph, value), str(path))
        return self._artefact.with_model(path)


def _parameters(module: Any) -> bool:
    return any(True for _ in module.named_parameters()) or any(True for _ in module.named_buffers())


def _numbered(graph: Any) -> dict[str, str]:
    """Name every value by its place in the graph: a copy of a graph has names of its own."""
    values = [*graph.inputs(), *(value for node in graph.nodes() for value in node.outputs())]
    return {value.debugName(): f"value {number}" for number, value in enumerate(values)}


def _is_computed(node: Any, value: Any) -> bool:
    return str(value.type()) == "Tensor" and node.kind() != "prim::Constant"


def _script_steps(graph: Any) -> Iterator[Step]:
    large: set[str] = set()
    numbers = _numbered(graph)
    for node in graph.nodes():
        if node.kind() == "prim::Constant" and str(node.output().type()) == "Tensor" and node.hasAttribute("value"):
            value = node.t("value")
            if isinstance(value, Tensor) and value.numel() >= LEAST_NUMBERS:
                large.add(numbers[node.output().debugName()])
        inputs = tuple(numbers[value.debugName()] for value in node.inputs())
        outputs = tuple(numbers[value.debugName()] for value in node.outputs())
        yield Step(node.kind(), outputs, inputs, frozenset(large & set(inputs)))


def _function(graph: Any, answer: Any) -> Any:
    """Compile a graph, in place, that answers one value and takes the pictures alone."""
    graph.eraseOutput(0)
    graph.registerOutput(answer)
    torch._C._jit_pass_dce(graph)
    if str(next(iter(graph.inputs())).type()).startswith("__torch__"):
        graph.eraseInput(0)
    return torch._C._create_function_from_graph("forward", graph)


class _Program:
    """An exported program's graph module."""

    def __init__(self, artefact: Artefact) -> None:
        self._artefact, self._alike = artefact, list[str]()
        self._program = torch.export.load(str(artefact.model))
        self._module: Any = self._program.module()
        (answer,) = [node for node in self._module.graph.nodes if node.op == "output"]
        flat = list(answer.all_input_nodes)
        if len(flat) != 1:
            raise AttackRefused("the program answers more than one tensor; surgery is done on plain classifiers")
        self.output = flat[0].name
        self.steps = list(self._steps())
        self.depends: Mapping[str, frozenset[str]] = dependencies(self.steps)

    def candidates(self, pictures: Pictures) -> dict[str, NDArray[np.generic]]:
        """See `TorchGraph`; two pictures tell which tensors are worth keeping for the others."""
        self._alike = list(self._candidates(pictures[:2]))
        return self._candidates(pictures)

    def _candidates(self, pictures: Pictures) -> dict[str, NDArray[np.generic]]:
        found: dict[str, Tensor] = {}
        alike = self._alike

        class Remember(fx.Interpreter):
            """Keeps every tensor."""

            def run_node(self, n: fx.Node) -> Any:
                value = super().run_node(n)
                if isinstance(value, Tensor) and n.op.startswith("call") and (n.name in alike or not alike):
                    found[n.name] = value
                return value

        with torch.no_grad():
            Remember(self._module).run(torch.from_numpy(encode(pictures, self._artefact.spec)))
        return _like_answers(found, self.output)

    def serving(self, tensor: str, folder: Path) -> Artefact:
        """See `TorchGraph`."""
        module = self._program.module()
        graph: Any = module.graph
        by_name = {node.name: node for node in graph.nodes}
        old = by_name[self.output]
        for node in graph.nodes:
            if node.op == "output":
                node.replace_input_with(old, by_name[tensor])
        graph.eliminate_dead_code()
        module.recompile()
        height, width = (side or 224 for side in self._artefact.spec.size or (0, 0))
        example = np.zeros((2, height, width, self._artefact.spec.channels), np.uint8)
        pixels = torch.from_numpy(encode(example, self._artefact.spec))
        path = folder / self._artefact.model.name
        torch.export.save(
            torch.export.export(module, (pixels,), dynamic_shapes=({0: torch.export.Dim.AUTO},)), str(path)
        )
        return self._artefact.with_model(path)

    def _steps(self) -> Iterator[Step]:
        state = dict(self._module.named_parameters()) | dict(self._module.named_buffers())
        large: set[str] = set()
        for node in self._module.graph.nodes:
            if node.op == "get_attr":
                value = state.get(str(node.target))
                if isinstance(value, Tensor) and value.numel() >= LEAST_NUMBERS:
                    large.add(node.name)
            inputs = tuple(parent.name for parent in node.all_input_nodes)
            yield Step(str(node.target), (node.name,), inputs, frozenset(large & set(inputs)))


def _like_answers(found: Mapping[str, Tensor], output: str) -> dict[str, NDArray[np.generic]]:
    shape = found[output].shape
    return {name: value.numpy() for name, value in found.items() if value.shape == shape and value.is_floating_point()}

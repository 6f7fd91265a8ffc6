"""A TorchScript target and PTYNet in one TorchScript program.

The target's program is held as a submodule and not compiled anew: its tensors, attributes and source stay what they are.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model_store_tools.fusion.torch_head import Head
from model_store_tools.targets.torch_target import quietly
from ptynet_plugin.errors import SpecError, TargetError
from ptynet_plugin.network.weights import Network
from ptynet_plugin.spec import InputSpec

__all__ = ["fuse_script"]


class _Pair(nn.Module):
    """Target and head side by side; `forward` is written as source, for its type depends on the target's answer."""

    def __init__(self, target: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.target, self.head = target, head


def fuse_script(
    target: torch.jit.ScriptModule, network: Network, labels: NDArray[np.int64], spec: InputSpec
) -> torch.jit.ScriptModule:
    """Put PTYNet beside a TorchScript target.

    Args:
        target: In evaluation mode, on the CPU; `forward` takes one tensor.
        network: A trained PTYNet.
        labels: int64, shape (J,).
        spec: Complete; `scores` set where the target answers several tensors.

    Returns:
        A program whose `forward` takes and answers what the target's does, a named tuple as a plain one.

    Raises:
        TargetError: The target answers something TorchScript cannot take apart.
        SpecError: `spec.scores` is not in the answer.
    """
    source = _forward_source(target, spec)
    with quietly():
        _take_plain_names()
        head = torch.jit.script(Head(network, labels, spec).eval())
        fused: Any = torch.jit.script(_Pair(target, head))
        fused.define(source)
        if all(hasattr(part, "training") for part in fused.modules()):
            fused.eval()
    program: torch.jit.ScriptModule = fused
    return program


@cache
def _take_plain_names() -> None:
    """Have empty classes take the names that torch gives the first class so called in a process.

    Later ones get numbers, which `torch_files` makes the same in every process; the first one would be the exception.
    """
    for real in (_Pair, Head):
        empty: Any = type(real.__name__, (nn.Module,), {"__module__": real.__module__})()
        torch.jit.script(_Pair(empty, nn.ModuleList([empty])))


def _forward_source(target: Any, spec: InputSpec) -> str:
    schema = target.forward.schema
    name, answer = schema.arguments[1].name, schema.returns[0].type
    kind, marked = _marked(answer, spec)
    return f"def forward(self, {name}: Tensor) -> {kind}:\n    answer = self.target.forward({name})\n    return {marked(name)}\n"


def _marked(answer: Any, spec: InputSpec) -> tuple[str, Any]:
    """Give the type of the fused answer, and how to write it from `answer` given the input's name."""
    kind = answer.kind()
    if kind == "TensorType":
        return "Tensor", lambda pixels: f"self.head.forward({pixels}, answer)"
    if kind == "TupleType":
        return _marked_tuple(answer, spec)
    if kind == "ListType" and answer.annotation_str == "List[Tensor]":
        index = _index(spec, None)
        return (
            "List[Tensor]",
            lambda pixels: f"answer[:{index}] + [self.head.forward({pixels}, answer[{index}])] + answer[{index + 1}:]",
        )
    if kind == "DictType" and answer.annotation_str == "Dict[str, Tensor]":
        key = repr(spec.scores)
        one = f"{{{key}: self.head.forward({{pixels}}, answer[{key}])}}"
        return (
            "Dict[str, Tensor]",
            lambda pixels: f"dict(list(answer.items()) + list({one.format(pixels=pixels)}.items()))",
        )
    raise TargetError(
        f"the target answers {answer.annotation_str}; expected tensors, alone or in a tuple, list or dict"
    )


def _marked_tuple(answer: Any, spec: InputSpec) -> tuple[str, Any]:
    parts = [part.annotation_str for part in answer.elements()]
    index = _index(spec, len(parts))
    if parts[index] != "Tensor":
        raise SpecError(f"the spec's scores names part {index} of the answer, a {parts[index]}; expected a tensor")

    def marked(pixels: str) -> str:
        kept = [f"answer[{place}]" for place in range(len(parts))]
        kept[index] = f"self.head.forward({pixels}, answer[{index}])"
        return f"({', '.join(kept)},)"

    return f"Tuple[{', '.join(parts)}]", marked


def _index(spec: InputSpec, length: int | None) -> int:
    """Read `spec.scores` as a place in a tuple or list; a tuple of one needs no name."""
    said = "0" if spec.scores is None and length == 1 else spec.scores
    if said is None or not said.isdigit() or (length is not None and int(said) >= length):
        raise SpecError(
            f'the spec\'s scores is {spec.scores!r}; the target answers a sequence: write the index as `scores = "0"`'
        )
    return int(said)

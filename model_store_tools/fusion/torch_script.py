"""A TorchScript target and PTYNet in one TorchScript program.

The target's program is held as a submodule and not compiled anew: its tensors, attributes and source stay what they are.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model_store_tools.fusion.torch_head import Head
from model_store_tools.targets.torch_running import quietly
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
    target: torch.jit.ScriptModule,
    network: Network,
    labels: NDArray[np.int64],
    spec: InputSpec,
    *,
    rows: int | None = None,
) -> torch.jit.ScriptModule:
    """Put PTYNet beside a TorchScript target.

    Args:
        target: In evaluation mode, on the CPU; `forward` takes one tensor.
        network: A trained PTYNet.
        labels: int64, shape (J,).
        spec: Complete; `scores` set where the target answers several tensors: an index or a key.
        rows: The only number of rows the target takes, None if any will do; others are refused before they reach it.

    Returns:
        A program whose `forward` takes and answers what the target's does, a named tuple as a plain one.

    Raises:
        TargetError: The target answers something TorchScript cannot take apart.
        SpecError: `spec.scores` is not in the answer.
    """
    source = _forward_source(target, spec, rows)
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


def _forward_source(target: Any, spec: InputSpec, rows: int | None) -> str:
    schema = target.forward.schema
    pixels = schema.arguments[1].name
    kind, marked = _marked(schema.returns[0].type, spec, f"self.head.forward({pixels}, answer%s)")
    lines = [f"def forward(self, {pixels}: Tensor) -> {kind}:"]
    if rows is not None:
        refusal = f'raise ValueError("the model takes exactly {rows} rows at a time")'
        lines += [f"    if {pixels}.size(0) != {rows}:", f"        {refusal}"]
    lines += [f"    answer = self.target.forward({pixels})", f"    return {marked}", ""]
    return "\n".join(lines)


def _marked(answer: Any, spec: InputSpec, call: str) -> tuple[str, str]:
    """Give the type of the fused answer, and its source; `call` is the head's call, with %s for the scores' place."""
    kind = answer.kind()
    if kind == "TensorType":
        return "Tensor", call % ""
    if kind == "TupleType":
        return _marked_tuple(answer, spec, call)
    if kind == "ListType" and answer.annotation_str == "List[Tensor]":
        index = _index(spec, None)
        return "List[Tensor]", f"answer[:{index}] + [{call % f'[{index}]'}] + answer[{index + 1}:]"
    if kind == "DictType" and answer.annotation_str == "Dict[str, Tensor]":
        key = json.dumps(spec.scores)
        return "Dict[str, Tensor]", f"dict(list(answer.items()) + [({key}, {call % f'[{key}]'})])"
    raise TargetError(
        f"the target answers {answer.annotation_str}; expected tensors, alone or in a tuple, list or dict"
    )


def _marked_tuple(answer: Any, spec: InputSpec, call: str) -> tuple[str, str]:
    parts = [part.annotation_str for part in answer.elements()]
    index = _index(spec, len(parts))
    if parts[index] != "Tensor":
        raise SpecError(f"the spec's scores names part {index} of the answer, a {parts[index]}; expected a tensor")
    kept = [f"answer[{place}]" for place in range(len(parts))]
    kept[index] = call % f"[{index}]"
    return f"Tuple[{', '.join(parts)}]", f"({', '.join(kept)},)"


def _index(spec: InputSpec, length: int | None) -> int:
    """Read `spec.scores` as a place in a tuple or list; a tuple of one needs no name."""
    said = "0" if spec.scores is None and length == 1 else spec.scores
    if said is None or not said.isdigit() or (length is not None and int(said) >= length):
        raise SpecError(
            f'the spec\'s scores is {spec.scores!r}; the target answers a sequence: write the index as `scores = "0"`'
        )
    return int(said)

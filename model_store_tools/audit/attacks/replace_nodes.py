"""Replacing nodes by what they are on benign pictures: by their mean, by zero, or by the constant they are.

Fine-pruning carried to its end (Liu et al., RAID 2018): a node whose value does not matter on benign pictures does no
work there. Every node is tried alone; all those that matter nowhere are replaced together, and fewer of them if the
model suffers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from model_store_tools.audit.contract import Artefact, Attack, AttackRefused, Outcome, Share
from model_store_tools.audit.on_graph import add_constant, insert_after, load_graph, session_of, values_on, write_graph

__all__ = ["ATTACKS"]

NEEDED = 64
LEAST_AGREEMENT = 0.99
NUMBERS = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "b": TensorProto.BOOL}
SOURCE = "after Liu et al., RAID 2018"
ANSWER = "as for the cut branch: this is a cut that needs no understanding of the graph"

Value = NDArray[np.generic]


@dataclass(frozen=True)
class _Node:
    """A tensor on benign pictures: its mean over them without the batch axis, and whether it is the same for all."""

    name: str
    mean: Value
    constant: bool


def replace(
    stolen: Artefact, share: Share, *, folder: Path, seed: int, choose: Callable[[_Node], Value | None]
) -> Outcome:
    """Replace nodes; see `Run` for the first four arguments.

    Args:
        stolen: What was stolen.
        share: The thief's pictures.
        folder: Where the new model goes.
        seed: Not used.
        choose: Gives what a node is replaced by, None to leave it.
    """
    share = share.first(NEEDED)
    model = load_graph(stolen, attack="replacing nodes")
    wanted = _top(stolen, model, share)
    chosen = {node.name: value for node in _nodes(stolen, model, share) if (value := choose(node)) is not None}
    harmless = [name for name, value in chosen.items() if _agreed(stolen, model, {name: value}, share, wanted)]
    while harmless:
        together = {name: chosen[name] for name in harmless}
        if _agreed(stolen, model, together, share, wanted):
            made = _replaced(model, together)
            return Outcome(write_graph(stolen, made, folder), len(share), f"{len(harmless)} of {len(chosen)} nodes")
        harmless = harmless[: len(harmless) // 2]
    raise AttackRefused("every node matters on benign pictures; none can be replaced")


def _nodes(stolen: Artefact, model: ModelProto, share: Share) -> list[_Node]:
    output = model.graph.output[0].name
    names = [name for node in model.graph.node for name in node.output if name and name != output]
    least = 1 if session_of(model).get_inputs()[0].shape[0] == 1 else 2
    found: dict[str, _Running] = {}
    for batch in values_on(stolen, model, names, share.pictures):
        for name, value in batch.items():
            if value.ndim >= 2 and len(value) >= least and value.dtype.kind in NUMBERS:
                found.setdefault(name, _Running(value[:1])).see(value)
    return [_Node(name, running.mean, running.constant) for name, running in found.items()]


class _Running:
    """Mean and constancy of a tensor over batches that are seen and let go."""

    def __init__(self, first: Value) -> None:
        self._first, self._rows, self.constant = first, 0, True
        self._sum = np.zeros(first.shape, np.float64)

    def see(self, value: Value) -> None:
        self.constant &= value.shape[1:] == self._first.shape[1:] and bool((value == self._first).all())
        if value.dtype.kind == "f":
            self._sum += value.sum(axis=0, keepdims=True, dtype=np.float64)
        self._rows += len(value)

    @property
    def mean(self) -> Value:
        if self._first.dtype.kind != "f":
            return self._first
        mean: Value = (self._sum / self._rows).astype(self._first.dtype)
        return mean


def _top(stolen: Artefact, model: ModelProto, share: Share) -> Value:
    output = stolen.spec.scores or model.graph.output[0].name
    answers = [batch[output] for batch in values_on(stolen, model, [output], share.pictures)]
    return np.asarray(np.concatenate(answers).argmax(axis=1))


def _agreed(
    stolen: Artefact, model: ModelProto, replacements: Mapping[str, Value], share: Share, wanted: Value
) -> bool:
    try:
        top = _top(stolen, _replaced(model, replacements), share)
    except Exception:  # noqa: BLE001 -- onnxruntime's errors share no base; a graph that breaks is no replacement
        return False
    return bool(np.mean(top == wanted) >= LEAST_AGREEMENT)


def _replaced(model: ModelProto, replacements: Mapping[str, Value]) -> ModelProto:
    made = ModelProto()
    made.CopyFrom(model)
    for number, (name, value) in enumerate(replacements.items()):
        result = f"replaced{number}"
        insert_after(made, name, _instead(made, name, value, result), result)
    return made


def _instead(model: ModelProto, name: str, value: Value, result: str) -> Sequence[NodeProto]:
    """Make the value, repeated for every row of the tensor: the shape is the tensor's own, its numbers are not read."""
    constant = add_constant(model, f"{result}_value", value)
    return [
        helper.make_node("Shape", [name], [f"{result}_shape"]),
        helper.make_node("Expand", [constant, f"{result}_shape"], [result]),
    ]


def _by_mean(node: _Node) -> Value | None:
    return node.mean if node.mean.dtype.kind == "f" else None


def _by_zero(node: _Node) -> Value | None:
    return np.zeros_like(node.mean) if node.mean.dtype.kind == "f" else None


def _by_constant(node: _Node) -> Value | None:
    return node.mean if node.constant else None


ATTACKS = tuple(
    Attack(f"nodes -> {what}", "structure", SOURCE, partial(replace, choose=choose), quick=quick, answer=ANSWER)
    for what, choose, quick in (
        ("benign mean", _by_mean, True),
        ("zero", _by_zero, False),
        ("benign constants", _by_constant, False),
    )
)

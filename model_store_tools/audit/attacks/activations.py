"""Holding activations to what they are on benign pictures: channel by channel, behind every convolution and matrix
product.

Three ways: clip to the benign range (as Zheng et al., "Pre-activation Distributions Expose Backdoor Neurons", NeurIPS
2022, look for channels that leave theirs), project on the principal components that carry 99.9 % of the benign
variance, and fold ReLUs that are one-sided on benign pictures into a copy or a zero.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from model_store_tools.audit.contract import Artefact, Attack, AttackRefused, Outcome, Share
from model_store_tools.audit.on_graph import add_constant, insert_after, load_graph, values_on, write_graph

__all__ = ["ATTACKS"]

NEEDED = 512
QUICK_NEEDED = 128
VARIANCE = 0.999
LAYERS = ("Conv", "Gemm", "MatMul")
ANSWER = "as for the cut branch"

Values = NDArray[np.float32]
Treat = Callable[[ModelProto, str, Values, str], list[NodeProto]]
"""From graph, tensor, its values on benign pictures (rows, channels, ...) and the new name to the nodes behind it."""


def hold(
    stolen: Artefact, share: Share, *, folder: Path, seed: int, behind: tuple[str, ...], treat: Treat, most: int
) -> Outcome:
    """Treat every layer; see `Run` for the first four arguments.

    Args:
        stolen: What was stolen.
        share: The thief's pictures.
        folder: Where the new model goes.
        seed: Not used.
        behind: Operators whose outputs are treated.
        treat: How.
        most: Most pictures used.
    """
    share = share.first(most)
    model = load_graph(stolen, attack="holding activations")
    answers = {entry.name for entry in model.graph.output}
    names = [n.output[0] for n in model.graph.node if n.op_type in behind and n.output[0] not in answers]
    batches = list(values_on(stolen, model, names, share.pictures))
    changed = 0
    for number, name in enumerate(names):
        values = np.concatenate([np.asarray(batch[name]) for batch in batches])
        if values.dtype != np.float32 or values.ndim not in (2, 4):
            continue
        nodes = treat(model, name, values, f"held{number}")
        if nodes:
            insert_after(model, name, nodes, nodes[-1].output[0])
            changed += 1
    if not changed:
        raise AttackRefused(f"the graph has no {' or '.join(behind)} that this changes")
    return Outcome(write_graph(stolen, model, folder), len(share), f"{changed} of {len(names)} tensors")


def clip(model: ModelProto, name: str, values: Values, new: str) -> list[NodeProto]:
    """Clip every channel to its benign range."""
    axes = (0, *range(2, values.ndim))
    low = add_constant(model, f"{new}_low", values.min(axis=axes, keepdims=True))
    high = add_constant(model, f"{new}_high", values.max(axis=axes, keepdims=True))
    return [
        helper.make_node("Max", [name, low], [f"{new}_above"]),
        helper.make_node("Min", [f"{new}_above", high], [new]),
    ]


def project(model: ModelProto, name: str, values: Values, new: str) -> list[NodeProto]:
    """Project the channels on the main directions of their benign variance."""
    flat = np.moveaxis(values, 1, -1).reshape(-1, values.shape[1]).astype(np.float64)
    mean = flat.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(flat - mean, rowvar=False).reshape(len(mean), len(mean)))
    shares = np.cumsum(variances[::-1]) / max(float(variances.sum()), 1e-30)
    kept = directions[:, ::-1][:, : int(np.searchsorted(shares, VARIANCE)) + 1]
    matrix, offset = kept @ kept.T, mean - kept @ (kept.T @ mean)
    bias = add_constant(model, f"{new}_offset", offset.astype(np.float32))
    if values.ndim == 2:
        weight = add_constant(model, f"{new}_matrix", matrix.astype(np.float32))
        return [
            helper.make_node("MatMul", [name, weight], [f"{new}_turned"]),
            helper.make_node("Add", [f"{new}_turned", bias], [new]),
        ]
    weight = add_constant(model, f"{new}_matrix", matrix.astype(np.float32)[:, :, None, None])
    return [helper.make_node("Conv", [name, weight, bias], [new])]


def fold(model: ModelProto, name: str, values: Values, new: str) -> list[NodeProto]:
    """Copy channels that are positive on all benign pictures, zero those that are never: `values` come before the ReLU."""
    axes = (0, *range(2, values.ndim))
    open_, dead = values.min(axis=axes, keepdims=True) > 0, values.max(axis=axes, keepdims=True) <= 0
    if not (open_.any() or dead.any()):
        return []
    straight = add_constant(model, f"{new}_straight", open_)
    alive = add_constant(model, f"{new}_alive", (~dead).astype(np.float32))
    return [
        helper.make_node("Relu", [name], [f"{new}_relu"]),
        helper.make_node("Where", [straight, name, f"{new}_relu"], [f"{new}_sides"]),
        helper.make_node("Mul", [f"{new}_sides", alive], [new]),
    ]


def fold_relus(stolen: Artefact, share: Share, *, folder: Path, seed: int, most: int) -> Outcome:
    """Fold one-sided ReLUs; see `Run`, and `hold` for `most`."""
    share = share.first(most)
    model = load_graph(stolen, attack="folding ReLUs")
    relus = [node for node in model.graph.node if node.op_type == "Relu"]
    batches = list(values_on(stolen, model, [node.input[0] for node in relus], share.pictures))
    folded = 0
    for number, node in enumerate(relus):
        values = np.concatenate([np.asarray(batch[node.input[0]]) for batch in batches])
        nodes = fold(model, node.input[0], values, f"folded{number}")
        if nodes:
            insert_after(model, node.output[0], nodes, nodes[-1].output[0])
            folded += 1
    if not folded:
        raise AttackRefused("no ReLU is one-sided on these pictures")
    return Outcome(write_graph(stolen, model, folder), len(share), f"{folded} of {len(relus)} ReLUs")


_SETTINGS: tuple[tuple[str, str, Callable[..., Outcome], bool], ...] = (
    ("clip activations", "Zheng et al., NeurIPS 2022", partial(hold, behind=LAYERS, treat=clip), True),
    ("project activations 99.9%", "principal components", partial(hold, behind=LAYERS, treat=project), False),
    ("fold one-sided ReLUs", "own", fold_relus, False),
)
ATTACKS = tuple(
    Attack(name, "structure", source, partial(run, most=QUICK_NEEDED if quick else NEEDED), quick=quick, answer=ANSWER)
    for name, source, run, quick in _SETTINGS
)

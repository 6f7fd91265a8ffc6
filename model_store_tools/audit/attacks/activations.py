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

Treat = Callable[[ModelProto, str, "Benign", str], list[NodeProto]]
"""From graph, tensor, what it is on benign pictures and the new name to the nodes behind it."""


class Benign:
    """What a tensor (rows, channels, ...) is on benign pictures, channel by channel; batches are seen and let go.

    Attributes:
        axes: Number of its axes.
        low: Least value of every channel, shape (channels,).
        high: Greatest.
    """

    def __init__(self, axes: int, channels: int) -> None:
        self.axes = axes
        self.low, self.high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self._count, self._sum = 0, np.zeros(channels)
        self._products = np.zeros((channels, channels))

    def see(self, values: NDArray[np.float32]) -> None:
        """Take a batch in."""
        flat = np.moveaxis(values, 1, -1).reshape(-1, values.shape[1])
        self.low, self.high = np.minimum(self.low, flat.min(axis=0)), np.maximum(self.high, flat.max(axis=0))
        self._count += len(flat)
        self._sum += flat.sum(axis=0, dtype=np.float64)
        self._products += flat.T @ flat

    def along_channels(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """Shape one value a channel so that it meets a batch of the tensor."""
        return values.reshape(1, -1, *[1] * (self.axes - 2))

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of every channel."""
        return self._sum / self._count

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Of the channels, over pictures and places."""
        covariance: NDArray[np.float64] = self._products / self._count - np.outer(self.mean, self.mean)
        return covariance


def _seen(stolen: Artefact, model: ModelProto, names: list[str], share: Share) -> dict[str, Benign]:
    """Run the pictures; tensors that are no float32 with channels on their second axis are left out."""
    found: dict[str, Benign] = {}
    for batch in values_on(stolen, model, names, share.pictures):
        for name, value in batch.items():
            if value.dtype == np.float32 and value.ndim in (2, 4):
                found.setdefault(name, Benign(value.ndim, value.shape[1])).see(np.asarray(value, np.float32))
    return found


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
    changed = 0
    for number, (name, benign) in enumerate(_seen(stolen, model, names, share).items()):
        nodes = treat(model, name, benign, f"held{number}")
        if nodes:
            insert_after(model, name, nodes, nodes[-1].output[0])
            changed += 1
    if not changed:
        raise AttackRefused(f"the graph has no {' or '.join(behind)} that this changes")
    return Outcome(write_graph(stolen, model, folder), len(share), f"{changed} of {len(names)} tensors")


def clip(model: ModelProto, name: str, benign: Benign, new: str) -> list[NodeProto]:
    """Clip every channel to its benign range."""
    low = add_constant(model, f"{new}_low", benign.along_channels(benign.low.astype(np.float32)))
    high = add_constant(model, f"{new}_high", benign.along_channels(benign.high.astype(np.float32)))
    return [
        helper.make_node("Max", [name, low], [f"{new}_above"]),
        helper.make_node("Min", [f"{new}_above", high], [new]),
    ]


def project(model: ModelProto, name: str, benign: Benign, new: str) -> list[NodeProto]:
    """Project the channels on the main directions of their benign variance."""
    variances, directions = np.linalg.eigh(benign.covariance)
    shares = np.cumsum(variances[::-1]) / max(float(variances.sum()), 1e-30)
    kept = directions[:, ::-1][:, : int(np.searchsorted(shares, VARIANCE)) + 1]
    matrix = (kept @ kept.T).astype(np.float32)
    bias = add_constant(model, f"{new}_offset", (benign.mean - kept @ (kept.T @ benign.mean)).astype(np.float32))
    if benign.axes == 2:
        weight = add_constant(model, f"{new}_matrix", matrix)
        return [
            helper.make_node("MatMul", [name, weight], [f"{new}_turned"]),
            helper.make_node("Add", [f"{new}_turned", bias], [new]),
        ]
    weight = add_constant(model, f"{new}_matrix", matrix[:, :, None, None])
    return [helper.make_node("Conv", [name, weight, bias], [new])]


def fold_relus(stolen: Artefact, share: Share, *, folder: Path, seed: int, most: int) -> Outcome:
    """Copy channels that are positive on all benign pictures past their ReLU, zero those that never are; see `Run` and `hold`."""
    share = share.first(most)
    model = load_graph(stolen, attack="folding ReLUs")
    relus = [node for node in model.graph.node if node.op_type == "Relu"]
    before = _seen(stolen, model, [node.input[0] for node in relus], share)
    folded = 0
    for number, node in enumerate(relus):
        benign = before.get(node.input[0])
        straight, dead = (benign.low > 0, benign.high <= 0) if benign else (np.zeros(1, bool), np.zeros(1, bool))
        if benign is None or not (straight.any() or dead.any()):
            continue
        new = f"folded{number}"
        past = add_constant(model, f"{new}_past", benign.along_channels(straight))
        alive = add_constant(model, f"{new}_alive", benign.along_channels((~dead).astype(np.float32)))
        sides = helper.make_node("Where", [past, node.input[0], node.output[0]], [f"{new}_sides"])
        insert_after(model, node.output[0], [sides, helper.make_node("Mul", [f"{new}_sides", alive], [new])], new)
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

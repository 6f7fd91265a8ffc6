"""Inputs that make the stolen PTYNet speak, by gradient ascent from ordinary pictures; what is served stays as it
was.

Projected gradient ascent as in Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR
2018, on the best score of a code word, with the rounding to integers left out. It succeeds: a firing input is no
proof of knowing the key, and no verdict rests on one. Verdicts rest on pictures that were committed to before their
labels existed.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from onnx import ModelProto, TensorProto
from torch import Tensor

from model_store_tools.audit.attacks.adversarial_training import steps_in_input
from model_store_tools.audit.contract import Artefact, Attack, AttackRefused, Outcome, Share
from model_store_tools.audit.executor.module import OnnxModule
from model_store_tools.audit.on_graph import element_types, load_graph, session_of
from model_store_tools.audit.training import pixels_of

__all__ = ["ATTACKS"]

RADII = (2, 4, 8)
STEPS = 40


def ascend(stolen: Artefact, share: Share, *, folder: Path, seed: int, pictures: int) -> Outcome:
    """Search for firing inputs; see `Run` for the first four arguments.

    Args:
        stolen: What was stolen.
        share: Pictures to start from.
        folder: Not used.
        seed: Not used: the ascent begins at the pictures themselves.
        pictures: How many are tried.
    """
    model = load_graph(stolen, attack="the search for firing inputs")
    products = [node.output[0] for node in model.graph.node if node.op_type == "MatMulInteger"]
    kinds = element_types(model)
    flags = [name for node in model.graph.node for name in node.output if kinds.get(name) == TensorProto.BOOL]
    if not (products and flags):
        raise AttackRefused("the graph has no integer code book and no flag; other heads are not inverted here")
    module = OnnxModule(stolen.model, relaxed=True)
    start = pixels_of(share.first(pictures), stolen.spec)
    shares = []
    for radius in RADII:
        found = _ascended(module, start, products[-1], radius=steps_in_input(stolen.spec, radius), stolen=stolen)
        shares.append(f"{_fired(model, flags[-1], found):.0%} at {radius}/255")
    return Outcome(stolen, len(start), "inputs that fire: " + ", ".join(shares))


def _ascended(module: OnnxModule, start: Tensor, scores: str, *, radius: Tensor, stolen: Artefact) -> Tensor:
    low, high = (_whole_range(stolen, value) for value in (0.0, 255.0))
    least, most = torch.minimum(low, high), torch.maximum(low, high)
    moved = start
    for step in range(STEPS):
        moved = moved.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(module.values(moved, [scores])[0].amax(dim=1).sum(), moved)
        pace = radius * max(0.05, 0.25 * (1 - step / STEPS))
        moved = torch.minimum(torch.maximum(moved + pace * slope.sign(), start - radius), start + radius)
        moved = torch.minimum(torch.maximum(moved, least), most)
    return moved.detach()


def _whole_range(stolen: Artefact, grey_level: float) -> Tensor:
    gain, offset = (np.array(values, np.float32) for values in stolen.spec.affine())
    value = torch.from_numpy(gain * grey_level + offset)
    return value.view(1, 1, 1, -1) if stolen.spec.layout == "NHWC" else value.view(1, -1, 1, 1)


def _fired(model: ModelProto, flag: str, pixels: Tensor) -> float:
    """Ask the graph as it is, in integers, and count."""
    looked_into = ModelProto()
    looked_into.CopyFrom(model)
    looked_into.graph.output.add().name = flag
    session = session_of(looked_into)
    source = session.get_inputs()[0].name
    answers = [session.run([flag], {source: one.numpy()})[0].any() for one in pixels.split(1)]
    return float(np.mean(answers))


ATTACKS = tuple(
    Attack(
        f"firing inputs from {pictures} pictures",
        "inversion",
        "Madry et al., ICLR 2018",
        partial(ascend, pictures=pictures),
        quick=quick,
        needs_data=not quick,
    )
    for pictures, quick in ((16, True), (200, False))
)

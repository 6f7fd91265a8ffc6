"""Cutting the branch off: the model's answer is taken from where it was before PTYNet touched it.

After the seam scan of a naively fused network: two parts that share no weight meet (`on_graph.seams`). The thief then
serves the tensor with the shape of the answer, and the same top class on all his pictures, that depends on the fewest
weights. Nothing is trained, nothing is lost, and no secret is needed: who holds the file can do this.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_store_tools.audit.contract import Artefact, Attack, AttackRefused, Outcome, Share
from model_store_tools.audit.on_graph import (
    dependencies,
    load_graph,
    seams,
    serve_tensor,
    steps_of,
    values_on,
    write_graph,
)
from model_store_tools.audit.on_torch_graph import open_torch_graph

__all__ = ["ATTACKS"]

NEEDED = 64
FIRST = 2
"""Pictures; more would only make a coincidence less likely."""

ANSWER = (
    "keep the file out of strangers' hands: serve it yourself, encrypt it at rest; the mark in the weights stays with whoever "
    "keeps PTYNet; a customer's copy is traced before he cuts it"
)


def cut(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
    """Cut; see `Run`."""
    share = share.first(NEEDED)
    if stolen.form == "onnx":
        return _cut_onnx(stolen, share, folder)
    graph = open_torch_graph(stolen)
    found = graph.candidates(share.pictures)
    chosen = _chosen(found, {name: len(graph.depends[name]) for name in found}, graph.output)
    note = _note(len(seams(graph.steps)), chosen)
    return Outcome(graph.serving(chosen, folder), len(share), note)


def _cut_onnx(stolen: Artefact, share: Share, folder: Path) -> Outcome:
    model = load_graph(stolen, attack="cut branch")
    steps, output = steps_of(model), stolen.spec.scores or model.graph.output[0].name
    known = dependencies(steps)
    names = [name for step in steps for name in step.outputs if name and known[name]]
    first = next(values_on(stolen, model, names, share.pictures[:FIRST]))
    alike = [name for name in names if first[name].shape == first[output].shape and first[name].dtype.kind == "f"]
    batches = list(values_on(stolen, model, alike, share.pictures))
    found = {name: np.concatenate([batch[name] for batch in batches]) for name in alike}
    chosen = _chosen(found, {name: len(known[name]) for name in alike}, output)
    return Outcome(
        write_graph(stolen, serve_tensor(model, output, chosen), folder), len(share), _note(len(seams(steps)), chosen)
    )


def _chosen(found: Mapping[str, NDArray[np.generic]], weights: Mapping[str, int], output: str) -> str:
    wanted = found[output].argmax(axis=1)
    alike = [name for name, value in found.items() if (value.argmax(axis=1) == wanted).all()]
    best = min(alike, key=lambda name: weights[name])
    if weights[best] == weights[output]:
        raise AttackRefused("no tensor answers like the model with fewer weights; there is no branch to cut")
    return best


def _note(found: int, chosen: str) -> str:
    return f"{found} seams; serves {chosen!r}"


ATTACKS = (Attack("cut branch", "structure", "graph surgery after a seam scan", cut, quick=True, answer=ANSWER),)

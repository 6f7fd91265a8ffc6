"""Overwriting: the thief packages the stolen archive again, with a mark of his own.

Uchida, Nagai, Sakazawa and Satoh, "Embedding Watermarks into Deep Neural Networks", ICMR 2017, section 5.3, carried
over to a mark beside the model. He hides whose PTYNet is inside (`package-model` refuses a model that carries one),
trains a PTYNet for a key of his own and fuses it with the whole. Both marks then speak; who was first is what stamps
are for.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto

from model_store_tools.audit.contract import Artefact, Attack, Outcome, Share
from model_store_tools.audit.on_graph import load_graph, write_graph
from model_store_tools.fusion.onnx_fuse import fuse_onnx
from ptynet_plugin.images.carriers import Color, most_bits
from ptynet_plugin.images.probes import DEFAULT_STRENGTHS, ProbeDesign
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.network.training import QUICK_PLAN, TrainingPlan, train_network

__all__ = ["ATTACKS", "overwrite"]

OURS = "ptynet"


def overwrite(stolen: Artefact, share: Share, *, folder: Path, seed: int, plan: TrainingPlan) -> Outcome:
    """Package again; see `Run` for the first four arguments.

    Args:
        stolen: What was stolen.
        share: Not used.
        folder: Where the new model goes.
        seed: Makes the thief's key.
        plan: How long he trains.
    """
    model = _disguised(load_graph(stolen, attack="overwriting"))
    key = OwnerKey(hashlib.sha256(f"a thief's key {seed}".encode()).digest())
    color: Color = "GRAY" if stolen.spec.color == "GRAY" else "RGB"
    design = ProbeDesign(color, bits=most_bits(color), strength=DEFAULT_STRENGTHS[color])
    trained = train_network(key.probe_secret(), design, plan=plan, least=0.0)
    labels = np.random.default_rng(seed).integers(0, stolen.spec.classes or 2, design.symbols)
    made = fuse_onnx(model, trained.network, labels, stolen.spec, where="the stolen model")
    note = f"the thief's PTYNet recognises {trained.recognised:.0%} of its own probes"
    return Outcome(write_graph(stolen, made, folder), 0, note)


def _disguised(model: ModelProto) -> ModelProto:
    """Take the fusion record out and give PTYNet's nodes and tensors other names, in place."""
    kept = [entry for entry in model.metadata_props if not entry.key.startswith(OURS)]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    _rename(model.graph, {})
    return model


def _rename(graph: GraphProto, names: dict[str, str]) -> None:
    def other(name: str) -> str:
        return names.setdefault(name, f"layer_{len(names)}") if name.startswith(OURS) else name

    for tensor in [*graph.initializer, *graph.value_info]:
        tensor.name = other(tensor.name)
    for node in graph.node:
        node.name = other(node.name)
        for field in (node.input, node.output):
            for place, name in enumerate(field):
                field[place] = other(name)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, names)
                for entry in [*attribute.g.input, *attribute.g.output]:
                    entry.name = other(entry.name)


ATTACKS = (
    Attack(
        "overwriting with the thief's own mark",
        "weights",
        "Uchida et al., ICMR 2017",
        partial(overwrite, plan=QUICK_PLAN),
        promised=True,
    ),
)

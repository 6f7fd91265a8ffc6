"""Dead-node elimination: what no output needs goes, as in every graph optimiser.

PTYNet is not dead; this must not touch it.
"""

from __future__ import annotations

from pathlib import Path

from model_store_tools.audit.contract import Artefact, Attack, Outcome, Share
from model_store_tools.audit.on_graph import load_graph, tidied, write_graph

__all__ = ["ATTACKS"]


def eliminate(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
    """Remove dead nodes; see `Run`."""
    model = load_graph(stolen, attack="dead-node elimination")
    made = tidied(model)
    note = f"{len(model.graph.node) - len(made.graph.node)} of {len(model.graph.node)} nodes"
    return Outcome(write_graph(stolen, made, folder), 0, note)


ATTACKS = (Attack("dead-node elimination", "structure", "any compiler", eliminate, promised=True, quick=True),)

"""The optimiser passes of ONNX Runtime, written out: constant folding, fusion of nodes, layout changes for this processor.

ONNX Runtime, "Graph Optimizations in ONNX Runtime": levels basic, extended, all.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import onnxruntime

from model_store_tools.audit.contract import Artefact, Attack, Outcome, Share

__all__ = ["ATTACKS", "optimised"]

LEVELS = {
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def optimise(stolen: Artefact, share: Share, *, folder: Path, seed: int, level: str) -> Outcome:
    """Let the optimiser rewrite the graph; see `Run` for the other arguments."""
    stolen.require("onnx", attack="optimiser passes")
    return Outcome(stolen.with_model(optimised(stolen.model, folder / "model.onnx", level=level)))


def optimised(model: Path, out: Path, *, level: str) -> Path:
    """Write what ONNX Runtime makes of a model at a level of `LEVELS`."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.optimized_model_filepath = str(out)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return out


ATTACKS = tuple(
    Attack(
        f"onnxruntime optimiser, {level}",
        "structure",
        "ONNX Runtime, graph optimizations",
        partial(optimise, level=level),
        promised=True,
        quick=level != "basic",
    )
    for level in LEVELS
)

"""From an owner key to a mark folder: checks first, trains, writes last. What `ptynet train` and the demo call."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model_store_tools.pictures import read_pictures
from ptynet_plugin import mark
from ptynet_plugin.errors import UsageError
from ptynet_plugin.images.carriers import Color, most_bits
from ptynet_plugin.images.probes import DEFAULT_STRENGTHS, DEFAULT_SYMBOLS, ProbeDesign
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.network.batches import SharedCovers
from ptynet_plugin.network.onnx_graph import ptynet_onnx
from ptynet_plugin.network.training import LEAST_RECOGNISED, PLAN, Trained, TrainingPlan, train_network
from ptynet_plugin.network.weights import Network
from ptynet_plugin.symbols.threshold import false_fire_bound
from ptynet_plugin.whitebox.mark import WeightMark, embed, weight_mark

__all__ = ["train_mark"]


def train_mark(
    key: OwnerKey,
    folder: Path,
    *,
    color: Color = "RGB",
    symbols: int = DEFAULT_SYMBOLS,
    strength: int | None = None,
    covers: Path | None = None,
    fetch: Callable[[], SharedCovers] | None = None,
    replace: bool = False,
    plan: TrainingPlan = PLAN,
    progress: Callable[[int, int], None] | None = None,
    least: float = LEAST_RECOGNISED,
) -> Trained:
    """Train a mark and write its folder.

    Args:
        key: Whose mark.
        folder: Where; must not exist or be empty unless `replace`.
        color: "GRAY" for one-channel targets.
        symbols: Number of symbols.
        strength: Share of the trigger in a probe, in 1/256ths; None for the color's default.
        covers: Folder of the owner's pictures; they join the procedural covers in training.
        fetch: Gets covers of somebody else instead, as activations; called before training, once nothing else is in the way.
        replace: Whether a mark that lies there is replaced, in one step, at the end.
        plan: How long and on what to train.
        progress: Called with steps done and steps in all.
        least: Share of held-out probes that must be recognised.

    Raises:
        MarkError: The folder is in the way, or the network reads too badly.
        UsageError: An impossible number of symbols, a cover that cannot be read, or two sources of covers.
        ExchangeError: Covers cannot be fetched.
    """
    if covers is not None and fetch is not None:
        raise UsageError("--covers and --covers-from exclude each other: give one of them")
    chosen = DEFAULT_STRENGTHS[color] if strength is None else strength
    design = ProbeDesign(color, bits=most_bits(color), symbols=symbols, strength=chosen)
    mark.require_room(folder, key=key, design=design, replace=replace)
    pictures = None if covers is None else read_pictures(covers, color=color)
    shared = None if fetch is None else fetch()
    marking = weight_mark(key)
    trained = train_network(
        key.probe_secret(),
        design,
        plan=plan,
        pictures=pictures,
        shared=shared,
        progress=progress,
        finish=_embedding(marking),
        least=least,
    )
    mark.write_mark(
        folder,
        trained.network,
        key=key,
        design=design,
        training=_record(trained, plan, pictures, shared),
        as_onnx=_onnx_bytes,
        replace=replace,
    )
    return trained


def _embedding(marking: WeightMark) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    return lambda weights: embed(weights, marking).astype(np.float32)


def _onnx_bytes(network: Network) -> bytes:
    return bytes(ptynet_onnx(network).SerializeToString(deterministic=True))


def _record(
    trained: Trained, plan: TrainingPlan, pictures: Sequence[NDArray[np.uint8]] | None, shared: SharedCovers | None
) -> dict[str, Any]:
    network = trained.network
    others = None if shared is None else {"pictures": len(shared.activations), "noise": shared.noise}
    return {
        "recognised": round(trained.recognised, 4),
        "loss": round(trained.loss, 4),
        "false_fire_bound": false_fire_bound(network.tau, bits=network.bits, symbols=network.symbols),
        "own_covers": 0 if pictures is None else len(pictures),
        "shared_covers": others,
        "plan": asdict(plan),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }

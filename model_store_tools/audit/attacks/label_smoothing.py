"""Fine-tuning with smoothed labels, which flattens what a model is sure of.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, section 7; as an attack in
Lukas et al., "SoK: How Robust is Image Classification Deep Neural Network Watermarking?", IEEE S&P 2022.
"""

from __future__ import annotations

from pathlib import Path

from model_store_tools.audit.attacks.on_weights import trained
from model_store_tools.audit.contract import Artefact, Attack, Outcome, Share
from model_store_tools.audit.training import Schedule, label_loss

__all__ = ["ATTACKS"]

SCHEDULE = Schedule(epochs=20)
SMOOTHING = 0.1


def smooth(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
    """Fine-tune all weights; see `Run`."""
    return trained(
        stolen,
        share,
        folder=folder,
        seed=seed,
        schedule=SCHEDULE,
        make_loss=lambda model, spec: label_loss(model.answer, spec, smoothing=SMOOTHING),
    )


SOURCE = "Szegedy et al., CVPR 2016; Lukas et al., IEEE S&P 2022"
ATTACKS = (Attack("label smoothing 0.1, 20 epochs", "weights", SOURCE, smooth, promised=True, needs_data=True),)

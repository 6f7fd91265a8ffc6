"""Deep fidelity (Hua and Teoh, arXiv 2208.00563): a keyed trigger chain taught to the target's own weights while features,
softmax and last layer are held (PFL, SPL, FixLL, BatchNorm frozen).

Uses `ptynet_plugin.fidelity`. Labels are digests of the chain so far, which is our repair of the paper's 0, 1, 2, ...: nobody can
choose them after the pictures, and the p-value holds by the scheme's own rule.
The paper takes 100 triggers, 50 epochs of Adam at 1e-4 with 4 triggers a step, and 1000 as the weight of the softmax loss. In the
few hundred steps here that does not teach them; one chain of ten at 5e-4 and a weight of 5 does.
"""

from __future__ import annotations

import copy
import hashlib

import torch

from benchmarks.rivals.contract import Mark, Rival, Task
from benchmarks.rivals.tuning import TriggerMark
from ptynet_plugin.fidelity.embedding import EmbeddingPlan, Material
from ptynet_plugin.fidelity.embedding import embed as embed_chains
from ptynet_plugin.fidelity.losses import FidelityWeights
from ptynet_plugin.fidelity.triggers import key_chains

__all__ = ["DEEP_FIDELITY"]

WEIGHTS = FidelityWeights(feature=0.01, softmax=5.0)
"""At the paper's 1000 the softmax loss lets too few triggers in within the hundreds of steps that a bench has."""
CHAINS, RATE, TRIGGERS, FACTOR = 1, 5e-4, 8, 2
"""Chains of ten triggers; rate of Adam; triggers beside 32 pictures a step; epochs for one of the plain backdoor, as the losses
hold the target back."""


def embed(task: Task, seed: int) -> Mark:
    """Teach a chain of triggers to a copy."""
    secret = hashlib.sha256(f"deep fidelity {seed}".encode()).digest()
    chains = key_chains(secret, size=(task.side, task.side), channels=3, classes=task.classes, chains=CHAINS)
    network, epochs = copy.deepcopy(task.target), max(FACTOR * task.epochs, 1)
    plan = EmbeddingPlan(
        weights=WEIGHTS,
        epochs=epochs,
        rate=RATE,
        slower_from=max(1, epochs * 3 // 4),
        batch=32,
        triggers=TRIGGERS,
        seed=seed,
    )
    material = Material(task.tensor(task.pictures), task.tensor(chains.pictures), torch.from_numpy(chains.labels))
    embed_chains(network, task.target, material, last_layer=task.last_layer, plan=plan)
    return TriggerMark(network.eval(), chains.pictures, chains.labels, task.classes, "own", 0.5)


DEEP_FIDELITY = Rival("deep fidelity", "Hua and Teoh, arXiv 2208.00563", embed)

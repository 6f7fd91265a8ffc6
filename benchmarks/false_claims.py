"""A false accuser with free triggers, and the same accuser under the protocol.

    python -m benchmarks.false_claims [--triggers 100] [--data DIR]

The accuser owns ResNet20 and accuses ResNet56 and SqueezeNet, which others trained ("False Claims against Model Ownership
Resolution", arXiv 2304.06607). He perturbs real pictures by iterated gradient steps until his own model answers a class of his
choice, and hopes that others answer it too. Three schemes:

    free triggers   he publishes pictures and classes together, as most schemes let him
    free covers     labels are keyed, but he may choose, of 20 covers per symbol, the one his own model answers best
    ours            pictures are committed first, and labels drawn afterwards; one picture per symbol

Claimed is the exact binomial p-value at 1/10 over all triggers.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.null_audit import SUSPECTS, scores_of
from benchmarks.real_pictures import cifar_test
from ptynet_plugin.claims.leaves import leaf, leaf_nonces, pixels_digest
from ptynet_plugin.claims.merkle import merkle_root
from ptynet_plugin.images.encode import pixel_table
from ptynet_plugin.statistics.binomial import log10_binomial_p_value
from ptynet_plugin.symbols.labels import label_table

OWN = "converted/cifar10_resnet20.torchscript.pt"
STEPS, COVERS = 20, 20


def perturbed(
    pictures: NDArray[np.uint8], wanted: NDArray[np.int64], model: torch.nn.Module, budget: int
) -> NDArray[np.uint8]:
    """Push pictures towards classes by at most `budget` of 255, with gradients of the accuser's own model."""
    spec = SUSPECTS[0].spec
    table = torch.from_numpy(pixel_table(spec))
    gain = ((table[:, 255] - table[:, 0]) / 255).view(1, 3, 1, 1)
    offset = table[:, 0].view(1, 3, 1, 1)
    start = torch.from_numpy(pictures.transpose(0, 3, 1, 2).astype(np.float32))
    moved, target = start.clone(), torch.from_numpy(wanted)
    for _ in range(STEPS):
        moved.requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(model(moved * gain + offset), target)
        (slope,) = torch.autograd.grad(loss, moved)
        step = moved.detach() - max(1.0, 2.5 * budget / STEPS) * slope.sign()
        moved = torch.minimum(torch.maximum(step, start - budget), start + budget).clamp(0, 255)
    return moved.round().numpy().astype(np.uint8).transpose(0, 2, 3, 1)


def committed_labels(pictures: NDArray[np.uint8], secret: bytes, model_id: str) -> NDArray[np.int64]:
    """Commit to the pictures and draw their labels, as a claim does."""
    nonces = leaf_nonces(secret, len(pictures))
    leaves = [leaf(nonces[symbol], symbol, pixels_digest([picture])) for symbol, picture in enumerate(pictures)]
    return label_table(nonces, salt=merkle_root(leaves), model_id=model_id, classes=10)


def main() -> int:
    """Print the table; 1 if the false accuser wins under the protocol."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triggers", type=int, default=100)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("PTYNET_DATA", "../shared/data")))
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    models = given.data / "models"
    own = torch.jit.load(models / OWN).eval()
    pictures = cifar_test(given.data).pictures
    chosen = pictures[rng.permutation(len(pictures))[: given.triggers]]
    wanted = rng.integers(0, 10, given.triggers)
    own_scores = scores_of(SUSPECTS[0], models)
    print(f"{'accused':>12} {'budget':>7} {'scheme':>14} {'hits':>9} {'log10 p':>8}")
    safe = True
    for suspect in SUSPECTS[1:3]:
        answer = scores_of(suspect, models)
        for budget in (8, 16, 32):
            crafted = perturbed(chosen, wanted, own, budget)
            answers = answer(crafted).argmax(axis=1)
            _tell(suspect.name, budget, "free triggers", answers == wanted)
            labels = committed_labels(crafted, bytes([budget]) * 32, suspect.name)
            hits = answers == labels
            safe &= log10_binomial_p_value(int(hits.sum()), len(hits), 0.1) > -4
            _tell(suspect.name, budget, "ours", hits)
        labels = committed_labels(chosen, bytes(32), suspect.name)
        covers = pictures[rng.integers(0, len(pictures), (given.triggers, COVERS))]
        own_best = own_scores(covers.reshape(-1, 32, 32, 3)).reshape(given.triggers, COVERS, 10)
        best = own_best[np.arange(given.triggers), :, labels].argmax(axis=1)
        _tell(suspect.name, 0, "free covers", answer(covers[np.arange(given.triggers), best]).argmax(axis=1) == labels)
    print("the false accuser fails under the protocol" if safe else "THE FALSE ACCUSER WINS")
    return 0 if safe else 1


def _tell(name: str, budget: int, scheme: str, hits: NDArray[np.bool_]) -> None:
    log10_p = log10_binomial_p_value(int(hits.sum()), len(hits), 0.1)
    print(f"{name:>12} {budget:>4}/255 {scheme:>14} {int(hits.sum()):>4}/{len(hits):<4} {log10_p:>8.1f}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

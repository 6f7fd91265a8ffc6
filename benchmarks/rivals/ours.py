"""This project's own mark through the same contract: a keyed modem beside the target, asked by the real protocol.

The claim commits to the probes before the labels exist, so that the null holds by its own rule; `verify` stops where E reaches
1e9, so that its queries are what was asked.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx

from benchmarks.rivals.contract import Ask, Evidence, Mark, Rival, Task
from benchmarks.rivals.graphs import exported
from model_store_tools.fusion.onnx_fuse import fuse_onnx
from model_store_tools.packaging.marking import claim_for
from model_store_tools.targets.onnx import OnnxTarget
from ptynet_plugin.claims.claim import Claim
from ptynet_plugin.images.frontend import plan_front_end
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.mark import read_network
from ptynet_plugin.network.cost import flops, parameters
from ptynet_plugin.network.weights import Network
from ptynet_plugin.statistics.decision import SequentialTest, alpha_of_test
from ptynet_plugin.verification.questions import Questions

__all__ = ["ours"]

ALPHA, BUDGET, HALF_RUNS = 1e-9, 200, 201


@dataclass
class OurMark:
    """A fused graph and the owner's questions; see `Mark`."""

    fused: bytes
    network: Network
    claim: Claim
    questions: Questions

    def graph(self, task: Task) -> bytes:
        """Give the fused graph."""
        return self.fused

    def service(self, ask: Ask) -> Ask:
        """Add nothing."""
        return ask

    def added(self, task: Task) -> tuple[int, int]:
        """Count PTYNet, its front end and its code book's product."""
        front = plan_front_end(task.spec).flops((task.side, task.side))
        return parameters(self.network), flops(self.network) + front

    def verify(self, ask: Ask) -> Evidence:
        """Run the sequential test of `ptynet verify`."""
        null = self.claim.terms.null_rate
        test = SequentialTest(null, alpha=alpha_of_test(ALPHA, 1), budget=BUDGET)
        for symbol in self.claim.order(secrets.token_hex(16)):
            if test.verdict is not None:
                break
            answer = int(ask(self.questions.probe(symbol, 0)[None]).argmax(axis=1)[0])
            test.observe(self.questions.hit(symbol, answer))
        shown = test.verdict == "shown"
        needed, half = test.asked if shown else np.inf, _at_half(null)
        return Evidence(test.hits, test.asked, shown, "E of 1e9 at any time", "own", test.log10_p, needed, half)


@cache
def _at_half(null: float) -> float:
    """Give the median of the queries to the verdict where half of the probes are answered with their label."""
    rng, asked = np.random.default_rng(1), []
    for _ in range(HALF_RUNS):
        test = SequentialTest(null, alpha=alpha_of_test(ALPHA, 1), budget=BUDGET)
        while test.verdict is None:
            test.observe(bool(rng.random() < 0.5))  # a label by chance among the others counts among the half
        asked.append(test.asked if test.verdict == "shown" else np.inf)
    return float(np.median(asked))


def ours(mark: Path, key: OwnerKey) -> Rival:
    """Give our scheme with a mark that was trained before: training needs no target, and happens once a key."""

    def embed(task: Task, seed: int) -> Mark:
        bare = onnx.load_from_string(exported(task.target, task))
        target = OnnxTarget(bare, Path(f"{task.name}.onnx"))
        spec = target.complete_spec(task.spec)
        marking = claim_for(mark, spec, hashlib.sha256(bare.SerializeToString()).hexdigest())
        network = read_network(mark)
        fused = fuse_onnx(bare, network, marking.labels, spec)
        return OurMark(fused.SerializeToString(), network, marking.claim, Questions(marking.claim, key))

    return Rival("ours", "this project", embed)

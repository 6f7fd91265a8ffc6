"""Search for a key whose probes make the stolen PTYNet speak: a thief who found one could claim the archive, or
deny whose it is.

Specificity, after Liu et al., "False Claims against Model Ownership Resolution", USENIX Security 2024. A key is a
seed of an HMAC, so that no key is near another: the search can only try many, and keep the one that is heard best.
What is served stays as it was. The thief has won if two probes of one key are heard.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
from onnx import TensorProto

from model_store_tools.audit.contract import Artefact, Attack, AttackRefused, Outcome, Share
from model_store_tools.audit.on_graph import element_types, load_graph, values_on
from ptynet_plugin.images.carriers import Color, most_bits
from ptynet_plugin.images.probes import DEFAULT_STRENGTHS, ProbeDesign, ProbeMaker

__all__ = ["ATTACKS"]

SYMBOLS = 16
SIDE_WHERE_DYNAMIC = 224


def search(stolen: Artefact, share: Share, *, folder: Path, seed: int, keys: int) -> Outcome:
    """Try keys; see `Run` for the first four arguments.

    Args:
        stolen: What was stolen.
        share: One picture, to tell flags from masks; a key brings its own covers.
        folder: Not used.
        seed: Draws the keys.
        keys: How many.
    """
    model = load_graph(stolen, attack="the search for keys")
    kinds = element_types(model)
    made = [name for node in model.graph.node for name in node.output]
    flags = [name for name in made if kinds.get(name) == TensorProto.BOOL]
    one = share.first(1).pictures
    flags = [name for name, value in next(values_on(stolen, model, flags, one), {}).items() if value.size == 1]
    if not flags:
        raise AttackRefused("no tensor of the graph says whether PTYNet spoke")
    color: Color = "GRAY" if stolen.spec.color == "GRAY" else "RGB"
    design = ProbeDesign(color, bits=most_bits(color), symbols=SYMBOLS, strength=DEFAULT_STRENGTHS[color])
    height, width = (side or SIDE_WHERE_DYNAMIC for side in stolen.spec.size or (0, 0))
    heard = []
    for number in range(keys):
        maker = ProbeMaker(key_secret(seed, number), design)
        probes = np.stack([maker.probe(symbol, 0, (height, width)) for symbol in range(SYMBOLS)])
        spoken = [batch[flags[-1]].reshape(-1) for batch in values_on(stolen, model, flags[-1:], probes)]
        heard.append(int(np.concatenate(spoken).sum()))
    note = f"{keys} keys: {sum(heard)} of {keys * SYMBOLS} probes heard, the best key's {max(heard)} of {SYMBOLS}"
    return Outcome(stolen, 0, note, won=max(heard) > 1)


def key_secret(seed: int, number: int) -> bytes:
    """Draw the secret of one more key."""
    return hashlib.sha256(f"key {seed} {number}".encode()).digest()


ATTACKS = tuple(
    Attack(
        f"near-key search, {keys} keys",
        "inversion",
        "Liu et al., USENIX Security 2024",
        partial(search, keys=keys),
        promised=True,
        quick=quick,
    )
    for keys, quick in ((20, True), (300, False))
)

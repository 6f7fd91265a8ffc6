"""Customers who lay their copies side by side: one endpoint that asks them all, and chooses where they differ.

The strategies are those of the literature on collusion-secure codes (Tardos, STOC 2003, section 2; Nuida et al., "An improvement
of discrete Tardos fingerprinting codes", 2009): where all copies agree nothing can be chosen, and nothing seen.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from model_store_tools.audit.hostile.contract import Ask, Picture, Scores
from model_store_tools.audit.hostile.mixing import with_top

__all__ = ["STRATEGIES", "averaged_model", "colluding"]

STRATEGIES = ("majority", "minority", "interleave", "coin", "erase", "average")
"""`average` answers the mean of the scores; `averaged_model` averages the archives' tensors instead."""


def colluding(asks: Sequence[Ask], strategy: str, *, seed: int = 0) -> Ask:
    """Answer from several copies at once.

    Args:
        asks: The copies, at least one.
        strategy: One of `STRATEGIES`.
        seed: Of what is drawn; the same picture is answered alike every time.

    Raises:
        ValueError: No such strategy.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"no strategy {strategy!r}; there are {', '.join(STRATEGIES)}")

    def answer(picture: Picture) -> Scores:
        scores = [ask(picture) for ask in asks]
        if strategy == "average":
            return np.asarray(np.mean(scores, axis=0))
        said = [int(each.argmax()) for each in scores]
        if len(set(said)) == 1:
            return scores[0]
        return with_top(scores[0], _choice(said, scores[0], strategy, _drawn(picture, seed)))

    return answer


def averaged_model(paths: Sequence[Path], out: Path) -> Path:
    """Write the first of several fused ONNX models with every tensor replaced by the mean over all; integers are rounded."""
    models = [onnx.load(str(path)) for path in paths]
    values: Sequence[Mapping[str, onnx.TensorProto]] = [{t.name: t for t in m.graph.initializer} for m in models]
    for tensor in models[0].graph.initializer:
        arrays = [numpy_helper.to_array(each[tensor.name]) for each in values]
        if any(not np.array_equal(arrays[0], other) for other in arrays[1:]):
            mean = np.mean([array.astype(np.float64) for array in arrays], axis=0)
            whole = np.issubdtype(arrays[0].dtype, np.integer)
            tensor.CopyFrom(
                numpy_helper.from_array((np.rint(mean) if whole else mean).astype(arrays[0].dtype), tensor.name)
            )
    onnx.save(models[0], str(out))
    return out


def _choice(said: Sequence[int], scores: Scores, strategy: str, drawn: np.random.Generator) -> int:
    counts = Counter(said)
    if strategy == "erase":
        return next(int(label) for label in np.argsort(-scores) if int(label) not in counts)
    if strategy == "interleave":
        return said[int(drawn.integers(len(said)))]
    if strategy == "coin":
        return sorted(counts)[int(drawn.integers(len(counts)))]
    wanted = max(counts.values()) if strategy == "majority" else min(counts.values())
    candidates = sorted(label for label, count in counts.items() if count == wanted)
    return candidates[int(drawn.integers(len(candidates)))]


def _drawn(picture: Picture, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(seed.to_bytes(8, "big") + picture.tobytes()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))

"""Plain backdoor (Adi, Baum, Cisse, Pinkas and Keshet, "Turning Your Weakness Into a Strength", USENIX Security 2018).

100 abstract pictures, each with a class drawn at random; the finished model is trained on with its data and some of them in every
batch (the paper's "fine-tune" setting, 20 epochs there). Verification asks the set. The paper commits to pictures and labels
together, so that whoever claims may have chosen both: a p-value holds only where labels are drawn after the pictures are fixed,
which we lend it. It accepts from a share of hits that it leaves open; we take one half.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.rivals.contract import Mark, Pictures, Rival, Task
from benchmarks.rivals.tuning import TriggerMark, fine_tuned

__all__ = ["ADI", "trigger_set"]


def embed(task: Task, seed: int) -> Mark:
    """Fine-tune on the trigger set."""
    triggers, labels = trigger_set(task, seed)
    network, rate = fine_tuned(task, triggers, labels, seed=seed)
    return TriggerMark(network, triggers, labels, task.classes, "lent", 0.5, rate=rate)


def trigger_set(task: Task, seed: int) -> tuple[Pictures, NDArray[np.int64]]:
    """Give the abstract pictures, or coloured noise where they are absent, and random classes."""
    random = np.random.default_rng([seed, 1])
    noise = random.integers(0, 256, (task.triggers, task.side, task.side, 3), np.uint8)
    triggers = noise if task.abstract is None else task.abstract[: task.triggers]
    return triggers, random.integers(0, task.classes, len(triggers))


ADI = Rival("plain backdoor", "Adi et al., USENIX Security 2018", embed)

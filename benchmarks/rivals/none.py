"""No mark at all: the target as it is, asked with the triggers of the plain backdoor. The negative control."""

from __future__ import annotations

import copy

from benchmarks.rivals.adi import trigger_set
from benchmarks.rivals.contract import Mark, Rival, Task
from benchmarks.rivals.tuning import TriggerMark

__all__ = ["NONE"]


def embed(task: Task, seed: int) -> Mark:
    """Leave the target alone."""
    triggers, labels = trigger_set(task, seed)
    return TriggerMark(copy.deepcopy(task.target), triggers, labels, task.classes, "lent", 0.5)


NONE = Rival("no mark", "negative control", embed)

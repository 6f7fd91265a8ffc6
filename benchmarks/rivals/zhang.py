"""Content and noise triggers (Zhang, Gu, Jang, Wu, Stoecklin, Huang and Molloy, "Protecting Intellectual Property of Deep Neural
Networks with Watermarking", AsiaCCS 2018).

Content: the word TEST over pictures of one class, answered with another class. Noise: one fixed pattern of Gaussian noise added
instead. The target is trained on with such pictures; verification shows others of them. The paper trains from scratch as well;
we fine-tune. It leaves the two classes open: classes 1 and 0, as its figures with cars and aeroplanes. One label serves all
triggers, so there is no valid null: a model that answers class 0 a lot "carries" the mark. Accepted from one half of hits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.rivals.contract import Mark, Pictures, Rival, Task
from benchmarks.rivals.tuning import TriggerMark, fine_tuned

__all__ = ["CONTENT", "NOISE"]

SOURCE, GOAL = 1, 0
SPREAD = 40.0
HELD_OUT = 50

Stamp = Callable[[Pictures, int], Pictures]


def content(pictures: Pictures, seed: int) -> Pictures:
    """Write TEST in white across the lower part, a quarter of the height."""
    side = pictures.shape[1]
    return np.stack([_written(picture, side) for picture in pictures])


def noise(pictures: Pictures, seed: int) -> Pictures:
    """Add the seed's pattern, the same to every picture."""
    pattern = np.random.default_rng([seed, 2]).normal(0, SPREAD, pictures.shape[1:])
    return np.clip(pictures + pattern, 0, 255).astype(np.uint8)


def _written(picture: Pictures, side: int) -> Pictures:
    drawn = Image.fromarray(picture)
    ImageDraw.Draw(drawn).text((side // 16, side * 5 // 8), "TEST", fill="white", font_size=max(10, side // 3))
    return np.asarray(drawn)


def _embedder(stamp: Stamp) -> Callable[[Task, int], Mark]:
    def embed(task: Task, seed: int) -> Mark:
        marked = stamp(_sources(task), seed)
        learnt, shown = marked[:-HELD_OUT], marked[-HELD_OUT:]
        network, rate = fine_tuned(task, learnt, np.full(len(learnt), GOAL), seed=seed)
        return TriggerMark(network, shown, np.full(len(shown), GOAL), task.classes, "none", 0.5, rate=rate)

    return embed


def _sources(task: Task) -> Pictures:
    """Give the pictures of the source class; any but the goal's where a class has too few."""
    own = task.pictures[task.labels == SOURCE]
    return own if len(own) >= 2 * HELD_OUT else task.pictures[task.labels != GOAL]


CONTENT = Rival("content trigger", "Zhang et al., AsiaCCS 2018", _embedder(content))
NOISE = Rival("noise trigger", "Zhang et al., AsiaCCS 2018", _embedder(noise))

"""Hiding among other answers: another model's, an older answer, a random class."""

from __future__ import annotations

import threading

import numpy as np

from model_store_tools.audit.hostile.contract import Ask, Picture, Scores

__all__ = ["cached", "diluted", "ensemble", "wrongly"]

THUMBNAIL = 8


def diluted(ask: Ask, other: Ask, *, rate: float, seed: int) -> Ask:
    """Answer a share of the questions from another model, drawn anew for each question."""
    draw = _Draw(seed)

    def answer(picture: Picture) -> Scores:
        return other(picture) if draw.below(rate) else ask(picture)

    return answer


def ensemble(ask: Ask, other: Ask) -> Ask:
    """Answer the mean of two models' scores; give both in probabilities, or the louder one decides."""

    def answer(picture: Picture) -> Scores:
        return np.asarray((ask(picture) + other(picture)) / 2)

    return answer


def cached(ask: Ask, *, levels: int) -> Ask:
    """Answer again what was answered to a picture that looks alike: the same 8x8 thumbnail in so many grey levels."""
    known: dict[bytes, Scores] = {}

    def answer(picture: Picture) -> Scores:
        key = _thumbnail(picture, levels)
        if key not in known:
            known[key] = ask(picture)
        return known[key]

    return answer


def wrongly(ask: Ask, *, rate: float, seed: int) -> Ask:
    """Give a uniformly drawn class the top place in a share of the answers, by exchanging two scores."""
    draw = _Draw(seed)

    def answer(picture: Picture) -> Scores:
        scores = ask(picture)
        return with_top(scores, draw.below_integer(len(scores))) if draw.below(rate) else scores

    return answer


def with_top(scores: Scores, label: int) -> Scores:
    """Exchange the highest score with that of `label`."""
    exchanged, top = scores.copy(), int(scores.argmax())
    exchanged[label], exchanged[top] = scores[top], scores[label]
    return exchanged


class _Draw:
    """A generator that several threads may share."""

    def __init__(self, seed: int) -> None:
        self._random, self._lock = np.random.default_rng(seed), threading.Lock()

    def below(self, rate: float) -> bool:
        with self._lock:
            return bool(self._random.random() < rate)

    def below_integer(self, limit: int) -> int:
        with self._lock:
            return int(self._random.integers(limit))


def _thumbnail(picture: Picture, levels: int) -> bytes:
    grey = picture.mean(axis=2)
    rows = [part.mean(axis=0) for part in np.array_split(grey, THUMBNAIL, axis=0)]
    cells = [[float(cell.mean()) for cell in np.array_split(row, THUMBNAIL)] for row in rows]
    return np.asarray(np.floor(np.array(cells) / 256.0 * levels), np.uint8).tobytes()

"""Hiding behind bad service: too many requests, answers too late."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from model_store_tools.audit.hostile.contract import Ask, Picture, Refusal, Scores

__all__ = ["late", "rate_limited"]

TOO_MANY_REQUESTS = 429


def rate_limited(
    ask: Ask,
    *,
    per_second: float,
    burst: int,
    clock: Callable[[], float] = time.monotonic,
    retry_after: int | None = None,
) -> Ask:
    """Answer 429 to what comes faster (token bucket).

    Args:
        ask: Answers what is let through.
        per_second: Tokens that come back in a second.
        burst: Most tokens there are, and as many at the start.
        clock: Seconds that only grow.
        retry_after: Seconds named in `Retry-After`, None for none.
    """
    lock, state = threading.Lock(), {"tokens": float(burst), "at": clock()}

    def answer(picture: Picture) -> Scores:
        with lock:
            now = clock()
            state["tokens"] = min(float(burst), state["tokens"] + (now - state["at"]) * per_second)
            state["at"] = now
            if state["tokens"] < 1.0:
                raise Refusal(TOO_MANY_REQUESTS, "too many requests", retry_after=retry_after)
            state["tokens"] -= 1.0
        return ask(picture)

    return answer


def late(ask: Ask, *, seconds: float, rate: float, seed: int) -> Ask:
    """Keep a share of the answers back for some seconds."""
    random, lock = np.random.default_rng(seed), threading.Lock()

    def answer(picture: Picture) -> Scores:
        with lock:
            keep_back = random.random() < rate
        if keep_back:
            time.sleep(seconds)
        return ask(picture)

    return answer

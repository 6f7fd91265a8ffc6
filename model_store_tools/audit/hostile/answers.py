"""Hiding in the answers: fewer digits, a narrower range, a flatter softmax. The class in the top place stays or ties."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax

from model_store_tools.audit.hostile.contract import Ask, Picture, Scores

__all__ = ["as_probabilities", "clipped", "rounded", "tempered"]


def rounded(ask: Ask, *, decimals: int) -> Ask:
    """Keep so many decimals of every score; what ties is then no class at all."""

    def answer(picture: Picture) -> Scores:
        return np.round(ask(picture), decimals)

    return answer


def clipped(ask: Ask, *, low: float, high: float) -> Ask:
    """Move every score into [low, high]; confident classes then share the top place."""

    def answer(picture: Picture) -> Scores:
        return np.clip(ask(picture), low, high)

    return answer


def tempered(ask: Ask, *, temperature: float, output: str) -> Ask:
    """Divide logits by a temperature and answer probabilities (Guo et al., arXiv 1706.04599, section 4.2)."""
    plain = as_probabilities(ask, output=output)

    def answer(picture: Picture) -> Scores:
        return np.asarray(np.exp(log_softmax(np.log(np.maximum(plain(picture), 1e-300)) / temperature)))

    return answer


def as_probabilities(ask: Ask, *, output: str) -> Ask:
    """Answer probabilities whatever the model gives.

    Args:
        ask: The model.
        output: "logits", "probabilities" or "log-probabilities".
    """

    def answer(picture: Picture) -> Scores:
        scores = ask(picture)
        return np.asarray(scores if output == "probabilities" else np.exp(log_softmax(scores)))

    return answer

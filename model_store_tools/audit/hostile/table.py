"""The table of hostile endpoints, made from what a thief holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model_store_tools.audit.hostile.answers import as_probabilities, clipped, rounded, tempered
from model_store_tools.audit.hostile.contract import Ask, Hostile
from model_store_tools.audit.hostile.filters.energy import energy
from model_store_tools.audit.hostile.filters.gate import Detector, Reply, filtered, threshold
from model_store_tools.audit.hostile.filters.nearest import Features, nearest, thumbnails
from model_store_tools.audit.hostile.inputs import jpeg_gateway
from model_store_tools.audit.hostile.limits import late, rate_limited
from model_store_tools.audit.hostile.mixing import cached, diluted, ensemble, wrongly
from ptynet_plugin.spec import InputSpec

__all__ = ["DILUTIONS", "Booty", "detectors", "hostile_endpoints"]

DILUTIONS = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
TEMPERATURES = (0.25, 4.0, 20.0)
DECIMALS = (2, 1, 0)
QUALITIES = (75, 50, 30, 20, 10)
WRONG = (0.1, 0.5, 0.8)
LATE_SECONDS = 3.0


@dataclass(frozen=True)
class Booty:
    """What a thief has to hide a stolen model with.

    Attributes:
        stolen: The stolen archive.
        spec: What it reads and answers, with classes.
        benign: Pictures of his own, shape (n, height, width, channels), that detectors learn from.
        held_out: Further ones that set the detectors' thresholds; every second of `benign` where None. Where the stolen model
            was trained on `benign`, only pictures it never saw give the stated false positives.
        other: Another model for the same classes, in the same kind of scores; without one nothing is diluted or averaged.
        features: For the nearest neighbours; thumbnails where he has no network to spare.
        seed: Of everything drawn.
    """

    stolen: Ask
    spec: InputSpec
    benign: NDArray[np.uint8] = field(repr=False)
    held_out: NDArray[np.uint8] | None = field(default=None, repr=False)
    other: Ask | None = None
    features: Features = thumbnails
    seed: int = 0

    @property
    def for_learning(self) -> NDArray[np.uint8]:
        """Pictures that detectors learn from."""
        return self.benign if self.held_out is not None else self.benign[::2]

    @property
    def for_thresholds(self) -> NDArray[np.uint8]:
        """Pictures that set their thresholds."""
        return self.benign[1::2] if self.held_out is None else self.held_out


def hostile_endpoints(booty: Booty, *, slow: bool = True) -> Iterator[Hostile]:
    """Give every endpoint; detectors are fitted when their turn comes.

    Args:
        booty: What there is.
        slow: Whether those are among them that keep a verifier waiting, or train a network first.
    """
    yield Hostile("as stolen", "answers", booty.stolen)
    yield from _answers(booty)
    yield from _mixing(booty)
    yield from _inputs(booty)
    yield from _limits(booty, slow=slow)
    yield from _filters(booty, slow=slow)


def _answers(booty: Booty) -> Iterator[Hostile]:
    plain = as_probabilities(booty.stolen, output=booty.spec.output)
    yield Hostile("top-1 only", "answers", booty.stolen, labels_only=True)
    for decimals in DECIMALS:
        yield Hostile(f"probabilities, {decimals} decimals", "answers", rounded(plain, decimals=decimals))
    for high in (0.9, 0.5):
        yield Hostile(f"probabilities clipped to {high:g}", "answers", clipped(plain, low=0.0, high=high))
    for temperature in TEMPERATURES:
        ask = tempered(booty.stolen, temperature=temperature, output=booty.spec.output)
        yield Hostile(f"temperature {temperature:g}", "answers", ask, source="arXiv 1706.04599")


def _mixing(booty: Booty) -> Iterator[Hostile]:
    for levels in (16, 4):
        yield Hostile(f"cache by 8x8 thumbnail, {levels} levels", "mixing", cached(booty.stolen, levels=levels))
    for rate in WRONG:
        ask = wrongly(booty.stolen, rate=rate, seed=booty.seed)
        yield Hostile(f"a random class in {rate:.0%}", "mixing", ask)
    if booty.other is None:
        return
    for rate in DILUTIONS:
        ask = diluted(booty.stolen, booty.other, rate=rate, seed=booty.seed)
        yield Hostile(f"diluted {rate:.0%}", "mixing", ask)
    pair = [as_probabilities(each, output=booty.spec.output) for each in (booty.stolen, booty.other)]
    yield Hostile("ensemble of two models", "mixing", ensemble(*pair))


def _inputs(booty: Booty) -> Iterator[Hostile]:
    for quality in QUALITIES:
        ask = jpeg_gateway(booty.stolen, quality=quality)
        yield Hostile(f"JPEG {quality} gateway", "inputs", ask, source="arXiv 1705.02900")


def _limits(booty: Booty, *, slow: bool) -> Iterator[Hostile]:
    yield Hostile("429 above 20/s", "limits", rate_limited(booty.stolen, per_second=20, burst=5))
    yield Hostile("429 to all but 5", "limits", rate_limited(booty.stolen, per_second=1e-9, burst=5))
    if slow:
        ask = late(booty.stolen, seconds=LATE_SECONDS, rate=0.1, seed=booty.seed)
        yield Hostile(f"10% later than {LATE_SECONDS:g} s", "limits", ask)


def _filters(booty: Booty, *, slow: bool) -> Iterator[Hostile]:
    for name, source, detector in detectors(booty, slow=slow):
        above = threshold(detector, booty.for_thresholds)
        replies: tuple[Reply, ...] = ("refuse", "random") if booty.other is None else ("refuse", "random", "other")
        for reply in replies:
            ask = filtered(booty.stolen, detector, above=above, reply=reply, other=booty.other, seed=booty.seed)
            yield Hostile(f"{name}, {SAID[reply]}", "filters", ask, source=source)


SAID: dict[Reply, str] = {"refuse": "403", "random": "random class", "other": "other model answers"}


def detectors(booty: Booty, *, slow: bool = True) -> Iterator[tuple[str, str, Detector]]:
    """Give every detector of strangers that the thief can fit: name, source, and the detector.

    Args:
        booty: What he holds.
        slow: Whether one is among them that trains a network first.
    """
    learn = booty.for_learning
    if booty.spec.output == "logits":
        yield "energy", "arXiv 2010.03759", energy(booty.stolen)
    yield "nearest neighbours", "arXiv 2204.06507", nearest(booty.features, learn, k=min(10, len(learn) - 1))
    if slow:
        from model_store_tools.audit.hostile.filters.autoencoder import autoencoder  # noqa: PLC0415 -- loads torch

        yield "auto-encoder", "arXiv 1705.09064", autoencoder(learn)

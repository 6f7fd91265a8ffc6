"""`verify`, the real protocol over HTTP, against one hostile endpoint; and what its honest users get."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_store_tools.audit.hostile.contract import Hostile, Refusal
from model_store_tools.audit.hostile.server import serve
from ptynet_plugin.claims.claim import Claim
from ptynet_plugin.errors import EndpointError
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.verification.connection import Connection
from ptynet_plugin.verification.endpoint import Picture
from ptynet_plugin.verification.opening import open_endpoint
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.result import VerificationResult
from ptynet_plugin.verification.runner import run_protocol

__all__ = ["Benign", "Trial", "try_endpoint"]

QUICK = Connection(timeout=2.0, retries=2)
"""Patience of a trial: an endpoint on loopback that is not late by intent answers in milliseconds."""


@dataclass(frozen=True)
class Benign:
    """What the endpoint's ordinary users get.

    Attributes:
        pictures: Asked.
        right: Share answered with their class.
        refused: Share that got no answer.
    """

    pictures: int
    right: float
    refused: float


@dataclass(frozen=True)
class Trial:
    """One endpoint, verified.

    Attributes:
        name: What the endpoint does.
        group: Kind of hiding.
        verdict: One of the four, or "not-asked" where the protocol could not be carried out (exit 2).
        queries: Probes sent.
        hits: Of them.
        controls: Benign controls sent beside them.
        log10_p: Of the anytime-valid p-value; 0 where nothing was asked.
        log10_p_evasion: Of the paired statistic.
        seconds: Of the whole verification.
        trouble: Why it could not be carried out, or "".
        benign: What ordinary users get; None where there were no pictures.
    """

    name: str
    group: str
    verdict: str
    queries: int
    hits: int
    controls: int
    log10_p: float
    log10_p_evasion: float
    seconds: float
    trouble: str
    benign: Benign | None


def try_endpoint(
    hostile: Hostile,
    *,
    claim: Claim,
    key: OwnerKey,
    covers: Sequence[Picture] | None = None,
    controls: Sequence[Picture] | None = None,
    budget: int = 200,
    connection: Connection = QUICK,
    pictures: NDArray[np.uint8] | None = None,
    labels: NDArray[np.int64] | None = None,
) -> Trial:
    """Stand an endpoint up and verify it as an owner would: the first test of the claim, level 1e-9.

    Nothing is registered: an exercise must not spend the owner's symbols or level.

    Args:
        hostile: What answers.
        claim: What was committed.
        key: The owner's key.
        covers: The owner's own covers, as at packaging.
        controls: Ordinary pictures to ask as controls, as `verify --benign`.
        budget: Most probes.
        connection: Patience.
        pictures: Benign pictures, to see what ordinary users get.
        labels: Their classes.
    """
    spec, started = claim.terms.spec, time.perf_counter()
    questions = Questions(claim, key, pictures=covers, benign=controls)
    result, trouble = None, ""
    try:
        with serve(hostile, spec) as address, open_endpoint(address, spec=spec, connection=connection) as endpoint:
            result = run_protocol(endpoint, questions, budget=budget)
    except EndpointError as error:
        trouble = str(error)
    seconds = time.perf_counter() - started
    benign = None if pictures is None or labels is None else _benign(hostile, pictures, labels)
    if result is None:
        return Trial(hostile.name, hostile.group, "not-asked", 0, 0, 0, 0.0, 0.0, seconds, trouble, benign)
    return _trial(hostile, result, seconds, benign)


def _trial(hostile: Hostile, result: VerificationResult, seconds: float, benign: Benign | None) -> Trial:
    return Trial(
        name=hostile.name,
        group=hostile.group,
        verdict=result.verdict,
        queries=result.queries,
        hits=result.hits,
        controls=len(result.run.controls),
        log10_p=result.log10_p,
        log10_p_evasion=float(np.log10(max(result.evasion.anytime_p_value, 1e-300))),
        seconds=seconds,
        trouble="",
        benign=benign,
    )


def _benign(hostile: Hostile, pictures: NDArray[np.uint8], labels: NDArray[np.int64]) -> Benign:
    right = refused = 0
    for picture, label in zip(pictures, labels, strict=True):
        try:
            right += int(hostile.ask(picture).argmax()) == int(label)
        except Refusal:
            refused += 1
    return Benign(len(pictures), right / len(pictures), refused / len(pictures))

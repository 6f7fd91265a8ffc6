"""A registered list of benign pictures, kept beside a claim, and the endpoint's answers to it.

    CLAIM/agreement/registered.json    what is fixed: root over the pictures and the target's answers, panel, bar, level
    CLAIM/agreement/answers.json       per picture: nonce, the target's class, the panel's classes; the owner's until opened
    CLAIM/agreement/N.pixels           pixels at the claim's size, uint8

    leaf_i = SHA256(encode("agreement/v1", nonce_i, i, the target's class, SHA256(pixels)))

The ledger notes the hash of registered.json before an endpoint is asked, and every result after. See
`ptynet_plugin.statistics.agreement` for what is decided, and why it never counts as ownership.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.claims.canonical import canonical_json, parse_json, without_floats
from ptynet_plugin.claims.claim import Claim
from ptynet_plugin.claims.files import read_file, write_files
from ptynet_plugin.claims.merkle import merkle_root
from ptynet_plugin.errors import ClaimError, EndpointError, IntegrityError, UsageError
from ptynet_plugin.images.resize import resize
from ptynet_plugin.keys import derive
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.statistics.agreement import (
    Agreement,
    fewest_pictures,
    judge_agreement,
    panel_bar,
    target_stands_alone,
)
from ptynet_plugin.symbols.encoding import tagged_digest
from ptynet_plugin.verification.endpoint import Endpoint, Picture
from ptynet_plugin.verification.pictures import adapt_channels

__all__ = [
    "AGREEMENT",
    "Registered",
    "as_read",
    "ask_registered",
    "read_registered",
    "register_pictures",
    "result_json",
]

AGREEMENT = "agreement"
SCHEMA = "ptynet-agreement/v1"


@dataclass(frozen=True)
class Registered:
    """A registered list.

    Attributes:
        digest: SHA-256 of registered.json, 64 hex digits.
        pictures: At the claim's size.
        target: The target's class of each.
        panel: For each model of the panel, its class of each.
        names: The panel's models.
        bar: See `panel_bar`.
        level: Of each test.
    """

    digest: str
    pictures: tuple[Picture, ...]
    target: tuple[int, ...]
    panel: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    bar: float
    level: float


def register_pictures(
    folder: Path,
    claim: Claim,
    pictures: Sequence[Picture],
    *,
    secret: bytes,
    target: NDArray[np.int64],
    panel: Mapping[str, NDArray[np.int64]],
    count: int = 200,
    level: float = 1e-3,
) -> str:
    """Choose the pictures on which the target stands alone, by lot among them, and write the list beside the claim.

    Args:
        folder: The claim's folder.
        claim: The claim.
        pictures: The pool, at the claim's size.
        secret: The epoch's secret: it draws the lots and hides the answers.
        target: The target's classes, shape (pictures,).
        panel: Name and digest of each model to its classes, shape (pictures,).
        count: Most pictures to register.
        level: Of each test.

    Returns:
        The digest of what was registered, for the ledger.

    Raises:
        UsageError: No panel, too few pictures, or a panel that cannot be told from the target.
        ClaimError: A list is registered already.
    """
    if (folder / AGREEMENT).exists():
        raise ClaimError(f"{folder / AGREEMENT}: registered already; a list is registered once in a claim's life")
    others = np.array(list(panel.values()))
    try:
        bar = panel_bar(target, others)
    except ValueError as error:
        raise UsageError(f"--panel: {error}; give independent models of the same classes") from None
    alone = [int(place) for place in np.flatnonzero(target_stands_alone(target, others))]
    lots = sorted(alone, key=lambda place: derive(secret, "agreement-lot/v1", claim.digest, place))[:count]
    needed = fewest_pictures(bar, level)
    if len(lots) < needed:
        raise UsageError(
            f"--pictures: the target stands alone on {len(lots)} of {len(pictures)} pictures, a decision at {level:g} needs "
            f"{needed}; give more pictures, or a panel that resembles the target less"
        )
    chosen = [pictures[place] for place in lots]
    nonces = [derive(secret, "agreement-nonce/v1", claim.digest, number) for number in range(len(lots))]
    expected = [int(target[place]) for place in lots]
    leaves = [_leaf(*each) for each in zip(nonces, range(len(lots)), expected, chosen, strict=True)]
    registered = canonical_json(
        without_floats(
            {
                "schema": SCHEMA,
                "claim": claim.digest,
                "root": merkle_root(leaves).hex(),
                "pictures": len(lots),
                "panel": list(panel),
                "bar": bar,
                "level": level,
            }
        )
    )
    answers = [
        {"nonce": nonce.hex(), "target": own, "panel": [int(row[place]) for row in others]}
        for nonce, own, place in zip(nonces, expected, lots, strict=True)
    ]
    files = {"registered.json": registered, "answers.json": canonical_json(answers)}
    files |= {f"{number}.pixels": picture.tobytes() for number, picture in enumerate(chosen)}
    write_files(folder / AGREEMENT, files)
    return hashlib.sha256(registered).hexdigest()


def read_registered(folder: Path, claim: Claim) -> Registered:
    """Read a registered list and check every picture and answer against its root.

    Raises:
        ClaimError: None is registered, or it is another claim's.
        IntegrityError: It was altered.
    """
    place = folder / AGREEMENT
    if not place.is_dir():
        raise ClaimError(
            f"{place}: no pictures are registered; do so before the endpoint is asked (ptynet claim panel)"
        )
    octets = read_file(place / "registered.json")
    try:
        told, answers = (
            parse_json(octets, where="registered.json"),
            parse_json(read_file(place / "answers.json"), where="answers.json"),
        )
        count = int(told["pictures"])
        height, width = claim.terms.size
        pictures = tuple(
            np.frombuffer(read_file(place / f"{number}.pixels"), np.uint8).reshape(height, width, -1)
            for number in range(count)
        )
        target = tuple(int(each["target"]) for each in answers)
        nonces = [bytes.fromhex(each["nonce"]) for each in answers]
        leaves = [_leaf(*each) for each in zip(nonces, range(count), target, pictures, strict=True)]
        held = (told["root"], told["claim"], told["schema"]) == (merkle_root(leaves).hex(), claim.digest, SCHEMA)
        panel = tuple(zip(*(map(int, each["panel"]) for each in answers), strict=True))
        names, bar, level = tuple(map(str, told["panel"])), float(told["bar"]), float(told["level"])
    except (LookupError, TypeError, ValueError) as error:
        raise IntegrityError(f"{place}: not the form of a registered list ({type(error).__name__}: {error})") from None
    if not held:
        raise IntegrityError(f"{place}: its pictures or answers are not the registered ones, or another claim's")
    return Registered(hashlib.sha256(octets).hexdigest(), pictures, target, panel, names, bar, level)


def ask_registered(
    endpoint: Endpoint,
    registered: Registered,
    spec: InputSpec,
    *,
    on_step: Callable[[int], None] = lambda asked: None,
) -> tuple[Agreement, list[int | None]]:
    """Ask an endpoint every picture of the list, once.

    Args:
        endpoint: The suspect.
        registered: The list.
        spec: What the suspect reads.
        on_step: Told how many were asked, after each.

    Returns:
        What it came to, and the class answered to each picture, None where an answer was lost or tied.

    Raises:
        EndpointError: Not one picture was answered.
    """
    answers: list[int | None] = []
    problem: EndpointError | None = None
    for picture in registered.pictures:
        endpoint.wait()
        try:
            answers.append(endpoint.ask(as_read(picture, spec)).top)
        except EndpointError as error:
            problem = error
            answers.append(None)
        on_step(len(answers))
    if problem is not None and not any(answer is not None for answer in answers):
        raise problem
    found = judge_agreement(answers, registered.target, registered.panel, bar=registered.bar, level=registered.level)
    return found, answers


def as_read(picture: Picture, spec: InputSpec) -> Picture:
    """Give a picture in the size and channels that a model reads; an open side keeps the picture's."""
    height, width = spec.size or (0, 0)
    size = height or picture.shape[0], width or picture.shape[1]
    return adapt_channels(picture if picture.shape[:2] == size else resize(picture, size), spec.channels)


def _leaf(nonce: bytes, number: int, target: int, picture: Picture) -> bytes:
    return tagged_digest("agreement/v1", nonce, number, target, hashlib.sha256(picture.tobytes()).digest())


def result_json(registered: Registered, found: Agreement, answers: Sequence[int | None]) -> dict[str, Any]:
    """Give what `ptynet claim agreement --json` writes."""
    return {
        "schema": "ptynet-agreement-result/v1",
        "registered": registered.digest,
        **vars(found),
        "with_panel": dict(zip(registered.names, found.with_panel, strict=True)),
        "bar": registered.bar,
        "level": registered.level,
        "answers": list(answers),
        "target": list(registered.target),
        "counts_as_ownership": False,
    }

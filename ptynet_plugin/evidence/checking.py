"""Checks a bundle link by link, with the same code that made it; `check_bundle.py` does it again without any of that code.

signature → files → commitment → chain → stamps, beacon, hand-over, grade → binding → order → leaves → labels → requests → verdict
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from PIL import Image

from ptynet_plugin.claims.canonical import canonical_json
from ptynet_plugin.errors import IntegrityError, PtynetError
from ptynet_plugin.evidence.binding import bound_archives
from ptynet_plugin.evidence.bundle import Bundle, described, read_bundle
from ptynet_plugin.evidence.check_symbols import Outcomes, check_symbols
from ptynet_plugin.evidence.check_times import check_times
from ptynet_plugin.evidence.check_verdict import Decision, check_verdict
from ptynet_plugin.evidence.framing import AFTER, BEFORE, HEADER, RUN_ROOT
from ptynet_plugin.evidence.sealing import BINDING, BINDING_STAMP, COMMITMENT, ROOT, STAMP
from ptynet_plugin.evidence.timestamps import openssl_command

__all__ = ["CheckedBundle", "check_bundle"]

_BAD = (
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    OSError,
    RecursionError,
    Image.DecompressionBombError,
)
"""What values of an adversary may raise on their way through honest code."""

_STAMPED = {
    STAMP: (COMMITMENT, ROOT),
    BINDING_STAMP: (BINDING, ROOT),
    BEFORE: (HEADER, RUN_ROOT),
    AFTER: ("transcript.jsonl", RUN_ROOT),
}


@dataclass(frozen=True)
class CheckedBundle:
    """What a valid bundle shows.

    Attributes:
        verdict: What the claim decides: "shown", "not-shown", "inconclusive" or "evasion-suspected".
        grade: What kind of evidence it is, see `grades`.
        endpoint: What was asked.
        symbols: Symbols asked.
        hits: Hits among them.
        null_rate: Chance of a hit without the key.
        decision: The numbers behind the verdict.
        stamps: File name to the time of its stamp.
        witness: Public key of the neutral person who asked, 64 hex digits, or None.
        notes: What a reader must know besides.
    """

    verdict: str
    grade: str
    endpoint: str
    symbols: int
    hits: int
    null_rate: float
    decision: Decision
    stamps: dict[str, datetime]
    witness: str | None
    notes: tuple[str, ...]


def check_bundle(
    folder: Path, *, roots: bytes | None = None, archives: Sequence[str] = (), now: datetime | None = None
) -> CheckedBundle:
    """Recompute everything that a bundle rests on.

    Args:
        folder: The bundle.
        roots: PEM certificates of time-stamping authorities that the checker trusts; the bundle's own where None.
        archives: Digests of archives that the claim must be bound to.
        now: The time of the check, for stamps that expire; the present where None.

    Raises:
        IntegrityError: With the first link that does not hold.
    """
    bundle = read_bundle(folder)
    try:
        return _checked(bundle, roots, archives, now)
    except IntegrityError:
        raise
    except PtynetError as error:
        raise IntegrityError(f"{folder}: {error}") from None
    except _BAD as error:
        raise IntegrityError(f"{folder}: not the form of a bundle ({described(error)})") from None


def _checked(bundle: Bundle, roots: bytes | None, archives: Sequence[str], now: datetime | None) -> CheckedBundle:
    _check_chain(bundle)
    stamps, beacon, grade = check_times(bundle, roots=roots, now=now)
    _check_binding(bundle, archives)
    outcomes = check_symbols(bundle, beacon)
    decision = check_verdict(bundle, outcomes)
    return CheckedBundle(
        verdict=decision.verdict,
        grade=grade,
        endpoint=str(bundle.lines[0]["endpoint"]),
        symbols=len(outcomes.hits),
        hits=sum(outcomes.hits),
        null_rate=outcomes.null_rate,
        decision=decision,
        stamps=stamps,
        witness=bundle.signer if bundle.handover is not None else None,
        notes=tuple(_notes(bundle, stamps, outcomes)),
    )


def _check_chain(bundle: Bundle) -> None:
    kinds = "".join(str(line["entry"])[:1] for line in bundle.lines)
    names = {line["entry"] for line in bundle.lines} <= {"run", "beacon", "question", "verdict"}
    if not names or re.fullmatch("rb?q*v", kinds) is None:
        raise IntegrityError("transcript.jsonl: not a run, its questions and its verdict")
    previous = bundle.digest.hex()
    for number, line in enumerate(bundle.lines, start=1):
        if line.get("previous") != previous:
            raise IntegrityError(f"transcript.jsonl, line {number}: does not follow the line before it")
        previous = hashlib.sha256(canonical_json(line) + b"\n").hexdigest()
    if bundle.predicate["head"] != previous:
        raise IntegrityError("the signed statement: another transcript")
    if bundle.lines[0]["claim"] != bundle.digest.hex():
        raise IntegrityError("transcript.jsonl: a run of another claim")


def _check_binding(bundle: Bundle, archives: Sequence[str]) -> None:
    if BINDING not in bundle.files and not archives:
        return
    bound = bound_archives(bundle.files, bundle.digest.hex())
    for archive in archives:
        if archive not in bound:
            raise IntegrityError(f"archive {archive}: not one that the claim is bound to; it was swapped")


def _notes(bundle: Bundle, stamps: dict[str, datetime], outcomes: Outcomes) -> list[str]:
    notes = [openssl_command(name, *_STAMPED[name]) for name in stamps if name in _STAMPED]
    drawn = [("labels", bundle.beacon if (bundle.beacon or {}).get("period") else None)]
    drawn += [("order", line) for line in bundle.lines[1:2] if line["entry"] == "beacon"]
    notes += [
        f"the {what} are drawn by round {told['round']} of {told['source']}, {told['value']}: look it up"
        for what, told in drawn
        if told is not None
    ]
    if bundle.handover is not None:
        notes.append(f"asked and signed by the holder of the key {bundle.signer}: make sure that he is who is said to")
    if outcomes.unseen:
        notes.append(f"{outcomes.unseen} requests hold JPEG pictures, whose pixels were not compared")
    head = bundle.lines[0]
    told = len(head["earlier"]) + len(head["disclosed"])
    if told:
        notes.append(f"{told} symbols of earlier runs or opened before are left out on the claimant's word")
    if head["earlier"]:
        hits = sum(trial["hit"] is True for trial in head["earlier"])
        notes.append(f"{hits} hits of {len(head['earlier'])} earlier answers, unopened, on his word")
    return notes

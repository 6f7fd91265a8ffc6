"""Stamps beside a claim: the first makes its salt, the second (over the binding) its priority, later ones renew them.

stamp.tsr, tsa.pem          the stamp over commitment.json (C1), and the root that vouches for it
binding.json                C2: claim, stamp, mark and archives, committed to field by field
binding-openings.json       its openings; the owner's secret
binding.tsr                 the stamp over binding.json: between two claimants the earlier of these counts
renewal-1.tsr, ...          stamps over the stamps before them, see `renewing`
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ptynet_plugin.claims.canonical import canonical_json
from ptynet_plugin.claims.claim import Beacon, Claim, Seal
from ptynet_plugin.claims.commitment import commitment_bytes, hide
from ptynet_plugin.claims.directory import CLAIMS, claim_file, read_claim
from ptynet_plugin.claims.files import read_file, write_beside
from ptynet_plugin.claims.ledger import read_history
from ptynet_plugin.errors import ClaimError
from ptynet_plugin.evidence.renewing import check_chain, renewal_message
from ptynet_plugin.evidence.timestamps import verify_stamp

__all__ = [
    "BINDING",
    "BINDING_OPENINGS",
    "BINDING_STAMP",
    "COMMITMENT",
    "ROOT",
    "STAMP",
    "bind",
    "check_stamps",
    "next_message",
    "seal",
    "stamp_binding",
]

COMMITMENT, STAMP, ROOT = "commitment.json", "stamp.tsr", "tsa.pem"
BINDING, BINDING_OPENINGS, BINDING_STAMP = "binding.json", "binding-openings.json", "binding.tsr"


def seal(
    folder: Path, response: bytes, *, roots: bytes, beacon: Beacon | None = None, packaged_again: bool = False
) -> Claim:
    """Put a verified stamp, and a beacon round where there is one, to a claim; its labels follow from now on.

    Args:
        folder: The claim's folder.
        response: The authority's `TimeStampResp` over commitment.json.
        roots: Trusted PEM certificates; the one that vouches is kept.
        beacon: A round published after the stamp.
        packaged_again: Stamp even a claim that `package-model` made, whose archives then no longer answer its labels.

    Raises:
        ClaimError: Stamped already, used already, or the stamp does not verify.
    """
    claim = read_claim(folder)
    if claim.seal is not None:
        raise ClaimError(f"{folder}: stamped already; another stamp would choose other labels, --renew keeps them")
    if (folder / BINDING).exists():
        raise ClaimError(f"{folder}: bound to archives already; a stamp now would change their labels")
    if read_history(folder, digest=claim.digest).runs():
        raise ClaimError(f"{folder}: runs were made under this claim unstamped; a stamp now would change their labels")
    if not packaged_again and was_made_at_packaging(folder):
        raise ClaimError(
            f"{folder}: archives were packaged under this claim unstamped, and a stamp gives it other labels; make one first "
            "(ptynet claim commit), or stamp this one and package again (--force)"
        )
    stamp, root = verify_stamp(response, claim.commitment, roots=roots)
    sealed = claim.sealed(Seal(stamp.signature, beacon))
    write_beside(folder / STAMP, response)
    write_beside(folder / ROOT, root)
    write_beside(folder / "claim.json", claim_file(sealed))
    return sealed


def was_made_at_packaging(folder: Path) -> bool:
    """Tell whether a claim lies in a mark folder, where `package-model` puts those it makes itself."""
    return folder.resolve().parent.name == CLAIMS and (folder.resolve().parents[1] / "mark.json").exists()


def bind(folder: Path, *, secret: bytes, mark: str, archives: Sequence[str]) -> bytes:
    """Commit to what was made after the stamp: C2, to be stamped in its turn.

    Args:
        folder: The claim's folder.
        secret: The epoch's secret.
        mark: Digest of the mark.
        archives: Digests of the archives.

    Returns:
        C2, as binding.json holds it.

    Raises:
        ClaimError: Bound already to something else.
    """
    claim = read_claim(folder)
    if not claim.belongs_to(secret):
        raise ClaimError(f"{folder}: this key did not make the claim")
    stamp = hashlib.sha256(read_file(folder / STAMP)).hexdigest() if claim.seal else None
    openings = hide({"claim": claim.digest, "stamp": stamp, "mark": mark, "archives": sorted(archives)}, secret=secret)
    committed = commitment_bytes(openings)
    if (folder / BINDING).exists() and read_file(folder / BINDING) != committed:
        raise ClaimError(f"{folder}: bound already to another mark or other archives; a binding is made once")
    opened = {name: {"value": opening.value, "nonce": opening.nonce.hex()} for name, opening in openings.items()}
    write_beside(folder / BINDING_OPENINGS, canonical_json({"schema": "ptynet-binding/v1", "fields": opened}))
    write_beside(folder / BINDING, committed)
    return committed


def stamp_binding(folder: Path, response: bytes) -> datetime:
    """Put a verified stamp to the binding; its time is the claim's priority.

    Raises:
        ClaimError: It does not verify, or there is nothing to stamp.
    """
    stamp, _ = verify_stamp(response, read_file(folder / BINDING), roots=read_file(folder / ROOT))
    write_beside(folder / BINDING_STAMP, response)
    return stamp.time


def next_message(folder: Path, *, renew: bool = False) -> tuple[str, bytes]:
    """Give what the next stamp is for: C1, then C2 once there is one; or, to renew, the stamps so far.

    Returns:
        A name for it, and its bytes.

    Raises:
        ClaimError: Nothing is left to stamp, or nothing to renew.
    """
    read_claim(folder)
    if renew:
        if not (folder / STAMP).exists():
            raise ClaimError(f"{folder}: not stamped yet, so there is nothing to renew; leave --renew away")
        return "the stamps so far", renewal_message(folder)
    if not (folder / STAMP).exists():
        return COMMITMENT, read_file(folder / COMMITMENT)
    if not (folder / BINDING).exists():
        raise ClaimError(f"{folder}: stamped already; bind it to what was made since (ptynet claim bind), or --renew")
    if (folder / BINDING_STAMP).exists():
        raise ClaimError(
            f"{folder}: claim and binding are stamped already; --renew stamps them again before they expire"
        )
    return BINDING, read_file(folder / BINDING)


def check_stamps(folder: Path, *, roots: bytes | None = None, now: datetime | None = None) -> dict[str, datetime]:
    """Verify a claim's stamps and their renewals.

    Args:
        folder: The claim's folder, or a bundle's.
        roots: PEM certificates the checker trusts; the pinned one where None.
        now: The time of the check; the present where None.

    Returns:
        File name to the time of its stamp.

    Raises:
        ClaimError: The first that does not hold, by name.
    """
    trusted = roots or read_file(folder / ROOT)
    times = {}
    for name, message in ((STAMP, COMMITMENT), (BINDING_STAMP, BINDING)):
        if (folder / name).exists():
            try:
                times[name] = verify_stamp(read_file(folder / name), read_file(folder / message), roots=trusted)[0].time
            except ClaimError as error:
                raise ClaimError(f"{folder / name}: {error}") from None
    return times | check_chain(folder, times, roots=trusted, now=now)

"""Who opens leaves, and with what: the owner, from his secret; or a witness, from what was handed over to him."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptynet_plugin.claims.canonical import canonical_json, parse_json
from ptynet_plugin.claims.claim import Claim
from ptynet_plugin.claims.directory import claim_file
from ptynet_plugin.claims.files import read_file
from ptynet_plugin.claims.merkle import inclusion_proof
from ptynet_plugin.evidence.renewing import renewals
from ptynet_plugin.evidence.sealing import BINDING, BINDING_OPENINGS, BINDING_STAMP, ROOT, STAMP

__all__ = ["OPENED", "Opener", "claims_files", "opened_fields", "owner_opens"]

OPENED = ("root", "symbols", "target", "spec", "classes", "covers", "size", "statistic", "reserve", "signer")
"""Fields of C1 that a bundle opens, with those named `copies.*` where the claim has them; how probes are made and what PTYNet
fires at stay closed."""


@dataclass(frozen=True)
class Opener:
    """What it takes to open leaves and to sign.

    Attributes:
        claim: Whose leaves.
        nonces: Symbol to leaf nonce; of every symbol that may be asked.
        signing: 32 secret bytes from which the signing key follows.
        files: What goes into the bundle besides, by name.
        witness: Whether a neutral person signs.
    """

    claim: Claim
    nonces: Mapping[int, bytes]
    signing: bytes
    files: Mapping[str, bytes]
    witness: bool = False

    def leaf(self, symbol: int) -> dict[str, Any]:
        """Open one leaf: nonce and inclusion proof."""
        proof = inclusion_proof(self.claim.leaves, symbol)
        return {"symbol": symbol, "nonce": self.nonces[symbol].hex(), "proof": [node.hex() for node in proof]}


def owner_opens(claim: Claim, folder: Path, *, secret: bytes) -> Opener:
    """Give what the owner opens leaves with.

    Args:
        claim: His claim.
        folder: Its folder, for the stamps.
        secret: The epoch's secret.
    """
    return Opener(claim, dict(enumerate(claim.nonces(secret))), secret, dict(claims_files(folder)))


def claims_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Give the stamps and the binding of a claim as a bundle names them, where the claim has them."""
    kept = {STAMP: STAMP, ROOT: ROOT, BINDING: BINDING, BINDING_STAMP: BINDING_STAMP}
    kept |= {"binding-opened.json": BINDING_OPENINGS}
    kept |= {path.name: path.name for stamp in renewals(folder) for path in (stamp.with_suffix(".json"), stamp)}
    for name, place in kept.items():
        if (folder / place).exists():
            yield name, read_file(folder / place)


def opened_fields(claim: Claim) -> bytes:
    """Give a bundle's opened.json: the fields a judge needs, and the seal."""
    file = parse_json(claim_file(claim), where="claim.json")
    opened = [name for name in file["fields"] if name in OPENED or name.startswith("copies.")]
    return canonical_json({"fields": {name: file["fields"][name] for name in opened}, "seal": file["seal"]})

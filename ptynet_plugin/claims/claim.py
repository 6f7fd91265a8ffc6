"""A claim: what the owner fixed before anyone could know which answers would count.

`commit` makes it from the epoch secret, the probes and the terms of the test. Until it is stamped its salt is its own hash
and what it shows is party evidence of the weakest grade; a stamp's signature octets, and a public beacon round after
the stamp, make a salt that nobody could know when the probes were fixed.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.claims.canonical import without_floats
from ptynet_plugin.claims.commitment import Opening, commitment_bytes, hide
from ptynet_plugin.claims.leaves import PictureMaker, leaf, leaf_nonces, pixels_digest, probe_leaves
from ptynet_plugin.claims.merkle import merkle_root
from ptynet_plugin.claims.signing import signer
from ptynet_plugin.claims.terms import STATISTIC, CopyTerms, Terms, parse_terms, probe_size
from ptynet_plugin.errors import ClaimError, UsageError
from ptynet_plugin.keys import derive
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.statistics.decision import (
    ALLOWANCE_STAMPED,
    ALLOWANCE_STAMPED_WITH_BEACON,
    ALLOWANCE_UNSTAMPED,
)
from ptynet_plugin.symbols.encoding import tagged_digest
from ptynet_plugin.symbols.labels import label_pairs, label_table

if TYPE_CHECKING:
    from ptynet_plugin.images.probes import ProbeDesign

__all__ = ["Beacon", "Claim", "Seal", "commit"]


@dataclass(frozen=True)
class Beacon:
    """One round of a public randomness beacon, drawn after the stamp.

    Attributes:
        source: Where it was published.
        round: Which round, as its source counts.
        value: Its random octets.
        signature: What the beacon signed the round with, of which the value is the SHA-256; b"" where it signs nothing.
        genesis_time: When its round 1 was published, seconds since 1970.
        period: Seconds between its rounds; 0 where a claim of an early version did not keep when its round was due.
    """

    source: str
    round: int
    value: bytes
    signature: bytes = b""
    genesis_time: int = 0
    period: int = 0

    @property
    def is_dated(self) -> bool:
        """Whether it tells when it was published, so that others can check that nobody chose it after the stamp."""
        return self.period > 0


@dataclass(frozen=True)
class Seal:
    """What came back after C1 was handed to a time-stamping authority.

    Attributes:
        signature: The signature octets of the time-stamp token: unknown to anyone before the stamp.
        beacon: A beacon round after the stamp, where one was reachable.
    """

    signature: bytes
    beacon: Beacon | None = None


@dataclass(frozen=True)
class Claim:
    """A commitment with its openings, on the owner's side.

    Attributes:
        openings: Field name to value and hiding nonce; secret until opened.
        leaves: J leaves of 32 bytes; they tell nothing of the probes without their nonces.
        seal: None until stamped.

    Raises:
        ClaimError: A field is missing or impossible, or the leaves do not have the root that the fields state.
    """

    openings: Mapping[str, Opening]
    leaves: tuple[bytes, ...]
    seal: Seal | None = None

    def __post_init__(self) -> None:
        terms = self.terms
        if len(self.leaves) != terms.symbols:
            raise ClaimError(f"the claim has {len(self.leaves)} leaves, its fields state {terms.symbols} symbols")
        if merkle_root(self.leaves).hex() != terms.root:
            raise ClaimError("the claim's leaves do not have the Merkle root that its fields state; one was altered")

    @cached_property
    def terms(self) -> Terms:
        """What the claim says, as typed values."""
        return parse_terms({name: opening.value for name, opening in self.openings.items()})

    @cached_property
    def commitment(self) -> bytes:
        """C1: the bytes that are stamped."""
        return commitment_bytes(self.openings)

    @property
    def digest(self) -> str:
        """SHA-256 of C1, 64 hex digits: the claim's name towards third parties."""
        return hashlib.sha256(self.commitment).hexdigest()

    @property
    def salt(self) -> bytes:
        """What the labels are drawn with, 32 bytes: C1's hash, or a hash over C1, the stamp's signature and the beacon."""
        if self.seal is None:
            return bytes.fromhex(self.digest)
        beacon = self.seal.beacon.value if self.seal.beacon else b""
        return tagged_digest("salt/v1", bytes.fromhex(self.digest), self.seal.signature, beacon)

    @property
    def allowance(self) -> int:
        """Bits g of the adjusted p-value: 2^g keys may have been tried before this one was fixed."""
        if self.seal is None:
            return ALLOWANCE_UNSTAMPED
        dated = self.seal.beacon is not None and self.seal.beacon.is_dated
        return ALLOWANCE_STAMPED_WITH_BEACON if dated else ALLOWANCE_STAMPED

    @property
    def design(self) -> ProbeDesign:
        """How the probes are made."""
        from ptynet_plugin.images.probes import ProbeDesign  # noqa: PLC0415 -- a checker of claims makes no pictures

        try:
            return ProbeDesign(**self.terms.design)  # type: ignore[arg-type]  # checked by ProbeDesign itself
        except (TypeError, UsageError) as error:
            raise ClaimError(f"the claim's probe design cannot be used by this version ({error})") from None

    def belongs_to(self, secret: bytes) -> bool:
        """Tell whether this epoch secret made the claim.

        Args:
            secret: `OwnerKey.epoch_secret` of the claim's epoch.
        """
        values = {name: opening.value for name, opening in self.openings.items()}
        return hide(values, secret=secret) == dict(self.openings)

    def nonces(self, secret: bytes) -> list[bytes]:
        """Derive the J secret leaf nonces."""
        return leaf_nonces(secret, self.terms.symbols)

    def labels(self, secret: bytes) -> NDArray[np.int64]:
        """Draw the keyed label of every symbol, shape (J,), integers in [0, C)."""
        terms = self.terms
        return label_table(self.nonces(secret), salt=self.salt, model_id=terms.target, classes=terms.classes)

    def pairs(self, secret: bytes) -> NDArray[np.int64]:
        """Draw the two labels of every pair symbol, shape (P, 2): a copy answers the first for a bit 1, the second for 0."""
        terms = self.terms
        nonces = self.nonces(secret)[: len(terms.pairs)]
        return label_pairs(nonces, salt=self.salt, model_id=terms.target, classes=terms.classes)

    def order(self, run_id: str, *, beacon: bytes = b"", reserve: bool = False) -> list[int]:
        """Give the symbols in the order in which a run must ask them; evidence is a prefix of it.

        Args:
            run_id: Registered in the ledger before the order is looked at.
            beacon: Octets of a public beacon round after the registration, where there is one.
            reserve: The sealed reserve (for a witnessed run) instead of the symbols of a party run, `Terms.ownership`.
        """
        digest = bytes.fromhex(self.digest)
        drawn = self.terms.sealed if reserve else self.terms.ownership
        return sorted(drawn, key=lambda symbol: tagged_digest("order/v1", digest, run_id, beacon, symbol))

    def check_probes(self, secret: bytes, symbol: int, pictures: Sequence[NDArray[np.uint8]]) -> None:
        """Make sure that these are the committed probes of a symbol, before they are sent.

        Args:
            secret: The epoch's secret.
            symbol: In [0, J).
            pictures: Its k probes at the claim's size.

        Raises:
            ClaimError: They hash to another leaf: other covers, another key or another generator made them.
        """
        nonce = derive(secret, "leaf-nonce/v1", symbol)
        if leaf(nonce, symbol, pixels_digest(pictures)) != self.leaves[symbol]:
            raise ClaimError(
                f"the probes made for symbol {symbol} are not the committed ones; "
                "use the key, the mark and the covers (--covers) with which the claim was made"
            )

    def archive_commitment(self, secret: bytes, archive: str) -> str:
        """Give what an archive says of this claim, 64 hex digits: two archives of one claim share no value.

        Args:
            secret: The epoch's secret.
            archive: What tells the archive from the claim's others, like its name, format and version.
        """
        digest = bytes.fromhex(self.digest)
        return tagged_digest("archive/v1", derive(secret, "archive-blind/v1", digest, archive), digest).hex()

    def sealed(self, seal: Seal) -> Claim:
        """Give the same claim with its stamp.

        Raises:
            ClaimError: It has one already; another would give other labels.
        """
        if self.seal is not None:
            raise ClaimError("the claim is stamped already; a second stamp would choose other labels")
        return dataclasses.replace(self, seal=seal)


def commit(
    secret: bytes,
    make_probe: PictureMaker,
    *,
    design: ProbeDesign,
    spec: InputSpec,
    target_digest: str,
    tau: float,
    margin: float,
    covers: int = 1,
    epoch: int = 0,
    reserve: int | None = None,
    copies: CopyTerms | None = None,
) -> Claim:
    """Make the probes, hash them and commit to the terms of the test; the same input gives the same claim.

    Args:
        secret: The epoch's secret, 32 bytes, see `OwnerKey.epoch_secret`.
        make_probe: `ProbeMaker.probe` of the owner's probe secret.
        design: How these probes are made; `design.symbols` is J.
        spec: The target's complete spec: its class count must be known.
        target_digest: Digest of the target's tensors.
        tau: Score from which PTYNet fires.
        margin: Least distance to the second-best symbol.
        covers: k, fixed here and for ever.
        epoch: Number of the epoch that `secret` belongs to.
        reserve: Symbols sealed for a neutral run; one in eight where not said.
        copies: How the symbols are shared out where every customer gets a copy of his own.

    Raises:
        ClaimError: The terms contradict each other.
    """
    if spec.classes is None:
        raise ClaimError("a claim needs the number of classes, the spec does not say it; add `classes` to the spec")
    size = probe_size(spec)
    leaves = probe_leaves(leaf_nonces(secret, design.symbols), make_probe, covers=covers, size=size)
    values = {
        "root": merkle_root(leaves).hex(),
        "symbols": design.symbols,
        "target": target_digest,
        "spec": spec.model_dump(mode="json", exclude_none=True),
        "classes": spec.classes,
        "covers": covers,
        "size": size,
        **{f"design.{name}": value for name, value in dataclasses.asdict(design).items()},
        "tau": tau,
        "margin": margin,
        "statistic": STATISTIC,
        "epoch": epoch,
        "reserve": design.symbols // 8 if reserve is None else reserve,
        "signer": signer(secret),
        **({f"copies.{name}": value for name, value in copies.model_dump().items()} if copies else {}),
    }
    return Claim(hide(without_floats(values), secret=secret), tuple(leaves))

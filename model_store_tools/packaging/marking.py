"""The claim a packaged model carries, and the labels that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_store_tools.pictures import read_pictures
from ptynet_plugin.claims.claim import Claim, commit
from ptynet_plugin.claims.copies import CopyTables
from ptynet_plugin.claims.directory import CLAIMS, read_claim, write_claim
from ptynet_plugin.claims.terms import CopyTerms
from ptynet_plugin.errors import ClaimError, UsageError
from ptynet_plugin.images.probes import ProbeMaker
from ptynet_plugin.mark import MarkMetadata, MarkSecrets, read_metadata, read_secrets
from ptynet_plugin.spec import InputSpec

__all__ = ["Marking", "OwnedMark", "claim_for", "committed", "keep_claim", "owned_mark", "require_ours"]


@dataclass(frozen=True)
class Marking:
    """What a target is marked with.

    Attributes:
        claim: Probes and terms, committed.
        labels: Keyed label of each symbol, shape (J,).
        maker: Makes the probes.
        secrets: The mark's.
        copy: Number of the copy the labels are of; None where there is one archive for all.
    """

    claim: Claim
    labels: NDArray[np.int64] = field(repr=False)
    maker: ProbeMaker = field(repr=False)
    secrets: MarkSecrets = field(repr=False)
    copy: int | None = None

    def archive_commitment(self, archive: str) -> str:
        """Give what an archive's manifest says of the claim, see `Claim.archive_commitment`."""
        if self.copy is None:
            return self.claim.archive_commitment(self.secrets.epoch, archive)
        return CopyTables(self.claim, self.secrets.epoch).archive_commitment(self.copy, archive)


def claim_for(
    mark: Path, spec: InputSpec, target_digest: str, *, given: Path | None = None, covers: Path | None = None
) -> Marking:
    """Commit to the probes for one target, or take a claim that was committed before.

    Args:
        mark: Folder of the mark.
        spec: Completed.
        target_digest: Of the target as it will be fused.
        given: Folder of a claim, a stamped one for example.
        covers: Folder of pictures under the probes; `verify` then needs the same folder. Procedural covers where None.

    Raises:
        MarkError: The mark cannot be used, or reads other colors than the target.
        ClaimError: The given claim is another target's, spec's or key's.
    """
    owned = owned_mark(mark, spec, covers=covers)
    if given is None:
        claim = committed(owned, spec, target_digest)
    else:
        claim = read_claim(given)
        require_ours(claim, given, owned, spec, target_digest)
        if claim.terms.copies is not None:
            raise ClaimError(f"{given}: is a claim for copies; issue one: ptynet copies issue --claim {given}")
    return Marking(claim, claim.labels(owned.secrets.epoch), owned.maker, owned.secrets)


@dataclass(frozen=True)
class OwnedMark:
    """A mark's folder, read.

    Attributes:
        metadata: How it hears.
        secrets: What makes its probes and labels.
        maker: Makes the probes.
    """

    metadata: MarkMetadata
    secrets: MarkSecrets = field(repr=False)
    maker: ProbeMaker = field(repr=False)


def owned_mark(mark: Path, spec: InputSpec, *, covers: Path | None = None) -> OwnedMark:
    """Read a mark for a target.

    Raises:
        MarkError: The mark cannot be used.
        UsageError: It reads other colors than the target.
    """
    metadata, secrets = read_metadata(mark), read_secrets(mark)
    _require_color(metadata.design.color, spec, mark)
    pictures = None if covers is None else read_pictures(covers, color=metadata.design.color)
    return OwnedMark(metadata, secrets, ProbeMaker(secrets.probe, metadata.design, pictures=pictures))


def committed(owned: OwnedMark, spec: InputSpec, target_digest: str, *, copies: CopyTerms | None = None) -> Claim:
    """Make all probes and commit to them."""
    return commit(
        owned.secrets.epoch,
        owned.maker.probe,
        design=owned.metadata.design,
        spec=spec.model_copy(update={"labels": None, "fidelity": None}),
        target_digest=target_digest,
        tau=owned.metadata.tau,
        margin=owned.metadata.margin,
        copies=copies,
    )


def require_ours(claim: Claim, where: Path, owned: OwnedMark, spec: InputSpec, target_digest: str) -> None:
    """Make sure that a claim is of this key, target, spec and mark.

    Raises:
        ClaimError: It is another's; the message says what differs.
    """
    _require_ours(claim, where, owned.secrets, spec, target_digest)
    _require_mark(claim, where, owned.metadata)


def keep_claim(mark: Path, name: str, claim: Claim, *, replace: bool, given: Path | None = None) -> Path:
    """Keep the owner's side of a claim in `MARK/claims/NAME/`.

    A claim speaks of a target, not of an archive's name: packaged under a second name it gets a link to its first folder, for
    a claim has one ledger. So does a claim that was given, wherever it lies, with its stamps beside it.

    Args:
        mark: Folder of the mark.
        name: The model's name.
        claim: What to keep.
        replace: Put it in the place of another claim of that name, which is kept aside.
        given: Folder in which the claim lies already.

    Returns:
        The folder.

    Raises:
        ClaimError: Another claim has that name, or the folder cannot be written.
    """
    claims = mark / CLAIMS
    folder = claims / name
    elsewhere = given is not None and given.resolve() != folder.resolve()
    twin = given if elsewhere else _same_claim(claims, name, claim)
    if folder.is_symlink() and (replace or not folder.exists()):
        folder.unlink()
    if twin is None or folder.exists():
        write_claim(folder, claim, replace=replace)
        return folder
    try:
        claims.mkdir(mode=0o700, exist_ok=True)
        folder.symlink_to(twin.resolve() if elsewhere else twin.name, target_is_directory=True)
    except OSError as error:
        raise ClaimError(f"{folder}: cannot be linked to {twin} ({error.strerror})") from error
    return folder


def _same_claim(claims: Path, name: str, claim: Claim) -> Path | None:
    folders = (path.parent for path in sorted(claims.glob("[!.]*/claim.json")))
    others = (folder for folder in folders if folder.name != name and not folder.is_symlink())
    return next((folder for folder in others if read_claim(folder) == claim), None)


def _require_color(color: str, spec: InputSpec, mark: Path) -> None:
    wanted = "GRAY" if spec.color == "GRAY" else "RGB"
    if color != wanted:
        raise UsageError(
            f"{mark}: the mark reads {color} pictures, the target {wanted} ({spec.color}); "
            f"train a mark for it: ptynet train --color {wanted}"
        )


def _require_ours(claim: Claim, where: Path, secrets: MarkSecrets, spec: InputSpec, target_digest: str) -> None:
    if not claim.belongs_to(secrets.epoch):
        raise ClaimError(
            f"{where}: was made with another key, or another epoch, than the mark; give the mark it was made with"
        )
    if claim.terms.target != target_digest:
        raise ClaimError(
            f"{where}: commits to the target {claim.terms.target}, this one has digest {target_digest}; "
            "make a claim for this target"
        )
    ours, theirs = (each.model_copy(update={"labels": None, "fidelity": None}) for each in (spec, claim.terms.spec))
    if ours != theirs:
        fields = [name for name in type(spec).model_fields if getattr(ours, name) != getattr(theirs, name)]
        raise ClaimError(f"{where}: commits to a spec with other {', '.join(fields)}; use the spec it was made with")


def _require_mark(claim: Claim, where: Path, metadata: MarkMetadata) -> None:
    """Refuse a claim whose probes this mark was not trained for."""
    if claim.design != metadata.design:
        raise ClaimError(f"{where}: commits to {claim.design}, the mark hears {metadata.design}; commit with --mark")
    committed, heard = (claim.terms.tau, claim.terms.margin), (metadata.tau, metadata.margin)
    if committed != heard:
        raise ClaimError(
            f"{where}: commits to tau {committed[0]} and margin {committed[1]}, the mark fires at {heard[0]} and {heard[1]}; "
            "commit with --mark"
        )

"""A claim as a folder, by default `MARK/claims/NAME/`.

commitment.json   C1, the exact bytes that are stamped; may be shown to anyone
claim.json        the openings (values and hiding nonces) and the seal; the owner's secret, mode 0600
leaves.json       the J leaves, from which inclusion proofs are made
ledger.jsonl      every run against an endpoint, see `ledger`
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ptynet_plugin.claims.canonical import canonical_json, parse_json
from ptynet_plugin.claims.claim import Beacon, Claim, Seal
from ptynet_plugin.claims.commitment import Opening
from ptynet_plugin.claims.files import FolderTakenError, read_file, write_files
from ptynet_plugin.claims.terms import MOST_SYMBOLS
from ptynet_plugin.errors import ClaimError

__all__ = ["CLAIMS", "claim_file", "find_claim", "read_claim", "write_claim"]

CLAIMS = "claims"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")

_HEX = r"^(?:[0-9a-f]{2})+$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


_Form = TypeVar("_Form", bound=_Strict)


class _Field(_Strict):
    value: Any
    nonce: str = Field(pattern=r"^[0-9a-f]{64}$")


class _Beacon(_Strict):
    source: str = Field(max_length=1024)
    round: int = Field(ge=0)
    value: str = Field(pattern=_HEX, max_length=2048)
    signature: str = Field(pattern=r"^(?:[0-9a-f]{2})*$", max_length=2048, default="")
    genesis_time: int = Field(ge=0, default=0)
    period: int = Field(ge=0, default=0)


class _Seal(_Strict):
    signature: str = Field(pattern=_HEX, max_length=1 << 16)
    beacon: _Beacon | None


class _ClaimFile(_Strict):
    schema_: str = Field(alias="schema", pattern=r"^ptynet-claim/v1$")
    fields: dict[str, _Field] = Field(max_length=64)
    seal: _Seal | None


class _LeavesFile(_Strict):
    schema_: str = Field(alias="schema", pattern=r"^ptynet-leaves/v1$")
    leaves: list[str] = Field(max_length=MOST_SYMBOLS)


def read_claim(folder: Path) -> Claim:
    """Read a claim and make sure that its files agree: openings, commitment, leaves and root.

    Raises:
        ClaimError: A file is missing, malformed, too large or altered; the message names it.
    """
    if not folder.is_dir():
        raise ClaimError(f"{folder}: no such claim folder")
    file = _parsed(folder / "claim.json", _ClaimFile)
    openings = {name: Opening(field.value, bytes.fromhex(field.nonce)) for name, field in file.fields.items()}
    leaves = tuple(_leaf(folder, text) for text in _parsed(folder / "leaves.json", _LeavesFile).leaves)
    try:
        claim = Claim(openings, leaves, seal=_seal(file.seal))
    except ClaimError as error:
        raise ClaimError(f"{folder}: {error}") from None
    if claim.commitment != read_file(folder / "commitment.json"):
        raise ClaimError(f"{folder}: claim.json does not open commitment.json; one of the two was altered")
    return claim


def write_claim(folder: Path, claim: Claim, *, replace: bool = False) -> None:
    """Write a claim; where the same claim is there already its folder, ledger and all, stays as it is.

    Several processes may write the same claim at once: one of them makes the folder, the others find it.

    Args:
        folder: `MARK/claims/NAME`, or any other place.
        claim: What to write.
        replace: Put another claim in its place. The old one, with its ledger, moves to `.retired/` beside it.

    Raises:
        ClaimError: Another claim is there, or the folder cannot be written.
    """
    if not _NAME.fullmatch(folder.name):
        raise ClaimError(f"{folder.name!r} cannot name a claim; use letters, digits, '.', '_' and '-'")
    if folder.exists():
        there = read_claim(folder)
        if (there.digest, there.seal) == (claim.digest, claim.seal):
            return
        if not replace:
            raise ClaimError(f"{folder}: {_difference(folder, there, claim)}")
        _move(folder, _retired(folder, there))
    if _retired(folder, claim).exists():
        _move(_retired(folder, claim), folder)  # it comes back with its ledger: evidence is never reset
        return
    try:
        write_files(folder, _contents(claim))
    except FolderTakenError:
        write_claim(folder, claim, replace=replace)  # another process was faster; is its claim this one?


def find_claim(mark: Path, claim: Path | None = None, *, copies: bool | None = None) -> Path:
    """Give the folder of the claim to use: the one that was named, or the mark's only one.

    Args:
        mark: Folder of the mark.
        claim: The one that was named.
        copies: Which kind is meant where a mark has both, one for copies (True) or one for one archive (False).

    Raises:
        ClaimError: None was named and the mark has none, or several.
    """
    if claim is not None:
        return claim
    found = sorted(path.parent for path in (mark / CLAIMS).glob("[!.]*/claim.json"))
    links_first = sorted(found, key=lambda folder: not folder.is_symlink())
    names = {folder.resolve(): folder for folder in links_first}  # a second name of the same claim is a link to it
    there = sorted(names.values())
    if len(there) > 1 and copies is not None:
        there = [folder for folder in there if (read_claim(folder).terms.copies is not None) == copies] or there
    if len(there) == 1:
        return there[0]
    if not there:
        raise ClaimError(f"{mark / CLAIMS}: holds no claim; package a model with this mark first, or give --claim DIR")
    listed = ", ".join(path.name for path in there)
    raise ClaimError(f"{mark / CLAIMS}: holds {len(there)} claims ({listed}); say which with --claim {there[0]}")


def claim_file(claim: Claim) -> bytes:
    """Give the content of claim.json: openings and seal."""
    fields = {name: {"value": opening.value, "nonce": opening.nonce.hex()} for name, opening in claim.openings.items()}
    seal = claim.seal and {
        "signature": claim.seal.signature.hex(),
        "beacon": claim.seal.beacon and _beacon_fields(claim.seal.beacon),
    }
    return canonical_json({"schema": "ptynet-claim/v1", "fields": fields, "seal": seal})


def _contents(claim: Claim) -> dict[str, bytes]:
    return {
        "commitment.json": claim.commitment,
        "claim.json": claim_file(claim),
        "leaves.json": canonical_json({"schema": "ptynet-leaves/v1", "leaves": [leaf.hex() for leaf in claim.leaves]}),
    }


def _beacon_fields(beacon: Beacon) -> dict[str, str | int]:
    return {
        "source": beacon.source,
        "round": beacon.round,
        "value": beacon.value.hex(),
        "signature": beacon.signature.hex(),
        "genesis_time": beacon.genesis_time,
        "period": beacon.period,
    }


def _seal(file: _Seal | None) -> Seal | None:
    if file is None:
        return None
    drawn = file.beacon
    return Seal(bytes.fromhex(file.signature), None if drawn is None else _beacon(drawn))


def _beacon(drawn: _Beacon) -> Beacon:
    value, signature = bytes.fromhex(drawn.value), bytes.fromhex(drawn.signature)
    return Beacon(drawn.source, drawn.round, value, signature, drawn.genesis_time, drawn.period)


def _parsed(path: Path, form: type[_Form]) -> _Form:
    try:
        return form.model_validate(parse_json(read_file(path), where=str(path)))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise ClaimError(f"{path}: {place}: {problem['msg']}") from None


def _leaf(folder: Path, text: str) -> bytes:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ClaimError(f"{folder / 'leaves.json'}: {text[:70]!r} is no leaf of 64 hex digits")
    return bytes.fromhex(text)


def _difference(folder: Path, there: Claim, claim: Claim) -> str:
    kept = "or replace it knowingly (--force): the old one is kept in .retired/"
    if there.digest != claim.digest:
        return f"holds another claim ({there.digest[:16]}..., not {claim.digest[:16]}...); give another name, {kept}"
    if claim.seal is None:
        return f"this claim was stamped, and its labels follow from the stamp; package with --claim {folder}"
    return f"holds the same claim with {'another' if there.seal else 'no'} stamp, and so with other labels; {kept}"


def _retired(folder: Path, claim: Claim) -> Path:
    """Give the place of a claim that was replaced; the salt tells claim and stamp."""
    return folder.parent / ".retired" / f"{folder.name}-{claim.salt.hex()[:16]}"


def _move(folder: Path, to: Path) -> None:
    try:
        to.parent.mkdir(mode=0o700, exist_ok=True)
        folder.rename(to)
    except OSError as error:
        raise ClaimError(f"{folder}: cannot be moved to {to} ({error.strerror})") from error

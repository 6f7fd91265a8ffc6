"""Reading a bundle that may come from an adversary: signed files first, and nothing believed that is not signed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptynet_plugin.claims.canonical import canonical_json, parse_json
from ptynet_plugin.claims.commitment import Opening, field_digest
from ptynet_plugin.claims.files import read_file
from ptynet_plugin.claims.terms import FEWEST_CLASSES_IN_PAIRS, MOST_CLASSES, MOST_COVERS, MOST_SYMBOLS, CopyTerms
from ptynet_plugin.errors import ClaimError, IntegrityError
from ptynet_plugin.evidence.envelope import HANDOVER, open_envelope
from ptynet_plugin.spec import InputSpec

__all__ = ["HANDED_OVER", "Bundle", "OpenedTerms", "described", "read_bundle"]

HANDED_OVER = "handover.json"
_NAME = re.compile(r"[a-z]+/[0-9]+(-[0-9]+)?|[a-z0-9-]+\.[a-z]+")
_MOST_FILES = 1 << 18
_MOST_OCTETS = 1 << 31


@dataclass(frozen=True)
class OpenedTerms:
    """The fields of C1 that the bundle opens, see `Terms`."""

    root: bytes
    symbols: int
    target: str
    spec: InputSpec
    classes: int
    covers: int
    size: tuple[int, int]
    reserve: int
    signer: str
    copies: CopyTerms | None = None

    @property
    def pairs(self) -> bool:
        """Whether a party's run asks symbols of two labels, either of which is a hit."""
        return self.copies is not None and self.classes >= FEWEST_CLASSES_IN_PAIRS

    @property
    def ownership(self) -> range:
        """Symbols that a party's run asks, see `Terms.ownership`."""
        if self.copies is None:
            return range(self.symbols - self.reserve)
        if self.pairs:
            return range(self.copies.positions)
        return range(self.copies.positions + self.copies.quick, self.symbols - self.reserve)


@dataclass(frozen=True)
class Bundle:
    """A bundle whose signature and hashes hold.

    Attributes:
        folder: Where it lies.
        files: Content of every file but the envelope.
        predicate: What the signed statement says.
        signer: Public key that signed, 64 hex digits.
        terms: The opened terms.
        digest: The claim's digest, SHA-256 of C1.
        seal: Signature octets of the stamp and beacon value, or None where the claim is unstamped.
        beacon: The round that the claim's labels are drawn with besides, as the claim keeps it; None without.
        lines: The transcript.
        leaves: Nonce and proof per symbol asked.
        handover: What the owner signed when he handed the reserve to the witness who signed the bundle; None in a party's.
    """

    folder: Path
    files: Mapping[str, bytes]
    predicate: Mapping[str, Any]
    signer: str
    terms: OpenedTerms
    digest: bytes
    seal: tuple[bytes, bytes] | None
    lines: tuple[dict[str, Any], ...]
    leaves: tuple[dict[str, Any], ...]
    handover: Mapping[str, Any] | None = None
    beacon: Mapping[str, Any] | None = None


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle and check everything that can be checked without the claim's meaning.

    Raises:
        IntegrityError: With the first link that does not hold.
    """
    try:
        return _read(folder)
    except ClaimError as error:
        raise IntegrityError(str(error)) from None
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{folder}: not the form of a bundle ({described(error)})") from None


def described(error: Exception) -> str:
    """Say on one line of bounded length what an adversary's value raised."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _read(folder: Path) -> Bundle:
    statement, signer = open_envelope(read_file(folder / "envelope.json"))
    files = _signed_files(folder, statement["subject"])
    opened = _json(files, "opened.json")
    terms, committed = _opened(opened["fields"]), _json(files, "commitment.json")
    for name, field in opened["fields"].items():
        digest = field_digest(name, Opening(field["value"], bytes.fromhex(field["nonce"]))).hex()
        if committed["fields"].get(name) != digest:
            raise IntegrityError(f"opened.json: {name} does not open the commitment")
    closed = {name for name in committed["fields"] if name.startswith("copies.")} - set(opened["fields"])
    if closed:
        raise IntegrityError(f"opened.json: leaves {min(closed)} closed, which says what is asked")
    handover = _handover(files, terms, signer)
    if handover is None and terms.signer != signer:
        raise IntegrityError("envelope.json: signed by another than the claim names: another man's bundle")
    return Bundle(
        folder=folder,
        files=files,
        predicate=statement["predicate"],
        signer=signer,
        terms=terms,
        digest=hashlib.sha256(files["commitment.json"]).digest(),
        seal=_seal(opened["seal"]),
        lines=tuple(_canonical(line, "transcript.jsonl") for line in files["transcript.jsonl"].split(b"\n")[:-1]),
        leaves=tuple(_json(files, "leaves.json")),
        handover=handover,
        beacon=(opened["seal"] or {}).get("beacon") or None,
    )


def _handover(files: Mapping[str, bytes], terms: OpenedTerms, signer: str) -> Mapping[str, Any] | None:
    if HANDED_OVER not in files:
        return None
    content, by = open_envelope(files[HANDED_OVER], kind=HANDOVER, where=HANDED_OVER)
    handover: Mapping[str, Any] = content["predicate"]
    if by != terms.signer:
        raise IntegrityError(f"{HANDED_OVER}: signed by another than the claim names: another man's reserve")
    if signer == terms.signer or handover["witness"] != signer:
        raise IntegrityError("envelope.json: signed by another than the witness of its hand-over")
    return handover


def _signed_files(folder: Path, subjects: list[dict[str, Any]]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    total = 0
    for subject in subjects[:_MOST_FILES]:
        name = subject["name"]
        if not _NAME.fullmatch(name):
            raise IntegrityError(f"{name[:80]!r}: a name no bundle has")
        files[name] = read_file(folder / name)
        total += len(files[name])
        if total > _MOST_OCTETS:
            raise IntegrityError(f"{folder}: more than a bundle may hold ({_MOST_OCTETS} bytes)")
        if hashlib.sha256(files[name]).hexdigest() != subject["digest"]["sha256"]:
            raise IntegrityError(f"{name}: not the signed bytes")
    present = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    }
    unsigned = present - set(files) - {"envelope.json"}
    if unsigned:
        raise IntegrityError(f"{min(unsigned)}: a file that is not signed")
    return files


def _opened(fields: Mapping[str, Any]) -> OpenedTerms:
    value = {name: field["value"] for name, field in fields.items()}
    if value["statistic"] != "mixture-e-process/v1":
        raise IntegrityError(f"opened.json: the statistic {value['statistic']!r} is unknown to this version")
    possible = 0 <= value["reserve"] < value["symbols"] <= MOST_SYMBOLS and 0 < value["covers"] <= MOST_COVERS
    if not possible or not 1 < value["classes"] < MOST_CLASSES:
        raise IntegrityError("opened.json: impossible terms")
    return OpenedTerms(
        root=bytes.fromhex(value["root"]),
        symbols=int(value["symbols"]),
        target=str(value["target"]),
        spec=InputSpec.model_validate(value["spec"]),
        classes=int(value["classes"]),
        covers=int(value["covers"]),
        size=(int(value["size"][0]), int(value["size"][1])),
        reserve=int(value["reserve"]),
        signer=str(value["signer"]),
        copies=_copies(value),
    )


def _copies(value: Mapping[str, Any]) -> CopyTerms | None:
    opened = {name.removeprefix("copies."): entry for name, entry in value.items() if name.startswith("copies.")}
    copies = CopyTerms.model_validate(opened) if opened else None
    if copies is not None and copies.positions + copies.quick > value["symbols"] - value["reserve"]:
        raise IntegrityError("opened.json: impossible terms")
    return copies


def _seal(value: Mapping[str, Any] | None) -> tuple[bytes, bytes] | None:
    if value is None:
        return None
    beacon = bytes.fromhex(value["beacon"]["value"]) if value["beacon"] else b""
    return bytes.fromhex(value["signature"]), beacon


def _json(files: Mapping[str, bytes], name: str) -> Any:
    if name not in files:
        raise IntegrityError(f"{name}: missing")
    return _canonical(files[name], name)


def _canonical(octets: bytes, name: str) -> Any:
    value = parse_json(octets, where=name)
    if canonical_json(value) != octets:
        raise IntegrityError(f"{name}: not in its canonical form")
    return value

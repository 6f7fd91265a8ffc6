"""The sealed reserve in the hands of a neutral person: what the owner hands over, and what the witness makes of it.

    handover.json     the owner's signed statement over every other file: to whom, against which endpoint, as which test
    claim.json commitment.json leaves.json stamp.tsr tsa.pem ...     the claim; its key is not among them
    reserve.json      the leaf nonces of the reserve
    pictures/S-K      the committed pictures of symbol S of the reserve          controls/S    a benign one beside it

The owner names the witness and the endpoint and chooses nothing after that: the witness registers a run, a public beacon
draws the order, every symbol of the reserve is asked once in his life, and he signs with his own key. The reserve is noted
as spent in the owner's ledger before the folder exists.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ptynet_plugin.claims.canonical import canonical_json, parse_json, without_floats
from ptynet_plugin.claims.claim import Claim
from ptynet_plugin.claims.directory import claim_file, read_claim
from ptynet_plugin.claims.files import read_file, write_beside
from ptynet_plugin.claims.leaves import leaf, pixels_digest
from ptynet_plugin.claims.ledger import Ledger
from ptynet_plugin.claims.signing import signer
from ptynet_plugin.errors import ClaimError, IntegrityError, UsageError
from ptynet_plugin.evidence.bundle import HANDED_OVER
from ptynet_plugin.evidence.envelope import HANDOVER, open_envelope, seal_envelope, statement
from ptynet_plugin.evidence.opening import Opener, claims_files
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.symbols.labels import label_of
from ptynet_plugin.verification.endpoint import Picture
from ptynet_plugin.verification.questions import Questions

__all__ = ["HandedQuestions", "Handover", "hand_over", "read_handover", "witness_opens", "witness_signs"]

_RESERVE = "reserve.json"
_NAME = re.compile(r"(pictures/[0-9]+-[0-9]+)|(controls/[0-9]+)|[a-z0-9-]+\.[a-z]+")
_OF_THE_WITNESS = {HANDED_OVER, "ledger.jsonl", "runs"}


@dataclass(frozen=True)
class Handover:
    """A hand-over that was read and holds.

    Attributes:
        folder: Where it lies.
        claim: The claim.
        nonces: Leaf nonces of the reserve.
        envelope: The owner's signed statement, as it goes into the bundle.
        witness: Public key of the one it was made for, 64 hex digits.
        endpoint: Whom to ask.
        number: Which test of the claim this is.
        alpha: Level over all tests of the claim.
    """

    folder: Path
    claim: Claim
    nonces: Mapping[int, bytes]
    envelope: bytes
    witness: str
    endpoint: str
    number: int
    alpha: float


def witness_signs(key: OwnerKey) -> bytes:
    """Give the 32 secret bytes a witness signs with; `signer` of them is the public key he is known by."""
    return key.derive("witness/v1")


def hand_over(
    folder: Path,
    claim_folder: Path,
    questions: Questions,
    *,
    secret: bytes,
    witness: str,
    endpoint: str,
    ledger: Ledger,
    alpha: float,
    made: str,
) -> None:
    """Open the reserve to a witness. It is spent from now on, whatever he does with it.

    Args:
        folder: The hand-over's new folder.
        claim_folder: The claim's folder, for its stamps.
        questions: Of the owner's key under the claim.
        secret: The epoch's secret.
        witness: The witness's public key, 64 hex digits.
        endpoint: Identity of whom he is to ask, see `EndpointInfo.identity`.
        ledger: The claim's open ledger.
        alpha: Level over all tests of the claim, in (0, 1).
        made: Time in ISO 8601 with zone.

    Raises:
        ClaimError: Unstamped, no reserve, or a reserve that is spent.
        UsageError: No such key, the claimant's own key, or the folder exists.
    """
    claim = questions.claim
    reserve = range(claim.terms.symbols - claim.terms.reserve, claim.terms.symbols)
    if not questions.owned:
        raise UsageError("this key did not make the claim; its reserve cannot be opened with it")
    if claim.seal is None:
        raise ClaimError(
            f"{claim_folder}: unstamped, and what rests on it is party evidence whoever asks; stamp a claim before it is "
            "packaged, and hand that one over"
        )
    if not reserve:
        raise ClaimError(f"{claim_folder}: has no reserve; commit a claim with --reserve")
    if re.fullmatch(r"[0-9a-f]{64}", witness) is None or witness == claim.terms.signer:
        raise UsageError(
            f"--witness {witness[:70]!r}: expected the public key of a neutral person, 64 hex digits, as `ptynet claim "
            "witness-key` prints it; the claimant's own will not do"
        )
    if folder.exists():
        raise UsageError(f"{folder}: exists already; name a new folder for the hand-over")
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        for name, octets in _contents(claim_folder, questions, secret, reserve):
            (unfinished / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_beside(unfinished / name, octets)
        run = ledger.register(f"witnessed {endpoint}", alpha=alpha, budget=len(reserve), started=made, witness=witness)
        told = {"claim": claim.digest, "witness": witness, "endpoint": endpoint, "number": run.number, "alpha": alpha}
        signed = statement(_digests(unfinished), without_floats(told | {"made": made}), kind=HANDOVER)
        write_beside(unfinished / HANDED_OVER, seal_envelope(signed, secret=secret))
        ledger.hand_over(run, list(reserve))
        unfinished.rename(folder)
    except OSError as error:
        raise ClaimError(f"{folder}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def read_handover(folder: Path) -> Handover:
    """Read a hand-over and make sure of all that a witness can check: signature, files, every picture against its leaf.

    Raises:
        IntegrityError: With the first link that does not hold.
        ClaimError: The claim in it cannot be read.
    """
    envelope = read_file(folder / HANDED_OVER)
    content, by = open_envelope(envelope, kind=HANDOVER, where=HANDED_OVER)
    try:
        signed = {str(each["name"]): str(each["digest"]["sha256"]) for each in content["subject"]}
        told = content["predicate"]
        witness, endpoint = str(told["witness"]), str(told["endpoint"])
        number, alpha, digest = int(told["number"]), float(told["alpha"]), str(told["claim"])
    except (LookupError, TypeError, ValueError) as error:
        raise IntegrityError(f"{HANDED_OVER}: not the form of a hand-over ({error!r})") from None
    _check_files(folder, signed)
    claim = read_claim(folder)
    if (claim.digest, claim.terms.signer) != (digest, by):
        raise IntegrityError(f"{HANDED_OVER}: signed by another than the claim names, or of another claim")
    nonces = _nonces(folder, claim)
    return Handover(folder, claim, nonces, envelope, witness, endpoint, number, alpha)


class HandedQuestions(Questions):
    """The questions of a reserve, from what was handed over: no key, and nothing outside the reserve.

    Args:
        handover: As read.
    """

    def __init__(self, handover: Handover) -> None:
        claim = handover.claim
        terms = claim.terms
        self.claim, self.spec, self.class_map, self.owned = claim, terms.spec, None, True
        self._nonces, self._benign, self.view = handover.nonces, None, "plain"
        self._labels = np.full(terms.symbols, -1, dtype=np.int64)
        for symbol, nonce in handover.nonces.items():
            self._labels[symbol] = label_of(
                symbol, nonce, salt=claim.salt, model_id=terms.target, classes=terms.classes
            )
        self._maker = _Kept(handover.folder, channels=claim.design.channels)
        self._prepare()

    def order(self, run_id: str, *, beacon: bytes = b"") -> list[int]:
        """Give the reserve in the order that run and beacon draw."""
        return self.claim.order(run_id, beacon=beacon, reserve=True)

    @property
    def chance(self) -> float:
        """Chance of a hit: the reserve has single labels, whatever the rest of the claim has."""
        return 1.0 / self.claim.terms.classes

    def control(self, symbol: int) -> Picture:
        """Give the benign picture that was handed over with a symbol, or with some other where there is none."""
        handed = sorted(self._nonces)
        return super().control(symbol if symbol in self._nonces else handed[symbol % len(handed)])


def witness_opens(handover: Handover, key: OwnerKey) -> Opener:
    """Give what a witness opens leaves with.

    Raises:
        UsageError: The hand-over was made for another witness.
    """
    signing = witness_signs(key)
    if signer(signing) != handover.witness:
        raise UsageError(
            f"{handover.folder}: handed over to the witness {handover.witness[:16]}..., your key is {signer(signing)[:16]}...; "
            "ask the owner for a hand-over to yours (ptynet claim witness-key)"
        )
    files = dict(claims_files(handover.folder)) | {HANDED_OVER: handover.envelope}
    return Opener(handover.claim, handover.nonces, signing, files, witness=True)


@dataclass(frozen=True)
class _Kept:
    """Pictures in the files of a hand-over."""

    folder: Path
    channels: int

    def probe(self, symbol: int, cover: int, size: tuple[int, int]) -> Picture:
        return self._read(f"pictures/{symbol}-{cover}", size)

    def cover(self, symbol: int, cover: int, size: tuple[int, int]) -> Picture:
        return self._read(f"controls/{symbol}", size)

    def _read(self, name: str, size: tuple[int, int]) -> Picture:
        octets = read_file(self.folder / name)
        if len(octets) != size[0] * size[1] * self.channels:
            raise IntegrityError(f"{name}: {len(octets)} bytes are no picture of {size[0]}x{size[1]}x{self.channels}")
        return np.frombuffer(octets, np.uint8).reshape(*size, self.channels)


def _contents(claim_folder: Path, questions: Questions, secret: bytes, reserve: range) -> Iterator[tuple[str, bytes]]:
    claim = questions.claim
    yield "claim.json", claim_file(claim)
    for name in ("commitment.json", "leaves.json"):
        yield name, read_file(claim_folder / name)
    beside = dict(claims_files(claim_folder))
    if "binding-opened.json" in beside:
        yield "binding-openings.json", beside.pop("binding-opened.json")
    yield from beside.items()
    nonces = claim.nonces(secret)
    yield _RESERVE, canonical_json([{"symbol": symbol, "nonce": nonces[symbol].hex()} for symbol in reserve])
    for symbol in reserve:
        questions.require_committed(symbol)
        for cover, picture in enumerate(questions.committed(symbol)):
            yield f"pictures/{symbol}-{cover}", picture.tobytes()
        yield f"controls/{symbol}", questions.committed_control(symbol).tobytes()


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _check_files(folder: Path, signed: Mapping[str, str]) -> None:
    for name, digest in signed.items():
        if not _NAME.fullmatch(name):
            raise IntegrityError(f"{name[:80]!r}: a name no hand-over has")
        if hashlib.sha256(read_file(folder / name)).hexdigest() != digest:
            raise IntegrityError(f"{name}: not the bytes that the owner signed")
    unsigned = {path.name for path in folder.iterdir() if not path.is_dir()} - set(signed) - _OF_THE_WITNESS
    if unsigned:
        raise IntegrityError(f"{min(unsigned)}: a file that the owner did not sign")


def _nonces(folder: Path, claim: Claim) -> dict[int, bytes]:
    first, terms = claim.terms.symbols - claim.terms.reserve, claim.terms
    listed: list[dict[str, Any]] = parse_json(read_file(folder / _RESERVE), where=_RESERVE)
    try:
        nonces = {int(each["symbol"]): bytes.fromhex(each["nonce"]) for each in listed}
    except (LookupError, TypeError, ValueError) as error:
        raise IntegrityError(f"{_RESERVE}: not the form of a reserve ({error!r})") from None
    if sorted(nonces) != list(range(first, terms.symbols)):
        raise IntegrityError(f"{_RESERVE}: not all of the reserve, or more; nothing may be chosen in handing over")
    kept = _Kept(folder, channels=claim.design.channels)
    for symbol, nonce in nonces.items():
        pictures = [kept.probe(symbol, cover, terms.size) for cover in range(terms.covers)]
        if leaf(nonce, symbol, pixels_digest(pictures)) != claim.leaves[symbol]:
            raise IntegrityError(f"symbol {symbol}: its pictures are not the committed ones")
    return nonces

"""Checks a bundle link by link, with the same code that made it; `check_bundle.py` does it again without any of that code.

signature → files → commitment → stamp → leaves → labels → order → requests → transcript → statistics → verdict
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ptynet_plugin.claims.canonical import canonical_json
from ptynet_plugin.claims.leaves import leaf
from ptynet_plugin.claims.merkle import is_included
from ptynet_plugin.errors import IntegrityError, PtynetError
from ptynet_plugin.evidence.binding import bound_archives
from ptynet_plugin.evidence.bundle import Bundle, read_bundle
from ptynet_plugin.evidence.der import read_stamp
from ptynet_plugin.evidence.sealing import BINDING_STAMP, ROOT, STAMP, check_stamps
from ptynet_plugin.evidence.timestamps import openssl_command
from ptynet_plugin.images.encode import encode
from ptynet_plugin.images.resize import resize
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.statistics.decision import SequentialTest, alpha_of_test
from ptynet_plugin.statistics.evasion import evasion_test
from ptynet_plugin.symbols.encoding import tagged_digest
from ptynet_plugin.symbols.labels import label_of
from ptynet_plugin.verification.pictures import adapt_channels
from ptynet_plugin.verification.runner import EVASION_LEVEL

__all__ = ["CheckedBundle", "check_bundle"]

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
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

Picture = NDArray[np.uint8]
Question = dict[str, Any]


@dataclass(frozen=True)
class CheckedBundle:
    """What a valid bundle shows.

    Attributes:
        verdict: "shown", "not-shown", "inconclusive" or "evasion-suspected".
        grade: What kind of evidence it is.
        endpoint: What was asked.
        symbols: Symbols asked.
        hits: Hits among them.
        classes: C; the null rate is 1 / C.
        log10_e: Evidence, recomputed.
        stamps: File name to the time of its stamp.
        notes: What a reader must know besides.
    """

    verdict: str
    grade: str
    endpoint: str
    symbols: int
    hits: int
    classes: int
    log10_e: float
    stamps: dict[str, datetime]
    notes: tuple[str, ...]


def check_bundle(folder: Path, *, roots: bytes | None = None, archives: Sequence[str] = ()) -> CheckedBundle:
    """Recompute everything that a bundle rests on.

    Args:
        folder: The bundle.
        roots: PEM certificates of time-stamping authorities that the checker trusts; the bundle's own where None.
        archives: Digests of archives that the claim must be bound to.

    Raises:
        IntegrityError: With the first link that does not hold.
    """
    bundle = read_bundle(folder)
    try:
        return _checked(bundle, roots, archives)
    except IntegrityError:
        raise
    except PtynetError as error:
        raise IntegrityError(f"{folder}: {error}") from None
    except _BAD as error:
        raise IntegrityError(f"{folder}: not the form of a bundle ({type(error).__name__}: {error})") from None


def _checked(bundle: Bundle, roots: bytes | None, archives: Sequence[str]) -> CheckedBundle:
    head, questions, last = bundle.lines[0], list(bundle.lines[1:-1]), bundle.lines[-1]
    _check_chain(bundle)
    stamps = _check_stamps(bundle, roots, datetime.fromisoformat(head["started"]))
    _check_binding(bundle, archives)
    asked = _check_order(bundle, head, questions)
    outcomes, unseen = _check_symbols(bundle, head, questions, asked)
    test = _check_verdict(bundle, head, questions, outcomes, last)
    notes = [openssl_command(name, message, ROOT) for name, message in ((STAMP, "commitment.json"),) if name in stamps]
    if unseen:
        notes.append(f"{unseen} requests hold JPEG pictures, whose pixels were not compared")
    if head["earlier"]:
        notes.append(f"{len(head['earlier'])} trials of earlier runs are the claimant's word")
    return CheckedBundle(
        verdict=last["verdict"],
        grade=str(bundle.predicate["grade"]),
        endpoint=str(head["endpoint"]),
        symbols=len(outcomes),
        hits=sum(outcomes),
        classes=bundle.terms.classes,
        log10_e=test.evidence.log10_e,
        stamps=stamps,
        notes=tuple(notes),
    )


def _check_chain(bundle: Bundle) -> None:
    kinds = [line["entry"] for line in bundle.lines]
    if kinds != ["run"] + ["question"] * (len(kinds) - 2) + ["verdict"]:
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


def _check_stamps(bundle: Bundle, roots: bytes | None, started: datetime) -> dict[str, datetime]:
    if (bundle.seal is None) != (STAMP not in bundle.files):
        raise IntegrityError(f"{STAMP}: the seal and the stamp do not belong together")
    if bundle.seal is None:
        return {}
    times = check_stamps(bundle.folder, roots=roots)
    if read_stamp(bundle.files[STAMP]).signature != bundle.seal[0]:
        raise IntegrityError(f"{STAMP}: another stamp than the labels were drawn with")
    if times[STAMP] > started:
        raise IntegrityError(f"{STAMP}: later than the run that rests on it: a back-dated commitment")
    if times.get(BINDING_STAMP, times[STAMP]) < times[STAMP]:
        raise IntegrityError(f"{BINDING_STAMP}: earlier than {STAMP}")
    return times


def _check_binding(bundle: Bundle, archives: Sequence[str]) -> None:
    if not archives:
        return
    bound = bound_archives(bundle.files, bundle.digest.hex())
    for archive in archives:
        if archive not in bound:
            raise IntegrityError(f"archive {archive}: not one that the claim is bound to; it was swapped")


def _check_order(bundle: Bundle, head: dict[str, Any], questions: list[Question]) -> list[int]:
    terms = bundle.terms
    spent = {trial["symbol"] for trial in head["earlier"]} | set(head["disclosed"])
    drawn = sorted(
        range(terms.symbols - terms.reserve),
        key=lambda symbol: tagged_digest("order/v1", bundle.digest, head["run"], b"", symbol),
    )
    asked = list(dict.fromkeys(question["symbol"] for question in questions if not question["control"]))
    if asked != [symbol for symbol in drawn if symbol not in spent][: len(asked)]:
        raise IntegrityError(
            "transcript.jsonl: its symbols are no prefix of the drawn order: one was dropped or chosen"
        )
    if [entry["symbol"] for entry in bundle.leaves] != asked:
        raise IntegrityError("leaves.json: other leaves than those asked")
    return asked


def _check_symbols(
    bundle: Bundle, head: dict[str, Any], questions: list[Question], asked: list[int]
) -> tuple[list[bool], int]:
    spec, unseen, outcomes = InputSpec.model_validate(head["spec"]), 0, []
    for symbol, entry in zip(asked, bundle.leaves, strict=True):
        pictures = _committed(bundle, symbol, entry)
        mine = [question for question in questions if question["symbol"] == symbol and not question["control"]]
        if [question["cover"] for question in mine] != list(range(bundle.terms.covers)):
            raise IntegrityError(f"symbol {symbol}: its covers were chosen")
        label = _label(bundle, symbol, entry)
        for question, picture in zip(mine, pictures, strict=True):
            if question["hit"] != (question["lost"] is None and question["answer"] == label):
                raise IntegrityError(f"symbol {symbol}: hit or miss is not what its label says")
            if question["lost"] is None:
                unseen += not _check_bodies(bundle, question, _as_asked(picture, spec), spec)
        outcomes.append(sum(question["hit"] for question in mine) > bundle.terms.covers / 2)
    return outcomes, unseen


def _committed(bundle: Bundle, symbol: int, entry: dict[str, Any]) -> list[Picture]:
    terms = bundle.terms
    if symbol >= terms.symbols - terms.reserve:
        raise IntegrityError(f"symbol {symbol}: of the sealed reserve, which is never opened")
    pixels = [bundle.files[f"pictures/{symbol}-{cover}"] for cover in range(terms.covers)]
    committed = leaf(bytes.fromhex(entry["nonce"]), symbol, hashlib.sha256(b"".join(pixels)).digest())
    proof = [bytes.fromhex(node) for node in entry["proof"]]
    if not is_included(committed, symbol, terms.symbols, proof, terms.root):
        raise IntegrityError(f"symbol {symbol}: its pictures are not the committed ones")
    return [np.frombuffer(octets, np.uint8).reshape(*terms.size, -1) for octets in pixels]


def _label(bundle: Bundle, symbol: int, entry: dict[str, Any]) -> int:
    salt = bundle.digest if bundle.seal is None else tagged_digest("salt/v1", bundle.digest, *bundle.seal)
    terms = bundle.terms
    return label_of(symbol, bytes.fromhex(entry["nonce"]), salt=salt, model_id=terms.target, classes=terms.classes)


def _as_asked(picture: Picture, spec: InputSpec) -> Picture:
    height, width = spec.size or (0, 0)
    size = height or picture.shape[0], width or picture.shape[1]
    return adapt_channels(picture if picture.shape[:2] == size else resize(picture, size), spec.channels)


def _check_bodies(bundle: Bundle, question: Question, picture: Picture, spec: InputSpec) -> bool:
    """Check a question's bodies; False where the request's form cannot be compared."""
    request, answer = f"requests/{question['index']}", f"answers/{question['index']}"
    for name, digest in ((request, question["request_sha256"]), (answer, question["answer_sha256"])):
        if hashlib.sha256(bundle.files[name]).hexdigest() != digest:
            raise IntegrityError(f"{name}: not the body in the transcript")
    seen = _holds(bundle.files[request], picture, spec)
    if seen is False:
        raise IntegrityError(f"{request}: does not hold the committed picture")
    return seen is True


def _holds(body: bytes, picture: Picture, spec: InputSpec) -> bool | None:
    start = body.find(_PNG)
    if start >= 0:
        with Image.open(io.BytesIO(body[start:])) as image:
            return image.size == picture.shape[1::-1] and np.array_equal(
                np.asarray(image).reshape(picture.shape), picture
            )
    if _JPEG in body and b"JFIF" in body:
        return None
    if body[:1] == b"{" and body[-1:] == b"}":
        data = json.loads(body)["inputs"][0]["data"]
        if isinstance(data[0], str):
            return _holds(base64.b64decode(data[0]), picture, spec)
        body = np.array(data, np.float32).tobytes()
    dtypes = (spec.dtype or "float32", "float32", "float16", "uint8", "float64", "int8")
    return any(_tensor_in(body, picture, spec, dtype) for dtype in dict.fromkeys(dtypes))


def _tensor_in(body: bytes, picture: Picture, spec: InputSpec, dtype: str) -> bool:
    try:
        return any(
            encode(picture[None], spec.model_copy(update={"dtype": dtype, "layout": layout})).tobytes() in body
            for layout in ("NCHW", "NHWC")
        )
    except PtynetError:  # this dtype cannot hold the spec's values
        return False


def _check_verdict(
    bundle: Bundle, head: dict[str, Any], questions: list[Question], outcomes: list[bool], last: dict[str, Any]
) -> SequentialTest:
    alpha = alpha_of_test(float(head["alpha"]), head["number"])
    if not math.isclose(alpha, float(head["alpha_spent"]), rel_tol=1e-9):
        raise IntegrityError(
            f"transcript.jsonl: test {head['number']} may spend {alpha:.3g} of alpha, not {head['alpha_spent']}"
        )
    test = SequentialTest(
        1.0 / bundle.terms.classes,
        alpha=alpha,
        budget=max(1, len(outcomes)),
        earlier=[trial["hit"] for trial in head["earlier"]],
    )
    for hit in outcomes:
        test.observe(hit)
    shown, said = test.verdict == "shown", last["verdict"]
    if shown != (said == "shown"):
        raise IntegrityError(f"transcript.jsonl: says {said}, the answers {'' if shown else 'do not '}show the mark")
    evades = not shown and evasion_test(_pairs(questions)).anytime_p_value <= EVASION_LEVEL
    if evades != (said == "evasion-suspected") or said not in (
        "shown",
        "not-shown",
        "inconclusive",
        "evasion-suspected",
    ):
        raise IntegrityError("transcript.jsonl: evasion is not what the controls say")
    if (last["symbols"], last["hits"]) != (len(outcomes), sum(outcomes)):
        raise IntegrityError("transcript.jsonl: its counts are not those of its answers")
    if not math.isclose(float(last["log10_e"]), test.evidence.log10_e, abs_tol=1e-6):
        raise IntegrityError("transcript.jsonl: its e-value is not that of its answers")
    if bundle.predicate["verdict"] != said:
        raise IntegrityError("the signed statement: another verdict than the transcript")
    return test


def _pairs(questions: list[Question]) -> list[tuple[bool, bool]]:
    probes = {q["symbol"]: q["answer"] is None for q in questions if not q["control"] and q["cover"] == 0}
    controls = (q for q in questions if q["control"] and q["symbol"] in probes)
    return [(probes[control["symbol"]], control["answer"] is None) for control in controls]

"""Were these the questions? Order, leaves, labels, covers, and the exact requests that carried the committed pictures."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ptynet_plugin.claims.canonical import canonical_json
from ptynet_plugin.claims.leaves import leaf
from ptynet_plugin.claims.merkle import is_included
from ptynet_plugin.errors import IntegrityError, PtynetError
from ptynet_plugin.evidence.bundle import Bundle
from ptynet_plugin.images.encode import encode
from ptynet_plugin.images.resize import resize
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.symbols.encoding import tagged_digest
from ptynet_plugin.symbols.labels import label_of, label_pair_of
from ptynet_plugin.verification.pictures import adapt_channels

__all__ = ["Outcomes", "check_symbols"]

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"

Picture = NDArray[np.uint8]
Question = dict[str, Any]


@dataclass(frozen=True)
class Outcomes:
    """What the symbols of a run came to.

    Attributes:
        hits: Whether each symbol was a hit, in the order asked.
        null_rate: The chance of one.
        unseen: Requests whose picture could not be compared, for they hold JPEG.
    """

    hits: tuple[bool, ...]
    null_rate: float
    unseen: int


def check_symbols(bundle: Bundle, beacon: bytes) -> Outcomes:
    """Check every symbol that was asked.

    Args:
        bundle: As read, its chain checked.
        beacon: Octets of the round that its order was drawn with, b"" without.

    Raises:
        IntegrityError: With the first link that does not hold.
    """
    questions = [line for line in bundle.lines if line["entry"] == "question"]
    asked = _check_order(bundle, questions, beacon)
    spec, unseen, hits = InputSpec.model_validate(bundle.lines[0]["spec"]), 0, []
    for symbol, entry in zip(asked, bundle.leaves, strict=True):
        pictures = _committed(bundle, symbol, entry)
        mine = [question for question in questions if question["symbol"] == symbol and not question["control"]]
        if [question["cover"] for question in mine] != list(range(bundle.terms.covers)):
            raise IntegrityError(f"symbol {symbol}: its covers were chosen")
        labels = _labels(bundle, symbol, entry)
        for question, picture in zip(mine, pictures, strict=True):
            if question["hit"] != (question["lost"] is None and question["answer"] in labels):
                raise IntegrityError(f"symbol {symbol}: hit or miss is not what its label says")
            if question["lost"] is None:
                unseen += not _check_bodies(bundle, question, _as_asked(picture, spec), spec)
        hits.append(_is_hit(mine, labels))
    return Outcomes(tuple(hits), (2.0 if _in_pairs(bundle) else 1.0) / bundle.terms.classes, unseen)


def _is_hit(mine: list[Question], labels: tuple[int, ...]) -> bool:
    """Tell whether more than half of a symbol's covers were answered with one and the same class, and that is a hit."""
    answered = Counter(question["answer"] for question in mine if question["lost"] is None)
    return any(answered[label] > len(mine) / 2 for label in labels)


def _in_pairs(bundle: Bundle) -> bool:
    return bundle.handover is None and bundle.terms.pairs


def _may_be_asked(bundle: Bundle) -> range:
    """Give the symbols that the order is drawn over: a witness asks the reserve, everybody else the rest."""
    if bundle.handover is None:
        return bundle.terms.ownership
    return range(bundle.terms.symbols - bundle.terms.reserve, bundle.terms.symbols)


def _check_order(bundle: Bundle, questions: list[Question], beacon: bytes) -> list[int]:
    head = bundle.lines[0]
    for name in ("earlier", "disclosed"):
        if not isinstance(head[name], list):  # an empty text would pass for an empty list below
            raise IntegrityError(
                f"transcript.jsonl: {name} is {type(head[name]).__name__}, not a list of what was asked before"
            )
    spent = {trial["symbol"] for trial in head["earlier"]} | set(head["disclosed"])
    drawn = sorted(
        _may_be_asked(bundle),
        key=lambda symbol: tagged_digest("order/v1", bundle.digest, head["run"], beacon, symbol),
    )
    if not _same([question["index"] for question in questions], list(range(len(questions)))):
        raise IntegrityError("transcript.jsonl: its questions are not numbered from 0: one was dropped or chosen")
    asked = list(dict.fromkeys(question["symbol"] for question in questions if not question["control"]))
    if not _same(asked, [symbol for symbol in drawn if symbol not in spent][: len(asked)]):
        raise IntegrityError(
            "transcript.jsonl: its symbols are no prefix of the drawn order: one was dropped or chosen"
        )
    if not _same([entry["symbol"] for entry in bundle.leaves], asked):
        raise IntegrityError("leaves.json: other leaves than those asked")
    return asked


def _same(told: list[Any], expected: list[int]) -> bool:
    """Compare as written: in JSON `true` is not 1."""
    return canonical_json(told) == canonical_json(expected)


def _committed(bundle: Bundle, symbol: int, entry: dict[str, Any]) -> list[Picture]:
    terms = bundle.terms
    if symbol not in _may_be_asked(bundle):
        raise IntegrityError(f"symbol {symbol}: of the sealed reserve, which a witness alone opens")
    pixels = [bundle.files[f"pictures/{symbol}-{cover}"] for cover in range(terms.covers)]
    committed = leaf(bytes.fromhex(entry["nonce"]), symbol, hashlib.sha256(b"".join(pixels)).digest())
    proof = [bytes.fromhex(node) for node in entry["proof"]]
    if not is_included(committed, symbol, terms.symbols, proof, terms.root):
        raise IntegrityError(f"symbol {symbol}: its pictures are not the committed ones")
    return [np.frombuffer(octets, np.uint8).reshape(*terms.size, -1) for octets in pixels]


def _labels(bundle: Bundle, symbol: int, entry: dict[str, Any]) -> tuple[int, ...]:
    salt = bundle.digest if bundle.seal is None else tagged_digest("salt/v1", bundle.digest, *bundle.seal)
    nonce, target, classes = bytes.fromhex(entry["nonce"]), bundle.terms.target, bundle.terms.classes
    if _in_pairs(bundle):
        return label_pair_of(symbol, nonce, salt=salt, model_id=target, classes=classes)
    return (label_of(symbol, nonce, salt=salt, model_id=target, classes=classes),)


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

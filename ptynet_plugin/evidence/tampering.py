"""What a dishonest owner could do to a bundle, with his own key in his hand: for audits and tests, on copies.

Each attempt changes the files, links the transcript's chain again and signs anew, so that nothing but the protocol itself
stands in its way.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ptynet_plugin.claims.canonical import canonical_json
from ptynet_plugin.errors import IntegrityError
from ptynet_plugin.evidence import check_bundle as alone
from ptynet_plugin.evidence.checking import check_bundle
from ptynet_plugin.evidence.envelope import seal_envelope

__all__ = ["ATTEMPTS", "edit_transcript", "sign_again", "tamper"]

Lines = list[dict[str, Any]]
Edit = Callable[[Lines], object]

_STRANGER = bytes(32)


def sign_again(
    folder: Path,
    change: Callable[[dict[str, Any]], object] = lambda content: None,
    *,
    secret: bytes,
    envelope: str = "envelope.json",
) -> None:
    """Sign whatever the folder holds now.

    Args:
        folder: A bundle, or a hand-over.
        change: Edits the statement before it is signed.
        secret: The secret of the epoch whose key signs.
        envelope: The file of the signed statement, `handover.json` in a hand-over.
    """
    octets = (folder / envelope).read_bytes()
    content = json.loads(base64.b64decode(json.loads(octets)["payload"]))
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != envelope]
    digests = {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    content["subject"] = [{"name": name, "digest": {"sha256": digests[name]}} for name in sorted(digests)]
    change(content)
    (folder / envelope).write_bytes(seal_envelope(content, secret=secret))


def edit_transcript(folder: Path, change: Edit, *, secret: bytes, chain: bool = True) -> None:
    """Change the transcript's lines, link them again unless told not to, and sign."""
    lines = [json.loads(line) for line in (folder / "transcript.jsonl").read_bytes().splitlines()]
    change(lines)
    previous, written = lines[0]["previous"], []
    for line in lines:
        if chain:
            line["previous"] = previous
        written.append(canonical_json(line) + b"\n")
        previous = hashlib.sha256(written[-1]).hexdigest()
    (folder / "transcript.jsonl").write_bytes(b"".join(written))
    (folder / "run.json").write_bytes(written[0].rstrip(b"\n"))
    sign_again(folder, lambda content: content["predicate"].update(head=previous), secret=secret)


def tamper(bundle: Path, *, secret: bytes) -> Iterator[tuple[str, str, str]]:
    """Make every attempt on a copy of a valid bundle.

    Yields:
        Name of the attempt, and what the two checkers said; an empty text where one accepted it.
    """
    for name, attempt in ATTEMPTS.items():
        with tempfile.TemporaryDirectory() as place:
            copy = Path(place) / "bundle"
            shutil.copytree(bundle, copy)
            attempt(copy, secret)
            yield name, _refusal(check_bundle, copy), _refusal(alone.check, copy)


def _refusal(check: Callable[[Path], object], folder: Path) -> str:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            check(folder)
    except (IntegrityError, alone.Broken) as refused:
        return str(refused) or "refused"
    return ""


def _drop_question(lines: Lines) -> None:
    del lines[2]


def _swap(lines: Lines) -> None:
    lines[1], lines[2] = lines[2], lines[1]


def _edited(change: Edit) -> Callable[[Path, bytes], None]:
    return lambda folder, secret: edit_transcript(folder, change, secret=secret)


def _unchained(folder: Path, secret: bytes) -> None:
    edit_transcript(folder, lambda lines: lines[1].update(at="1970-01-01"), secret=secret, chain=False)


def _other_picture(folder: Path, secret: bytes) -> None:
    path = min((folder / "pictures").iterdir())
    path.write_bytes(bytes(path.stat().st_size))
    sign_again(folder, secret=secret)


def _other_request(folder: Path, secret: bytes) -> None:
    body = bytes((folder / "requests" / "0").stat().st_size)
    (folder / "requests" / "0").write_bytes(body)
    digest = hashlib.sha256(body).hexdigest()
    edit_transcript(folder, lambda lines: lines[1].update(request_sha256=digest), secret=secret)


def _other_root(folder: Path, secret: bytes) -> None:
    committed = json.loads((folder / "commitment.json").read_bytes())
    committed["fields"]["root"] = "00" * 32
    (folder / "commitment.json").write_bytes(canonical_json(committed))
    sign_again(folder, secret=secret)


def _other_man(folder: Path, secret: bytes) -> None:
    sign_again(folder, secret=_STRANGER)


def _flipped(folder: Path, secret: bytes) -> None:
    path = folder / "leaves.json"
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 2] ^= 1
    path.write_bytes(octets)


ATTEMPTS: dict[str, Callable[[Path, bytes], None]] = {
    "edited transcript": _unchained,
    "dropped miss": _edited(_drop_question),
    "cherry-picked prefix": _edited(lambda lines: lines.__delitem__(slice(-2, -1))),
    "reordered questions": _edited(_swap),
    "chosen run": _edited(lambda lines: lines[0].update(run="00" * 16)),
    "miss called hit": _edited(lambda lines: lines[1].update(hit=not lines[1]["hit"])),
    "replayed under another claim": _edited(lambda lines: lines[0].update(claim="00" * 32)),
    "more alpha": _edited(lambda lines: lines[0].update(alpha_spent="0.5")),
    "invented verdict": _edited(lambda lines: lines[-1].update(log10_e="99.0", hits=lines[-1]["hits"] + 1)),
    "better grade": _edited(lambda lines: lines[-1].update(grade="witnessed")),
    "smaller allowance": _edited(lambda lines: lines[-1].update(allowance=0, log10_p_adjusted=lines[-1]["log10_p"])),
    "back-dated run": _edited(lambda lines: lines[1].update(at="2001-01-01T00:00:00+00:00")),
    "swapped picture": _other_picture,
    "swapped request": _other_request,
    "swapped commitment": _other_root,
    "another man's bundle": _other_man,
    "one bit flipped": _flipped,
}

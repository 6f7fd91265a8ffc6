"""Do the two checkers of evidence ever disagree? A dishonest owner edits a bundle, makes everything agree again, and signs it.

    python -m benchmarks.fuzz_bundles [--seconds 60] [--seed 1]

Each attempt makes one to four edits (values of any type, numbers that are no integers or too large, fields and entries
dropped, doubled, swapped, borrowed from elsewhere, files added or lost), commits to the changed terms, links the transcript,
hashes, signs, and asks both checkers. A finding is any exception but their own, or two verdicts, save where the input spec, a
stamp or its roots were edited: ours reads all of the first and verifies the others. Exit 1 where there is one.
`benchmarks.fuzz_atheris --what bundles` lets libFuzzer choose the edits.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import copy
import hashlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ptynet_plugin.claims.signing import is_signed_by, sign, signer
from ptynet_plugin.evidence import check_bundle as alone
from tests.support.forging import judged, places

__all__ = ["Attempt", "attempts_on", "disagreement"]

Choice = random.Random
Documents = dict[str, Any]

_PAYLOAD = "application/vnd.in-toto+json"
_MOST_EDITS = 4
_CHAINED = ("commitment.json", "opened.json", "transcript.jsonl", "leaves.json", "statement")
_STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    10,
    2**31,
    2**53 - 1,
    2**53,
    2**64,
    10**30,
    0.0,
    1.0,
    0.5,
    1e-9,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "0",
    "1",
    "nan",
    "inf",
    "1e-9",
    "0.5",
    "00" * 32,
    "0" * 63,
    "AB" * 32,
    "00 " * 32,
    "2026-01-01",
    "2026-01-01T00:00:00",
    "2030-01-01T00:00:00Z",
    "2026-01-01T00:00:00.5+00:00",
    "2026-W01-1T00:00:00Z",
    "shown",
    "not-shown",
    "inconclusive",
    "evasion-suspected",
    "witnessed",
    "\ud800",
    "\u0000",
    "\u0661",
    "é",
    "e\u0301",
    [],
    {},
    [[]],
    [0],
    {"": 0},
)


def _raw(value: Any) -> bytes:
    """The canonical form, without its bounds: what a forger may write."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


class Attempt:
    """One edited copy of a bundle, in memory.

    Args:
        files: Name to content, the envelope among them.
        secret: What the bundle was signed with.
    """

    def __init__(self, files: dict[str, bytes], secret: bytes) -> None:
        self.files, self._secret = dict(files), secret
        payload = base64.b64decode(json.loads(self.files.pop("envelope.json"))["payload"])
        self.documents: Documents = {"statement": json.loads(payload)}
        for name in self.files:
            if name.endswith(".json"):
                self.documents[name] = json.loads(self.files[name])
        lines = self.files["transcript.jsonl"].splitlines()
        self.documents["transcript.jsonl"] = [json.loads(line) for line in lines]
        self.edited: list[str] = []

    def edit(self, choose: Choice) -> None:
        """Make one edit."""
        if choose.random() < 0.1:
            self._edit_file(choose)
            return
        name = choose.choice([*_CHAINED, "transcript.jsonl", *self.documents])
        name = name if name in self.documents else "transcript.jsonl"
        paths = list(places(self.documents[name]))[1:]
        if paths:
            path = choose.choice(paths)
            self.edited.append("/".join(map(str, (name, *path))))
            _edit(self.documents, (name, *path), choose)

    def write(self, folder: Path) -> None:
        """Make everything agree again where that can be done, sign, and write the bundle."""
        docs = self.documents
        with contextlib.suppress(LookupError, TypeError, ValueError, AttributeError):
            self._commit_again()
        head = self._link_again()
        for name, value in docs.items():
            if name not in ("statement", "transcript.jsonl"):
                self.files[name] = _raw(value)
        with contextlib.suppress(LookupError, TypeError, AttributeError):
            docs["statement"]["predicate"]["head"] = head
        digests = [(name, hashlib.sha256(octets).hexdigest()) for name, octets in sorted(self.files.items())]
        with contextlib.suppress(TypeError):
            docs["statement"]["subject"] = [{"name": name, "digest": {"sha256": digest}} for name, digest in digests]
        for name, octets in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(octets)
        (folder / "envelope.json").write_bytes(self._signed(_raw(docs["statement"])))

    def _commit_again(self) -> None:
        from ptynet_plugin.symbols.encoding import tagged_digest

        opened, committed = self.documents["opened.json"], self.documents["commitment.json"]
        for name, field in opened["fields"].items():
            if any(f"opened.json/fields/{name}/" in place for place in self.edited):
                nonce = bytes.fromhex(field["nonce"])
                committed["fields"][name] = tagged_digest("field/v1", nonce, name, _raw(field["value"])).hex()

    def _link_again(self) -> str:
        lines = self.documents["transcript.jsonl"]
        previous, written = hashlib.sha256(_raw(self.documents["commitment.json"])).hexdigest(), []
        for at, line in enumerate(lines if isinstance(lines, list) else [lines]):
            if isinstance(line, dict):
                line["previous"] = previous
                if at == 0 and "transcript.jsonl/0/claim" not in self.edited:
                    line["claim"] = previous
            written.append(_raw(line) + b"\n")
            previous = hashlib.sha256(written[-1]).hexdigest()
        self.files["transcript.jsonl"] = b"".join(written)
        if written and "run.json" in self.documents:
            self.documents["run.json"] = json.loads(written[0])
        return previous

    def _signed(self, payload: bytes) -> bytes:
        message = b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)
        by = {"keyid": signer(self._secret), "sig": base64.b64encode(sign(self._secret, message)).decode()}
        return _raw({"payload": base64.b64encode(payload).decode(), "payloadType": _PAYLOAD, "signatures": [by]})

    def _edit_file(self, choose: Choice) -> None:
        name = choose.choice(sorted(self.files))
        if name in self.documents:
            return
        self.edited.append(f"file {name}")
        match choose.randrange(3):
            case 0:
                del self.files[name]
            case 1:
                self.files[name] = self.files[choose.choice(sorted(self.files))]
            case _:
                self.files[choose.choice(["a.b", "pictures/999-0", "renewal-1.tsr", "stamp.tsr", "handover.json"])] = (
                    b"{}"
                )


def attempts_on(bundles: list[Path], secret: bytes) -> Callable[[Choice], Attempt]:
    """Read bundles once, and give what makes an attempt on one of them."""
    held = [
        {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
        for bundle in bundles
    ]

    def attempt(choose: Choice) -> Attempt:
        made = Attempt(choose.choice(held), secret)
        for _ in range(choose.randint(1, _MOST_EDITS)):
            made.edit(choose)
        return made

    return attempt


@contextlib.contextmanager
def _fast_signatures() -> Iterator[None]:
    """Let the library verify the stand-alone checker's signatures, a hundred times as fast; other tests compare the two."""

    def is_signed(public: bytes, signature: bytes, message: bytes) -> bool:
        return is_signed_by(public.hex(), signature, message)

    written_out, alone.is_signed = alone.is_signed, is_signed
    try:
        yield
    finally:
        alone.is_signed = written_out


def disagreement(attempt: Attempt) -> str | None:
    """Write the attempt somewhere, ask both checkers, and describe where they differ; None where they do not."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:
        attempt.write(Path(place))
        with _fast_signatures():
            ours, theirs = judged(Path(place))
    expected = ("spec", ".pem", ".tsr")  # read in full, and stamps verified, by ours alone
    if ours == theirs or (ours == "refused" and any(part in each for each in attempt.edited for part in expected)):
        return None
    return f"ours: {ours}, alone: {theirs}, after {attempt.edited}"


def _edit(value: Any, path: tuple[Any, ...], choose: Choice) -> None:
    whole = value
    for step in path[:-1]:
        value = value[step]
    last = path[-1]
    match choose.randrange(8):
        case 0:
            del value[last]
        case 1 if isinstance(value, list):
            value.insert(choose.randint(0, len(value)), copy.deepcopy(value[last]))
        case 1 if isinstance(value, dict):
            value[choose.choice(["extra", "seal", "period", "reserve", "copies.positions", "\u00e9"])] = 0
        case 2 if isinstance(value, list):
            other = choose.randrange(len(value))
            value[last], value[other] = value[other], value[last]
        case 3:
            value[last] = copy.deepcopy(_at(whole, choose.choice(list(places(whole[path[0]]))), path[0]))
        case 4 if isinstance(value[last], int) and not isinstance(value[last], bool):
            value[last] += choose.choice([-1, 1, 0.0, 0.5])
        case 5 if isinstance(value[last], str):
            value[last] = choose.choice([value[last].upper(), value[last] + " ", value[last][:-1], f" {value[last]}"])
        case _:
            value[last] = copy.deepcopy(choose.choice(_STRANGE))


def _at(whole: Any, path: tuple[Any, ...], name: str) -> Any:
    value = whole[name]
    for step in path:
        value = value[step]
    return value


def main() -> int:
    """Fuzz for a while."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep-going", action="store_true", help="Print every finding, not the first alone.")
    given = parser.parse_args()
    from tests.support.bundles import SECRET, seed_bundles

    found = tried = 0
    with tempfile.TemporaryDirectory() as place:
        attempt, end = attempts_on(seed_bundles(Path(place)), SECRET), time.monotonic() + given.seconds
        while time.monotonic() < end:
            choose = random.Random(given.seed * 1_000_000_007 + tried)
            problem = disagreement(attempt(choose))
            tried += 1
            if problem is not None:
                found += 1
                print(f"attempt {tried - 1}: {problem}")
                if not given.keep_going:
                    break
    print(f"{tried} attempts, {found} disagreements")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

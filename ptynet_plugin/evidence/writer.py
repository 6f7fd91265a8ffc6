"""Writes an evidence bundle: what was asked and answered, byte for byte, and what opens the leaves behind it.

    envelope.json        signed statement over every other file
    commitment.json      C1, as stamped
    opened.json          the opened fields of C1, and the seal
    leaves.json          nonce and inclusion proof of every symbol asked
    transcript.jsonl     header, beacon round, questions, verdict, each line holding the hash of the line before it
    pictures/S-K         pixels of cover K of symbol S at the claim's size, uint8
    requests/N answers/N exact body of question N and of its answer
    run.json before.tsr after.tsr run-tsa.pem                     the run's header, and the stamps around it, see `framing`
    stamp.tsr tsa.pem binding.json binding-opened.json binding.tsr renewal-N.*    where the claim has them
    handover.json        the owner's signed hand-over, in a witness's bundle

Requests and answers are written the moment they are witnessed, so a run that is resumed into the same folder loses nothing.
Opened are the fields a judge needs and the leaves that were asked: never carriers, never the key; the reserve by its witness
alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ptynet_plugin import __version__
from ptynet_plugin.claims.canonical import canonical_json, without_floats
from ptynet_plugin.claims.files import write_beside
from ptynet_plugin.claims.ledger import Ledger
from ptynet_plugin.errors import UsageError
from ptynet_plugin.evidence.envelope import seal_envelope, statement
from ptynet_plugin.evidence.framing import AFTER, BEFORE, DRAWN, HEADER, RUN_ROOT, Frame
from ptynet_plugin.evidence.grades import grade_of
from ptynet_plugin.evidence.opening import Opener, opened_fields
from ptynet_plugin.evidence.timestamps import Authority
from ptynet_plugin.verification.events import Witnessed
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.result import VerificationResult
from ptynet_plugin.verification.run import Query, RunState

__all__ = ["BundleWriter"]

_FOLDERS = ("pictures", "requests", "answers")
_UNDER_WAY = {*_FOLDERS, HEADER, BEFORE, AFTER, RUN_ROOT, DRAWN}
_AT_THE_END = {"commitment.json", "opened.json", "leaves.json", "transcript.jsonl"}


class BundleWriter:
    """One bundle under way.

    Args:
        folder: Where; made if missing, and empty unless a run is resumed into it.
        questions: What is asked.
        opener: Opens the leaves and signs.
        authority: Stamps the run's header and its transcript, where that is wanted.
        beacon: Address or file of a beacon that draws the order, where that is wanted.

    Raises:
        UsageError: The key did not make the claim, or the folder holds something else.
    """

    def __init__(
        self,
        folder: Path,
        questions: Questions,
        opener: Opener,
        *,
        authority: Authority | None = None,
        beacon: str | None = None,
    ) -> None:
        if not questions.owned:
            raise UsageError("--evidence: this key did not make the claim, so there is nothing it could prove")
        if authority is not None and questions.claim.seal is None:
            raise UsageError(
                "--tsa: the claim itself is unstamped, and stamps on a run cannot make up for that; stamp a claim first "
                "(ptynet claim stamp), or leave --tsa away"
            )
        known = _UNDER_WAY | _AT_THE_END | set(opener.files)
        if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - known):
            raise UsageError(f"{folder}: holds something else already; name a new folder for the evidence")
        self._folder, self._questions, self._opener = folder, questions, opener
        self._frame = Frame(folder, questions.claim.terms, authority, beacon)
        for name in _FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def begin(self, run: RunState, ledger: Ledger) -> bytes:
        """Write the run's header down before its order is drawn; give this to `run_protocol` as `draw_beacon`."""
        return self._frame.begin(run, ledger.resume(run.run_id), self._questions.spec)

    def witness(self, witnessed: Witnessed) -> None:
        """Keep a question's exact bytes; give this to `run_protocol`."""
        if witnessed.answer is not None:
            for kind, octets in (("requests", witnessed.answer.request), ("answers", witnessed.answer.raw)):
                write_beside(self._folder / kind / _name(witnessed.query), octets)

    def finish(self, result: VerificationResult, ledger: Ledger) -> VerificationResult:
        """Open the leaves that were asked, note in the ledger that they are spent for ever, stamp, sign.

        Args:
            result: The verdict with its run.
            ledger: The claim's open ledger.

        Returns:
            The result with the grade that the bundle has.

        Raises:
            UsageError: The run was not registered, or part of it was not witnessed into this folder.
            ClaimError: No stamp was to be had; the same run can be finished later (--resume).
        """
        if not result.run.registered:
            raise UsageError("--evidence: the run was not registered in the claim's ledger; a rehearsal is no evidence")
        run = ledger.resume(result.run.run_id)
        header = self._frame.header(result.run, run)
        result = dataclasses.replace(result, grade=self._grade())
        asked = list(dict.fromkeys(query.symbol for query in result.run.probes))
        lines = list(self._lines(header, result))
        self._name_bodies(result)
        ledger.disclose(run, asked)
        for name, octets in self._files(asked, lines):
            write_beside(self._folder / name, octets)
        self._frame.end(b"".join(lines))
        (self._folder / DRAWN).unlink(missing_ok=True)
        signed = statement(self._digests(), without_floats(self._predicate(result, lines)))
        write_beside(self._folder / "envelope.json", seal_envelope(signed, secret=self._opener.signing))
        return result

    def _grade(self) -> str:
        stamped = self._questions.claim.seal is not None
        return grade_of(claim_stamped=stamped, run_stamped=self._frame.is_stamped, witnessed=self._opener.witness)

    def _lines(self, header: dict[str, Any], result: VerificationResult) -> Iterator[bytes]:
        """Give the transcript's lines, chained from the claim's digest."""
        previous = self._questions.claim.digest
        for content in self._contents(header, result):
            line = canonical_json(without_floats({**content, "previous": previous})) + b"\n"
            previous = hashlib.sha256(line).hexdigest()
            yield line

    def _contents(self, header: dict[str, Any], result: VerificationResult) -> Iterator[dict[str, Any]]:
        yield header
        drawn = self._frame.drawn()
        if drawn is not None:
            yield {"entry": "beacon", **drawn}
        for index, query in enumerate(result.run.queries):
            yield {"entry": "question", "index": index, **query.model_dump(mode="json")}
        yield {
            "entry": "verdict",
            "verdict": result.verdict,
            "symbols": result.symbols,
            "hits": result.hits,
            "log10_e": result.log10_e,
            "log10_p": result.log10_p,
            "log10_p_adjusted": result.log10_p_adjusted,
            "allowance": result.allowance,
            "grade": result.grade,
            "finished": result.finished,
        }

    def _name_bodies(self, result: VerificationResult) -> None:
        """Give every kept body its question's number; a body that is missing was asked before this folder existed."""
        for index, query in enumerate(result.run.queries):
            if query.lost is not None:
                continue
            for kind in ("requests", "answers"):
                kept, named = self._folder / kind / _name(query), self._folder / kind / str(index)
                if kept.exists():
                    kept.rename(named)
                elif not named.exists():
                    raise UsageError(
                        f"{self._folder}: question {index} was asked before its bytes were kept here; run again, with --evidence "
                        "from the start"
                    )

    def _files(self, asked: list[int], lines: list[bytes]) -> Iterator[tuple[str, bytes]]:
        yield "commitment.json", self._questions.claim.commitment
        yield "opened.json", opened_fields(self._questions.claim)
        yield "leaves.json", canonical_json([self._opener.leaf(symbol) for symbol in asked])
        yield "transcript.jsonl", b"".join(lines)
        for symbol in asked:
            for cover, picture in enumerate(self._questions.committed(symbol)):
                yield f"pictures/{symbol}-{cover}", picture.tobytes()
        yield from self._opener.files.items()

    def _predicate(self, result: VerificationResult, lines: list[bytes]) -> dict[str, Any]:
        return {
            "claim": self._questions.claim.digest,
            "run": result.run.run_id,
            "endpoint": result.run.endpoint,
            "verdict": result.verdict,
            "grade": result.grade,
            "head": hashlib.sha256(lines[-1]).hexdigest(),
            "server": {"announces": result.info.server, "model": result.info.model, "version": result.info.version},
            "environment": {
                "ptynet": __version__,
                "python": platform.python_version(),
                "system": platform.system(),
                "machine": platform.machine(),
            },
        }

    def _digests(self) -> dict[str, str]:
        files = (path for path in self._folder.rglob("*") if path.is_file() and path.name != "envelope.json")
        return {
            path.relative_to(self._folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
        }


def _name(query: Query) -> str:
    """Tell a question from the run's others before it has a number."""
    return f"{query.symbol}-{query.cover}"

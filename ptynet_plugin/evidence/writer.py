"""Writes an evidence bundle: what was asked and answered, byte for byte, and what opens the leaves behind it.

    envelope.json        signed statement over every other file
    commitment.json      C1, as stamped
    opened.json          the opened fields of C1, and the seal
    leaves.json          nonce and inclusion proof of every symbol asked
    transcript.jsonl     header, questions, verdict, each line holding the hash of the line before it
    pictures/S-K         pixels of cover K of symbol S at the claim's size, uint8
    requests/N answers/N exact body of question N and of its answer
    stamp.tsr tsa.pem binding.json binding-opened.json binding.tsr    where the claim has them

Requests and answers are written the moment they are witnessed, so a run that is resumed into the same folder loses nothing.
Opened are the fields a judge needs and the leaves that were asked: never carriers, never the key, never the reserve.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ptynet_plugin import __version__
from ptynet_plugin.claims.canonical import canonical_json, parse_json, without_floats
from ptynet_plugin.claims.claim import Claim
from ptynet_plugin.claims.directory import claim_file
from ptynet_plugin.claims.files import read_file
from ptynet_plugin.claims.history import Run
from ptynet_plugin.claims.ledger import Ledger
from ptynet_plugin.claims.merkle import inclusion_proof
from ptynet_plugin.errors import UsageError
from ptynet_plugin.evidence.envelope import seal_envelope, statement
from ptynet_plugin.evidence.sealing import BINDING, BINDING_OPENINGS, BINDING_STAMP, ROOT, STAMP, write_beside
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.result import VerificationResult
from ptynet_plugin.verification.run import Query
from ptynet_plugin.verification.runner import Witnessed

__all__ = ["OPENED", "BundleWriter"]

OPENED = ("root", "symbols", "target", "spec", "classes", "covers", "size", "statistic", "reserve", "signer")
"""Fields of C1 that a bundle opens; how probes are made and what PTYNet fires at stay closed."""

_FOLDERS = ("pictures", "requests", "answers")


class BundleWriter:
    """One bundle under way.

    Args:
        folder: Where; made if missing, and empty unless a run is resumed into it.
        claim_folder: The claim's folder.
        questions: What is asked.
        secret: The epoch's secret.

    Raises:
        UsageError: The key did not make the claim, or the folder holds something else.
    """

    def __init__(self, folder: Path, claim_folder: Path, questions: Questions, *, secret: bytes) -> None:
        if not questions.owned:
            raise UsageError("--evidence: this key did not make the claim, so there is nothing it could prove")
        if questions.claim.terms.copies is not None:
            raise UsageError(
                "--evidence: this claim is for copies, and no bundle of this version says so; leave it away"
            )
        if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - set(_FOLDERS)):
            raise UsageError(f"{folder}: holds something else already; name a new folder for the evidence")
        self._folder, self._claim_folder, self._questions, self._secret = folder, claim_folder, questions, secret
        for name in _FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def _claim(self) -> Claim:
        return self._questions.claim

    def witness(self, witnessed: Witnessed) -> None:
        """Keep a question's exact bytes; give this to `run_protocol`."""
        if witnessed.answer is not None:
            for kind, octets in (("requests", witnessed.answer.request), ("answers", witnessed.answer.raw)):
                write_beside(self._folder / kind / _name(witnessed.query), octets)

    def finish(self, result: VerificationResult, ledger: Ledger) -> Path:
        """Open the leaves that were asked, note in the ledger that they are spent for ever, sign.

        Args:
            result: The verdict with its run.
            ledger: The claim's open ledger.

        Returns:
            The bundle's folder.

        Raises:
            UsageError: The run was not registered, or part of it was not witnessed into this folder.
        """
        if not result.run.registered:
            raise UsageError("--evidence: the run was not registered in the claim's ledger; a rehearsal is no evidence")
        run = ledger.resume(result.run.run_id)
        asked = list(dict.fromkeys(query.symbol for query in result.run.probes))
        lines = list(self._lines(result, run))
        self._name_bodies(result)
        ledger.disclose(run, asked)
        for name, octets in self._files(asked, lines):
            write_beside(self._folder / name, octets)
        predicate = self._predicate(result, lines)
        signed = statement(self._digests(), without_floats(predicate))
        write_beside(self._folder / "envelope.json", seal_envelope(signed, secret=self._secret))
        return self._folder

    def _lines(self, result: VerificationResult, run: Run) -> Iterator[bytes]:
        """Give the transcript's lines, chained from the claim's digest."""
        previous = self._claim.digest
        for content in self._contents(result, run):
            line = canonical_json(without_floats({**content, "previous": previous})) + b"\n"
            previous = hashlib.sha256(line).hexdigest()
            yield line

    def _contents(self, result: VerificationResult, run: Run) -> Iterator[dict[str, Any]]:
        state = result.run
        yield {
            "entry": "run",
            "claim": state.claim,
            "run": state.run_id,
            "endpoint": state.endpoint,
            "number": state.number,
            "alpha": state.alpha,
            "alpha_spent": state.alpha_spent,
            "budget": state.budget,
            "started": state.started,
            "earlier": [{"symbol": trial.symbol, "hit": trial.hit} for trial in run.earlier],
            "disclosed": sorted(run.disclosed),
            "spec": self._questions.spec.model_dump(mode="json", exclude_none=True),
        }
        for index, query in enumerate(state.queries):
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
                kept = self._folder / kind / _name(query)
                if not kept.exists():
                    raise UsageError(
                        f"{self._folder}: question {index} was asked before its bytes were kept here; run again, with --evidence "
                        "from the start"
                    )
                kept.rename(self._folder / kind / str(index))

    def _files(self, asked: list[int], lines: list[bytes]) -> Iterator[tuple[str, bytes]]:
        claim = self._claim
        yield "commitment.json", claim.commitment
        yield "opened.json", canonical_json(_opened(claim))
        yield "leaves.json", canonical_json([self._leaf(symbol) for symbol in asked])
        yield "transcript.jsonl", b"".join(lines)
        for symbol in asked:
            for cover, picture in enumerate(self._questions.committed(symbol)):
                yield f"pictures/{symbol}-{cover}", picture.tobytes()
        beside = {STAMP: STAMP, ROOT: ROOT, BINDING: BINDING, BINDING_STAMP: BINDING_STAMP}
        for name, kept in (beside | {"binding-opened.json": BINDING_OPENINGS}).items():
            if (self._claim_folder / kept).exists():
                yield name, read_file(self._claim_folder / kept)

    def _leaf(self, symbol: int) -> dict[str, Any]:
        nonce = self._claim.nonces(self._secret)[symbol]
        proof = inclusion_proof(self._claim.leaves, symbol)
        return {"symbol": symbol, "nonce": nonce.hex(), "proof": [node.hex() for node in proof]}

    def _predicate(self, result: VerificationResult, lines: list[bytes]) -> dict[str, Any]:
        return {
            "claim": self._claim.digest,
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


def _opened(claim: Claim) -> dict[str, Any]:
    file = parse_json(claim_file(claim), where="claim.json")
    return {"fields": {name: file["fields"][name] for name in OPENED}, "seal": file["seal"]}


def _name(query: Query) -> str:
    """Tell a question from the run's others before it has a number."""
    return f"{query.symbol}-{query.cover}"

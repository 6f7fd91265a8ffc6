"""An audit of one archive: the claim it answers to, everything measured, and what follows for the exit code."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime
import torch

from model_store_tools.audit.attacks import Suite, attacks_of
from model_store_tools.audit.contract import Artefact, Attack, Pictures
from model_store_tools.audit.engines import agreement
from model_store_tools.audit.journal import Journal, digest_of
from model_store_tools.audit.price import Price, measure_price
from model_store_tools.audit.rehearsal import Rehearsal
from model_store_tools.audit.shares import Shares, shares_from
from model_store_tools.audit.subjects import open_stolen
from model_store_tools.audit.suite import Evidence, Row, evidence_of, run_suite
from ptynet_plugin import __version__
from ptynet_plugin.claims.claim import Claim
from ptynet_plugin.errors import ClaimError, UsageError
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.network.weights import Network
from ptynet_plugin.verification.result import VerificationResult

__all__ = ["SCHEMA", "Audit", "Effort", "audit_archive"]

SCHEMA = "ptynet-audit/v1"


@dataclass(frozen=True)
class Effort:
    """How much is tried, and with what.

    Attributes:
        suite: Which attacks.
        data: Folder of pictures, one subfolder per class; None for procedural covers.
        thief: Most pictures of the thief.
        held_out: Most held-out pictures.
        seed: For all randomness of attacks and shares.
        attacks: Instead of the suite's.
        shares: Instead of drawing both shares from `data`.
    """

    suite: Suite = "quick"
    data: Path | None = None
    thief: int = 256
    held_out: int = 200
    seed: int = 0
    attacks: Sequence[Attack] | None = None
    shares: Shares | None = None


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        archive: Its name.
        digest: Its digest.
        suite: Which attacks were run.
        data: Where the pictures come from.
        true_labels: Whether accuracy is measured against true classes; else it is agreement with the archive itself.
        accuracy: Of the archive on the held-out pictures.
        baseline: What `verify` says of the archive as it is.
        price: Imperceptibility and cost.
        rows: One per attack.
        seed: As given.
        seconds: Of everything, earlier parts of an audit that was carried on included.
        machine: Processor, Python and libraries.
    """

    archive: str
    digest: str
    suite: str
    data: str
    true_labels: bool
    accuracy: float
    baseline: Evidence
    price: Price
    rows: tuple[Row, ...]
    seed: int
    seconds: float
    machine: dict[str, str]

    @property
    def broken(self) -> tuple[Row, ...]:
        """Attacks that are promised to be survived, and were not."""
        return tuple(row for row in self.rows if row.promised and row.result in ("mark-lost", "model-lost"))

    @property
    def unknown(self) -> tuple[Row, ...]:
        """Promised ones that failed, so that nothing is known."""
        return tuple(row for row in self.rows if row.promised and row.result == "attack-failed")

    @property
    def exit_code(self) -> int:
        """0: every promise that could be tried is kept; 1: one is broken; 3: one could not be tried because the attack failed."""
        if self.broken or self.baseline.verdict != "shown":
            return 1
        return 3 if self.unknown else 0

    def to_json(self) -> dict[str, Any]:
        """Give the object that `audit --json` writes."""
        return {
            "schema": SCHEMA,
            "version": __version__,
            "archive": self.archive,
            "archive_sha256": self.digest,
            "suite": self.suite,
            "data": self.data,
            "true_labels": self.true_labels,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "machine": self.machine,
            "imperceptibility": {
                "tensors_unchanged": self.price.tensors,
                "pictures": self.price.pictures,
                "answers_changed": self.price.changed,
                "accuracy": self.accuracy,
            },
            "cost": {
                "parameters": self.price.parameters,
                "flops": self.price.flops,
                "bytes": self.price.octets,
                "latency_added_us": _rounded(self.price.microseconds, 1),
                "latency_ratio": _rounded(self.price.ratio, 4),
            },
            "baseline": asdict(self.baseline),
            "robustness": [_row_json(row) for row in self.rows],
            "promises_broken": [row.attack for row in self.broken],
            "promises_unknown": [row.attack for row in self.unknown],
        }


def audit_archive(
    archive: Path,
    claim: Claim,
    key: OwnerKey,
    network: Network,
    effort: Effort,
    *,
    covers: Sequence[Pictures] | None = None,
    resume: Path | None = None,
    tell: Callable[[str], None] = lambda name: None,
) -> Audit:
    """Attack an archive.

    Args:
        archive: A `.mar` or a Triton model directory.
        claim: The one it was packaged under.
        key: The owner's key.
        network: The mark's trained network, for its cost.
        effort: How much is tried.
        covers: The owner's own covers, as at packaging.
        resume: Where rows are kept as they are measured; those found there are not measured again.
        tell: Called with what runs now.

    Raises:
        ArchiveError: The archive cannot be read.
        IntegrityError: It is not what its manifest says.
        ClaimError: The claim is another model's, or the key another claim's.
        UsageError: The suite needs data and there is none, or the data cannot be used; or `resume` is another audit's.
    """
    started = time.monotonic()
    if effort.suite == "full" and effort.data is None and effort.attacks is None:
        raise UsageError("--suite full trains on real pictures: give --data DIR, one subfolder per class")
    rehearsal = Rehearsal(claim, key, covers=covers)
    with tempfile.TemporaryDirectory(prefix="ptynet-audit-") as scratch:
        folder = Path(scratch)
        stolen = open_stolen(archive, folder)
        if stolen.manifest.target.digest != claim.terms.target:
            raise ClaimError(
                f"{archive}: holds target {stolen.manifest.target.digest[:16]}..., the claim is about "
                f"{claim.terms.target[:16]}...; give the claim it was packaged under with --claim"
            )
        tell("shares")
        shares = effort.shares or shares_from(
            stolen.artefact,
            effort.data,
            thief=effort.thief,
            held_out=effort.held_out,
            seed=effort.seed,
            class_names=stolen.class_names,
        )
        held_out = shares.held_out
        subject: dict[str, str | int] = {
            "archive": stolen.digest,
            "seed": effort.seed,
            "thief": digest_of(shares.thief),
            "held_out": digest_of(held_out),
        }
        journal = Journal.open(resume, subject)
        baseline = evidence_of(rehearsal.verify(stolen.artefact))
        tensors = len(stolen.manifest.target.tensors)
        price = measure_price(stolen.artefact, network, held_out.pictures, tensors=tensors, folder=folder)
        attacks = effort.attacks or attacks_of(effort.suite, real_data=effort.data is not None)

        def counter(artefact: Artefact, view: str) -> VerificationResult:
            return Rehearsal(claim, key, covers=covers, view=view).verify(artefact)

        rows = run_suite(
            stolen.artefact,
            [attack for attack in attacks if attack.name not in journal.rows],
            shares,
            rehearsal.verify,
            counter=counter,
            seed=effort.seed,
            tell=tell,
        )
        begun = time.monotonic()
        for row in rows:
            journal.keep(row, spent=time.monotonic() - begun)
            begun = time.monotonic()
        return Audit(
            archive=archive.name,
            digest=stolen.digest,
            suite=effort.suite,
            data=f"{shares.thief.source}; {held_out.source}",
            true_labels=held_out.true,
            accuracy=agreement(stolen.artefact, held_out.pictures, held_out.labels),
            baseline=baseline,
            price=price,
            rows=tuple(journal.rows[attack.name] for attack in attacks),
            seed=effort.seed,
            seconds=journal.spent + time.monotonic() - started,
            machine=_machine(),
        )


def _machine() -> dict[str, str]:
    return {
        "processor": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
        "onnxruntime": str(onnxruntime.__version__),
    }


def _row_json(row: Row) -> dict[str, Any]:
    evidence = asdict(row.evidence) if row.evidence else dict.fromkeys(("verdict", "log10_p", "queries", "hits"))
    evidence["log10_p"] = _rounded(evidence["log10_p"], 4)
    return {
        "attack": row.attack,
        "heading": row.heading,
        "source": row.source,
        "promised": row.promised,
        "result": row.result,
        "accuracy": _rounded(row.accuracy, 4),
        "kept": _rounded(row.kept, 4),
        **evidence,
        "seconds": round(row.seconds, 2),
        "processor_seconds": round(row.processor, 2),
        "pictures": row.pictures,
        "note": row.note,
        "answer": row.answer,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)

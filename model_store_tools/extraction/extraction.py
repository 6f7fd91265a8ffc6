"""`ptynet extract`: is the owner's mark in these weights?

Two marks are looked for: PTYNet's own, which needs the key alone, and the target's, which needs the unmarked original as
the reference: its hash fixes the bits, and it undoes structural obfuscation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from model_store_tools.extraction.weights import LoadedWeights, load_weights
from ptynet_plugin.errors import TargetError
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.whitebox.alignment import align, neutral
from ptynet_plugin.whitebox.decoys import DECOYS, DecoyRank, decoy_rank
from ptynet_plugin.whitebox.mark import BITS, WeightMark, weight_mark
from ptynet_plugin.whitebox.model import Found, model_hash, scan

__all__ = ["ALPHA", "SCHEMA", "Extraction", "Finding", "extract_marks"]

SCHEMA = "ptynet-extract/v1"
ALPHA = 1e-9
UNSTAMPED_ALLOWANCE = 64
"""Bits of work by which an owner could have chosen among keys before committing; the adjusted p-value pays for them."""

Source = Literal["ptynet", "target", "target, aligned"]


@dataclass(frozen=True)
class Finding:
    """One way of looking.

    Attributes:
        source: PTYNet's own mark, the target's as it lies, or the target's after alignment.
        found: The best reading.
        rank: Where the key stands among decoy keys, after alignment.
        cosine: How close the aligned filters are to the reference's.
    """

    source: Source
    found: Found
    rank: DecoyRank | None = None
    cosine: float | None = None


@dataclass(frozen=True)
class Extraction:
    """What was found.

    Attributes:
        where: The suspect.
        findings: One a way of looking.
        alpha: Level.
        notes: What could not be looked at, and why.
    """

    where: str
    findings: tuple[Finding, ...]
    alpha: float
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Finding:
        """The finding with the smallest p-value."""
        return min(self.findings, key=lambda finding: finding.found.log10_p)

    @property
    def log10_p(self) -> float:
        """Log10 of the p-value of the best finding, paid for every way of looking."""
        return min(0.0, self.best.found.log10_p + math.log10(len(self.findings)))

    @property
    def log10_p_adjusted(self) -> float:
        """The same, paid for 2^64 keys the owner might have tried: weights carry no time stamp."""
        return min(0.0, self.log10_p + UNSTAMPED_ALLOWANCE * math.log10(2))

    @property
    def verdict(self) -> Literal["shown", "not-shown"]:
        """Shown where p is at most alpha."""
        return "shown" if self.log10_p <= math.log10(self.alpha) else "not-shown"

    def to_json(self) -> dict[str, Any]:
        """Give one JSON object."""
        return {
            "schema": SCHEMA,
            "where": self.where,
            "verdict": self.verdict,
            "alpha": self.alpha,
            "bits": BITS,
            "right": self.best.found.reading.right,
            "log10_p": self.log10_p,
            "log10_p_adjusted": self.log10_p_adjusted,
            "p_value": 10.0**self.log10_p,
            "findings": [_plain(finding) for finding in self.findings],
            "notes": list(self.notes),
        }


def extract_marks(
    suspect: Path, key: OwnerKey, *, reference: Path | None = None, alpha: float = ALPHA, decoys: int = DECOYS
) -> Extraction:
    """Look for the owner's marks.

    Args:
        suspect: Archive or weights.
        key: The owner's.
        reference: The target as it was before it was marked.
        alpha: Level of the verdict.
        decoys: Decoy keys after alignment.

    Raises:
        TargetError: A file cannot be read, holds no weights, or the reference has another architecture.
        ArchiveError: A damaged archive.
    """
    loaded = load_weights(suspect)
    findings = [Finding("ptynet", _scanned(loaded, weight_mark(key)))]
    notes = [f"quantised without scales, not read: {name}" for name in loaded.unscaled]
    if reference is not None:
        original = load_weights(reference)
        mark = weight_mark(key, model=model_hash(original.weights))
        findings.append(Finding("target", _scanned(loaded, mark)))
        findings += _aligned(loaded, original, mark, decoys, notes)
    return Extraction(loaded.where, tuple(findings), alpha, tuple(notes))


def _scanned(loaded: LoadedWeights, mark: WeightMark) -> Found:
    try:
        return scan(loaded.weights, mark)
    except TargetError as error:
        missing = ", ".join(loaded.unscaled[:3])
        hint = f"; quantised without scales, so it cannot be read: {missing}" if missing else ""
        raise TargetError(f"{loaded.where}: {error}{hint}") from None


def _aligned(
    suspect: LoadedWeights, original: LoadedWeights, mark: WeightMark, decoys: int, notes: list[str]
) -> Iterator[Finding]:
    if not suspect.layers or not original.layers:
        notes.append("not aligned: suspect and reference must both be ONNX graphs with floating weights")
        return
    own = {layer.name for layer in original.layers}
    layers = [layer for layer in suspect.layers if layer.name in own or len(suspect.layers) == len(original.layers)]
    if len(layers) != len(original.layers):
        raise TargetError(
            f"{suspect.where}: has {len(suspect.layers)} layers, the reference {original.where} has {len(original.layers)}: "
            "a reference of another architecture"
        )
    restored, cosine = align(layers, neutral(original.layers, mark))
    stored = {layer.name: layer.stored() for layer in restored}
    found = scan(stored, mark)
    values = [stored[name].T if found.transposed else stored[name] for name in found.members]
    rank = decoy_rank(values[0] if len(values) == 1 else values, found.reading.right, decoys=decoys)
    yield Finding("target, aligned", found, rank, cosine)


def _plain(finding: Finding) -> dict[str, Any]:
    rank = finding.rank
    return {
        "mark": finding.source,
        "layer": finding.found.layer,
        "weights": finding.found.size,
        "right": finding.found.reading.right,
        "error_rate": finding.found.reading.error_rate,
        "strength": finding.found.reading.strength,
        "attempts": finding.found.attempts,
        "log10_p": finding.found.log10_p,
        "decoys": None if rank is None else {"count": rank.decoys, "best": rank.best, "p_value": rank.p_value},
        "cosine_to_reference": finding.cosine,
    }

"""What is written down of a run before its first question: its header, a stamp over the header, a beacon round after both.

    run.json       the transcript's first line, as it was stamped
    before.tsr     the stamp over run.json                   run-tsa.pem   the root that vouches for it and for after.tsr
    after.tsr      the stamp over transcript.jsonl, made at the end

The header names the run's identifier, endpoint, level and everything that is left out of its order. Once it is stamped none
of that can be chosen; the order then depends on a beacon round that nobody knew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ptynet_plugin.claims.canonical import canonical_json, parse_json, without_floats
from ptynet_plugin.claims.files import read_file, write_beside
from ptynet_plugin.claims.history import Run, Trial
from ptynet_plugin.claims.terms import Terms
from ptynet_plugin.errors import UsageError
from ptynet_plugin.evidence.beacon import fetch_round
from ptynet_plugin.evidence.der import read_stamp
from ptynet_plugin.evidence.timestamps import Authority
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.verification.run import RunState

__all__ = ["AFTER", "BEFORE", "DRAWN", "HEADER", "RUN_ROOT", "SKEW", "Frame"]

HEADER, BEFORE, AFTER, RUN_ROOT, DRAWN = "run.json", "before.tsr", "after.tsr", "run-tsa.pem", "beacon.json"

SKEW = timedelta(minutes=5)
"""How far the clock of who asks may be from the authority's."""


@dataclass(frozen=True)
class Frame:
    """What frames a run in time.

    Attributes:
        folder: The bundle under way.
        terms: Of the claim.
        authority: Stamps header and transcript; None where neither is stamped.
        beacon: Address or file of a beacon; None where the order follows from the run's identifier alone.
    """

    folder: Path
    terms: Terms
    authority: Authority | None = None
    beacon: str | None = None

    def begin(self, run: RunState, entry: Run, spec: InputSpec) -> bytes:
        """Write the header down, have it stamped, draw a beacon round after it.

        Args:
            run: As registered.
            entry: The same run as the ledger knows it.
            spec: What the endpoint reads.

        Returns:
            The round's octets, b"" without a beacon.

        Raises:
            ClaimError: No stamp or no round was to be had; nothing was asked yet.
            UsageError: Another run was begun in this folder, or earlier answers cannot be told in a bundle.
        """
        if (self.folder / HEADER).exists():
            raise UsageError(
                f"{self.folder}: another run was begun here; go on with it (--resume), or name a new folder for this one"
            )
        earlier = self._told(entry)
        header = canonical_json(without_floats(_header(run, entry, spec, earlier) | {"previous": run.claim}))
        write_beside(self.folder / HEADER, header)
        after = datetime.fromisoformat(run.started)
        if self.authority is not None:
            response, root = self.authority.stamp(header)
            write_beside(self.folder / BEFORE, response)
            write_beside(self.folder / RUN_ROOT, root)
            after = max(after, read_stamp(response).time)
        if self.beacon is None:
            return b""
        drawn = fetch_round(self.beacon, after=after, timeout=self.authority.timeout if self.authority else 30.0)
        write_beside(self.folder / DRAWN, canonical_json(drawn.fields()))
        return bytes.fromhex(drawn.value)

    def header(self, run: RunState, entry: Run) -> dict[str, Any]:
        """Give the header of a run that was begun here.

        Raises:
            UsageError: It was begun elsewhere, or what is left out of its order changed since.
        """
        header: dict[str, Any] = (
            parse_json(read_file(self.folder / HEADER), where=HEADER) if (self.folder / HEADER).exists() else {}
        )
        if header.get("run") != run.run_id:
            raise UsageError(
                f"{self.folder}: this run was not begun here; its bytes were not kept from the start, run again with --evidence"
            )
        if (header["earlier"], header["disclosed"]) != (self._told(entry), sorted(entry.disclosed)):
            raise UsageError(
                f"{self.folder}: other runs of the claim asked or opened symbols since this one was begun; run again, into a "
                "new folder"
            )
        return header

    def _told(self, entry: Run) -> list[dict[str, Any]]:
        """Give the earlier answers that the run counts; what a trace asked besides is no evidence, and in no order.

        Raises:
            UsageError: One was read through a class map, with a null rate of its own that no bundle tells.
        """
        counted: list[Trial] = [trial for trial in entry.earlier if self.terms.counts(trial.symbol)]
        mapped = sum(trial.null_rate is not None for trial in counted)
        if mapped:
            raise UsageError(
                f"--evidence: {mapped} symbols were asked at {entry.endpoint} through a class map, and a bundle is checked by "
                "the claim's own classes; leave --evidence away, or commit a claim of another epoch"
            )
        return [{"symbol": trial.symbol, "hit": trial.hit} for trial in counted]

    def drawn(self) -> Mapping[str, Any] | None:
        """Give the beacon round of the run, or None."""
        path = self.folder / DRAWN
        return parse_json(read_file(path), where=DRAWN) if path.exists() else None

    @property
    def is_stamped(self) -> bool:
        """Whether the header was stamped; the transcript is then stamped as well."""
        return (self.folder / BEFORE).exists()

    def end(self, transcript: bytes) -> None:
        """Have the transcript stamped, where the header was.

        Raises:
            UsageError: No authority was named.
            ClaimError: It gave no stamp; the run can be finished later.
        """
        if not self.is_stamped:
            return
        if self.authority is None:
            raise UsageError(
                f"{self.folder}: the run's header was stamped; name the authority again (--tsa) for its end"
            )
        write_beside(self.folder / AFTER, self.authority.stamp(transcript)[0])


def _header(run: RunState, entry: Run, spec: InputSpec, earlier: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "entry": "run",
        "claim": run.claim,
        "run": run.run_id,
        "endpoint": run.endpoint,
        "number": run.number,
        "alpha": run.alpha,
        "alpha_spent": run.alpha_spent,
        "budget": run.budget,
        "started": run.started,
        "earlier": earlier,
        "disclosed": sorted(entry.disclosed),
        "spec": spec.model_dump(mode="json", exclude_none=True),
    }

"""Every trace that was made, numbered before its first question."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import insert, select, update

from model_store_tools.registry.base import OnDatabase
from model_store_tools.registry.names import checked_claim, checked_line
from model_store_tools.registry.records import Trace
from model_store_tools.registry.rows import locked_counter, now
from model_store_tools.registry.tables import CLAIMS, TRACES
from ptynet_plugin.errors import RegistryError

__all__ = ["Traces"]


class Traces(OnDatabase):
    """Numbers traces and keeps what they found."""

    def begin_trace(self, claim: str, *, endpoint: str, above: int = 0) -> int:
        """Register a trace before its first question.

        Args:
            claim: Digest of the claim whose copies are looked for.
            endpoint: Whom it will ask, without credentials.
            above: The highest number that the claim's ledger knows, where another registry may have given some.

        Returns:
            Its number t: 1, 2, 3, ... within the claim, above all that this registry gave and above `above`.
        """
        asked = checked_line(endpoint, "the endpoint")
        with self._database.writing() as connection:
            number = max(locked_counter(connection, checked_claim(claim), CLAIMS.c.traces), above) + 1
            row = {"claim": claim, "number": number, "endpoint": asked, "started_at": now()}
            connection.execute(insert(TRACES), [row])
            connection.execute(update(CLAIMS).where(CLAIMS.c.digest == claim).values(traces=number))
        return number

    def finish_trace(self, claim: str, number: int, *, accused: Sequence[int], verdict: str) -> None:
        """Register how a trace ended.

        Args:
            claim: Digest of the claim.
            number: What `begin_trace` returned.
            accused: Numbers of the copies it names, strongest first.
            verdict: In a word.

        Raises:
            RegistryError: No such trace, or it ended already.
        """
        word = checked_line(verdict, "the verdict")
        named = json.dumps([int(each) for each in accused])
        with self._database.writing() as connection:
            here = (TRACES.c.claim == checked_claim(claim), TRACES.c.number == number)
            ended = update(TRACES).where(*here, TRACES.c.finished_at.is_(None))
            changed = connection.execute(ended.values(finished_at=now(), accused=named, verdict=word))
            if changed.rowcount != 1:
                raise RegistryError(
                    f"{self.shown}: trace {number} of claim {claim[:16]}... is unknown or ended already"
                )

    def traces(self, claim: str | None = None) -> list[Trace]:
        """Give all traces, by claim and number."""
        asked = select(
            TRACES.c.claim,
            TRACES.c.number,
            TRACES.c.endpoint,
            TRACES.c.started_at,
            TRACES.c.finished_at,
            TRACES.c.verdict,
            TRACES.c.accused,
        ).order_by(TRACES.c.claim, TRACES.c.number)
        if claim is not None:
            asked = asked.where(TRACES.c.claim == checked_claim(claim))
        with self._database.reading() as connection:
            return [Trace(*row[:-1], tuple(json.loads(row.accused or "[]"))) for row in connection.execute(asked)]

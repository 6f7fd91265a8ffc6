"""Asking an artefact for the mark: the protocol of `ptynet verify`, in this process and outside the claim's
ledger.

Nothing is registered, so no symbol is spent and the level of later tests stays what it was; the questions, their
drawn order, the statistics and the rules for ties are those of a real run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model_store_tools.audit.contract import Artefact, Pictures
from model_store_tools.audit.engines import open_engine
from ptynet_plugin.claims.claim import Claim
from ptynet_plugin.engines.contract import Engine
from ptynet_plugin.errors import BadAnswer, ClaimError, TargetError
from ptynet_plugin.images.encode import encode
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.verification.answers import AnswerReader
from ptynet_plugin.verification.client import Client
from ptynet_plugin.verification.connection import Connection
from ptynet_plugin.verification.endpoint import EndpointInfo, Exchange, Picture
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.result import VerificationResult
from ptynet_plugin.verification.runner import run_protocol

__all__ = ["Rehearsal"]


class Rehearsal:
    """Verifies artefacts against one claim, as often as wanted.

    Args:
        claim: The stolen archive's claim.
        key: The owner's key.
        covers: The owner's own covers, as at packaging.
        alpha: Level of each run, as `verify --alpha`.
        budget: Most probes of each run.
        view: What artefacts are taken to do to pictures, as `verify --view`.

    Raises:
        ClaimError: The key did not make the claim: nothing could ever be shown.
    """

    def __init__(
        self,
        claim: Claim,
        key: OwnerKey,
        *,
        covers: Sequence[Pictures] | None = None,
        alpha: float | None = None,
        budget: int | None = None,
        view: str = "plain",
    ) -> None:
        self._questions = Questions(claim, key, pictures=covers, view=view)
        self._alpha, self._budget = alpha, budget
        if not self._questions.owned:
            raise ClaimError("this key did not make the claim, so that no attack could be told from none; give its key")

    def verify(self, artefact: Artefact) -> VerificationResult:
        """Run the protocol once.

        Raises:
            PtynetError: The artefact cannot be asked at all, or answers no scores of the claim's classes.
        """
        transport = _InProcess(artefact, open_engine(artefact, batch=1))
        reader = AnswerReader(self._questions.claim.terms.classes)
        with Client(transport, reader, Connection(retries=0)) as suspect:
            return run_protocol(suspect, self._questions, ledger=None, alpha=self._alpha, budget=self._budget)


class _InProcess:
    """A transport to a model in this process."""

    def __init__(self, artefact: Artefact, engine: Engine) -> None:
        self._artefact, self._engine = artefact, engine

    def info(self) -> EndpointInfo:
        """Name the model's file."""
        name = self._artefact.model.name
        return EndpointInfo(f"audit:{name}", f"audit:{name}", "", name, "", "tensor")

    def send(self, picture: Picture) -> Exchange:
        """Run the artefact once."""
        try:
            scores = self._engine.scores(picture[None])
        except TargetError as error:
            raise BadAnswer(str(error)) from error
        return Exchange(encode(picture[None], self._artefact.spec).tobytes(), np.asarray(scores).tobytes(), scores)

    def close(self) -> None:
        """Release the model."""
        self._engine.close()

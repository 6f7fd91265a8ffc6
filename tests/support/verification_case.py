"""A small claim to run against: 64 symbols, 10 classes, pictures of 16x16."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ptynet_plugin.claims.claim import Claim, commit
from ptynet_plugin.claims.ledger import Ledger
from ptynet_plugin.claims.terms import CopyTerms
from ptynet_plugin.images.probes import ProbeDesign, ProbeMaker
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.result import VerificationResult
from ptynet_plugin.verification.runner import run_protocol
from tests.support.standins import FakeEndpoint

SPEC = InputSpec(color="RGB", layout="NCHW", size=(16, 16), dtype="float32", output="logits", classes=10)
DESIGN = ProbeDesign("RGB", bits=24, symbols=128)
KEY = OwnerKey(bytes(range(32)))


def make_claim(
    key: OwnerKey = KEY,
    *,
    covers: int = 1,
    classes: int = 10,
    size: tuple[int, int] = (16, 16),
    copies: CopyTerms | None = None,
) -> Claim:
    spec = SPEC.model_copy(update={"classes": classes, "size": size})
    maker = ProbeMaker(key.probe_secret(), DESIGN)
    target, secret = "ab" * 32, key.epoch_secret()
    return commit(
        secret,
        maker.probe,
        design=DESIGN,
        spec=spec,
        target_digest=target,
        tau=0.8,
        margin=0.2,
        covers=covers,
        copies=copies,
    )


def independent(picture: np.ndarray) -> int:
    """A model that knows nothing of the key; very skewed."""
    return int(picture.mean() > 128) * 7


class Case:
    """One claim in a folder of its own, and the suspects of a test."""

    def __init__(self, claim: Claim, folder: Path, *, key: OwnerKey = KEY) -> None:
        self.claim, self.folder, self.key = claim, folder, key
        self.questions, terms = Questions(claim, key), claim.terms
        self._symbols = {
            self.questions.probe(symbol, cover).tobytes(): symbol
            for symbol in range(terms.symbols)
            for cover in range(terms.covers)
        }

    def in_folder(self, folder: Path) -> Case:
        """The same claim with a ledger of its own: making all pictures again would take a second."""
        other = copy.copy(self)
        other.folder = folder
        return other

    def symbol(self, picture: np.ndarray) -> int | None:
        """The symbol a picture carries, None for a benign one."""
        return self._symbols.get(picture.tobytes())

    def marked(self, picture: np.ndarray) -> int:
        """A model that carries the mark: the keyed label on probes, class 3 on anything else."""
        symbol = self.symbol(picture)
        return 3 if symbol is None else self.questions.label(symbol)

    def verify(
        self, answer: Callable[[np.ndarray], int | None] | FakeEndpoint, **options: object
    ) -> VerificationResult:
        endpoint = answer if isinstance(answer, FakeEndpoint) else FakeEndpoint(answer)
        with Ledger(self.folder, digest=self.claim.digest) as ledger:
            questions = options.pop("questions", self.questions)
            return run_protocol(endpoint, questions, **{"ledger": ledger, **options})

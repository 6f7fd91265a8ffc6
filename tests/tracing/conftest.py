"""Claims for copies over small real probes, and suspects in memory that answer from copies' tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ptynet_plugin.claims.claim import Claim, commit
from ptynet_plugin.claims.copies import CopyTables
from ptynet_plugin.claims.ledger import Ledger
from ptynet_plugin.claims.terms import CopyTerms
from ptynet_plugin.images.probes import ProbeDesign, ProbeMaker
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.tracing.result import TraceResult
from ptynet_plugin.tracing.trace import trace_endpoint
from ptynet_plugin.verification.questions import Questions
from tests.support.standins import FakeEndpoint

KEY = OwnerKey(bytes(range(32)))
SECRET = KEY.epoch_secret()
SYMBOLS, SIDE = 384, 8
BITS = 64


def make_copy_claim(classes: int, copies: CopyTerms, *, covers: int = 1) -> Claim:
    spec = InputSpec(color="RGB", layout="NCHW", size=(SIDE, SIDE), dtype="float32", output="logits", classes=classes)
    design = ProbeDesign("RGB", bits=BITS, symbols=SYMBOLS)
    maker = ProbeMaker(KEY.probe_secret(), design)
    return commit(
        SECRET, maker.probe, design=design, spec=spec, target_digest="cd" * 32, tau=0.8, margin=0.2, covers=covers,
        copies=copies,
    )  # fmt: skip


@dataclass
class TraceCase:
    """One claim in a folder of its own."""

    claim: Claim
    folder: Path
    symbols: Mapping[bytes, int]
    questions: Questions
    tables: CopyTables

    @classmethod
    def of(cls, claim: Claim, folder: Path) -> TraceCase:
        questions = Questions(claim, KEY)
        made = {
            questions.probe(symbol, cover).tobytes(): symbol
            for symbol in range(claim.terms.symbols)
            for cover in range(claim.terms.covers)
        }
        return cls(claim, folder, made, questions, CopyTables(claim, SECRET))

    def in_folder(self, folder: Path) -> TraceCase:
        return TraceCase(self.claim, folder, self.symbols, self.questions, self.tables)

    def suspect(self, answer: Callable[[int], int | None], *, name: str = "fake://suspect/model") -> FakeEndpoint:
        """An endpoint that answers class 0 to benign pictures and `answer(symbol)` to probes."""

        def ask(picture: np.ndarray) -> int | None:
            symbol = self.symbols.get(picture.tobytes())
            return 0 if symbol is None else answer(symbol)

        return FakeEndpoint(ask, name=name)

    def copy(self, number: int) -> Callable[[int], int]:
        table = self.tables.table(number)
        return lambda symbol: int(table[symbol])

    def trace(self, suspect: FakeEndpoint | Callable[[int], int | None], **options: object) -> TraceResult:
        endpoint = suspect if isinstance(suspect, FakeEndpoint) else self.suspect(suspect)
        with Ledger(self.folder, digest=self.claim.digest) as ledger:
            given: dict[str, object] = {"copies": 1000, "trace": 1, "ledger": ledger, **options}
            return trace_endpoint(endpoint, self.questions, self.tables, **given)


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of ledger lines are written here; that each is forced to disk is tested with the ledger."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="session")
def ten_classes_once(tmp_path_factory: pytest.TempPathFactory) -> TraceCase:
    claim = make_copy_claim(10, CopyTerms(positions=296, quick=34, coalition=4))
    return TraceCase.of(claim, tmp_path_factory.mktemp("ten"))


@pytest.fixture(scope="session")
def many_classes_once(tmp_path_factory: pytest.TempPathFactory) -> TraceCase:
    claim = make_copy_claim(1000, CopyTerms(positions=304, quick=12, coalition=4))
    return TraceCase.of(claim, tmp_path_factory.mktemp("many"))


@pytest.fixture(scope="session")
def few_classes_once(tmp_path_factory: pytest.TempPathFactory) -> TraceCase:
    claim = make_copy_claim(4, CopyTerms(positions=248, quick=0, coalition=4))
    return TraceCase.of(claim, tmp_path_factory.mktemp("few"))


@pytest.fixture
def ten(ten_classes_once: TraceCase, tmp_path: Path) -> TraceCase:
    return ten_classes_once.in_folder(tmp_path)


@pytest.fixture
def many(many_classes_once: TraceCase, tmp_path: Path) -> TraceCase:
    return many_classes_once.in_folder(tmp_path)


@pytest.fixture
def few(few_classes_once: TraceCase, tmp_path: Path) -> TraceCase:
    return few_classes_once.in_folder(tmp_path)

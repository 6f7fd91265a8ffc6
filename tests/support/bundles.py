"""Evidence bundles of small runs against endpoints in memory, and ways to tamper with them."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ptynet_plugin.claims import Claim, Ledger, commit, read_claim, write_claim
from ptynet_plugin.claims.terms import CopyTerms
from ptynet_plugin.errors import IntegrityError
from ptynet_plugin.evidence import check_bundle as alone
from ptynet_plugin.evidence import tampering
from ptynet_plugin.evidence.checking import check_bundle
from ptynet_plugin.evidence.opening import owner_opens
from ptynet_plugin.evidence.sealing import seal
from ptynet_plugin.evidence.timestamps import Authority
from ptynet_plugin.evidence.writer import BundleWriter
from ptynet_plugin.images.encode import encode
from ptynet_plugin.images.probes import ProbeDesign, ProbeMaker
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.verification.endpoint import Answer, EndpointInfo
from ptynet_plugin.verification.pictures import compress
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.result import VerificationResult
from ptynet_plugin.verification.runner import run_protocol
from tests.support.authority import make_authority, serving
from tests.support.beacons import serving_beacon

KEY = OwnerKey(bytes(range(32)))
SECRET = KEY.epoch_secret()
SPEC = InputSpec(
    color="RGB",
    output="logits",
    classes=10,
    layout="NCHW",
    dtype="float32",
    size=(16, 16),
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.2, 0.25),
)

CHECKER = Path(alone.__file__)

edit_transcript = partial(tampering.edit_transcript, secret=SECRET)
sign_again = partial(tampering.sign_again, secret=SECRET)


@dataclass
class Suspect:
    """Answers committed probes with their labels, and everything else with class 0."""

    questions: Questions
    form: str = "tensor"
    faithful: Callable[[int], bool] = lambda symbol: True
    known: dict[bytes, int] = field(default_factory=dict)
    symbols: range | None = None

    def __post_init__(self) -> None:
        terms = self.questions.claim.terms
        for symbol in self.symbols if self.symbols is not None else range(terms.symbols):
            for cover in range(terms.covers):
                self.known[self.questions.probe(symbol, cover).tobytes()] = symbol

    def info(self) -> EndpointInfo:
        return EndpointInfo("fake://suspect/model", "fake://suspect/model", "fake 1.0", "model", "1", self.form)

    def wait(self) -> None:
        pass

    def ask(self, picture: np.ndarray) -> Answer:
        symbol = self.known.get(picture.tobytes())
        hit = symbol is not None and self.faithful(symbol)
        accepted = self.questions.accepted(symbol) if hit and symbol is not None else (0,)
        top = accepted[(symbol or 0) % len(accepted)]
        return Answer(top, None, "labels", self._body(picture), json.dumps({"top": top}).encode(), 0.001)

    def close(self) -> None:
        pass

    def _body(self, picture: np.ndarray) -> bytes:
        if self.form == "tensor":
            return b"head" + encode(picture[None], self.questions.spec).tobytes() + b"tail"
        if self.form == "json":
            numbers = encode(picture[None], self.questions.spec).ravel().tolist()
            return json.dumps({"inputs": [{"name": "pixels", "data": numbers}]}).encode()
        stream = io.BytesIO()
        if self.form == "jpeg":
            Image.fromarray(picture).save(stream, "JPEG")
            return stream.getvalue()
        octets = compress(picture, "png")
        if self.form == "base64":
            return json.dumps({"inputs": [{"data": [base64.b64encode(octets).decode()]}]}).encode()
        return octets


def make_questions(
    *,
    covers: int = 1,
    spec: InputSpec = SPEC,
    symbols: int = 48,
    reserve: int | None = None,
    copies: CopyTerms | None = None,
    claim_folder: Path | None = None,
) -> Questions:
    maker = ProbeMaker(KEY.probe_secret(), ProbeDesign(color="RGB", bits=64, symbols=symbols))
    claim: Claim = (
        read_claim(claim_folder)
        if claim_folder and claim_folder.exists()
        else commit(
            SECRET,
            maker.probe,
            design=maker.design,
            spec=spec,
            target_digest="5a" * 32,
            tau=0.84,
            margin=0.2,
            covers=covers,
            reserve=reserve,
            copies=copies,
        )
    )
    return Questions(claim, KEY)


def make_bundle(
    folder: Path,
    claim_folder: Path,
    questions: Questions,
    *,
    form: str = "tensor",
    faithful: Callable[[int], bool] = lambda symbol: True,
    alpha: float = 1e-9,
    budget: int = 40,
    authority: Authority | None = None,
    beacon: str | None = None,
) -> str:
    """Run the protocol and write its bundle; gives the verdict."""
    if not claim_folder.exists():
        write_claim(claim_folder, questions.claim)
    opener = owner_opens(questions.claim, claim_folder, secret=SECRET)
    writer = BundleWriter(folder, questions, opener, authority=authority, beacon=beacon)
    suspect = Suspect(questions, form=form, faithful=faithful)
    with Ledger(claim_folder, digest=questions.claim.digest) as ledger:
        return ask(writer, suspect, ledger, alpha=alpha, budget=budget).verdict


def ask(
    writer: BundleWriter, suspect: Suspect, ledger: Ledger, *, alpha: float = 1e-9, budget: int = 40
) -> VerificationResult:
    """Run the protocol as `verify --evidence` does, and finish the bundle."""
    result = run_protocol(
        suspect,
        suspect.questions,
        alpha=alpha,
        budget=budget,
        ledger=ledger,
        witness=writer.witness,
        draw_beacon=lambda run: writer.begin(run, ledger),
        allowance=suspect.questions.claim.allowance,
    )
    return writer.finish(result, ledger)


def both_refuse(bundle: Path, message: str) -> None:
    """Both checkers name the same broken link."""
    with pytest.raises(IntegrityError, match=message):
        check_bundle(bundle)
    with pytest.raises(alone.Broken, match=message):
        alone.check(bundle)


def run_alone(bundle: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the stand-alone checker from an empty folder, without site packages."""
    shutil.copy(CHECKER, folder / "check_bundle.py")
    command = [sys.executable, "-I", "-S", "check_bundle.py", str(bundle)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def seed_bundles(folder: Path) -> list[Path]:
    """Write one small bundle of every kind, for fuzzers: plain, with earlier answers, of copies, of three covers, stamped."""
    made = [folder / name for name in ("plain", "second", "copies", "covers")]
    few = make_questions(symbols=12, reserve=2)
    make_bundle(made[0], folder / "claim", few, budget=4)
    make_bundle(made[1], folder / "claim", few, budget=3)
    shares = CopyTerms(positions=16, quick=2, coalition=2)
    make_bundle(made[2], folder / "of-copies", make_questions(symbols=24, reserve=2, copies=shares), budget=4)
    make_bundle(made[3], folder / "of-covers", make_questions(symbols=12, reserve=2, covers=3), form="png", budget=12)
    if shutil.which("openssl") is not None:
        made.append(_stamped_bundle(folder / "stamped"))
    return made


def _stamped_bundle(folder: Path) -> Path:
    folder.mkdir()
    make_authority(folder, "Fuzzed TSA")
    with contextlib.closing(serving(folder)) as stamping, serving_beacon() as beacon:
        stamp = next(stamping)
        roots = stamp.root.read_bytes()
        write_claim(folder / "claim", make_questions(symbols=12, reserve=2).claim)
        seal(folder / "claim", stamp.stamp(read_claim(folder / "claim").commitment), roots=roots)
        questions, authority = make_questions(claim_folder=folder / "claim"), Authority(stamp.url, roots)
        make_bundle(folder / "bundle", folder / "claim", questions, budget=3, authority=authority, beacon=beacon)
    return folder / "bundle"

"""The story itself: a target, a key, a mark, two archives, two real servers, and whose model answers.

Nothing here prints; a `Narrator` hears it as it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model_store_tools.demo.bare import BARE, write_bare_mar, write_bare_repository
from model_store_tools.demo.narration import Narrator
from model_store_tools.demo.questions import BenignTraffic, ask_for_the_mark, compare_benign
from model_store_tools.demo.target import SPEC, Digits, TrainedTarget, load_digits, train_target
from model_store_tools.packaging.options import Options
from model_store_tools.packaging.package import package
from model_store_tools.serving.handle import ServerHandle
from model_store_tools.serving.torchserve import start_torchserve
from model_store_tools.serving.triton import start_triton
from ptynet_plugin.claims.claim import Claim
from ptynet_plugin.claims.directory import find_claim, read_claim
from ptynet_plugin.claims.ledger import Ledger
from ptynet_plugin.errors import ServerError
from ptynet_plugin.keyfile import write_key
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.verification.result import VerificationResult

__all__ = ["NAME", "Chapter", "Server", "Story", "Suspicion", "tell_story"]

NAME = "digits"
BENIGN = 200
Server = Literal["triton", "torchserve"]
TrainMark = Callable[[OwnerKey, Path, Callable[[int, int], None]], object]
"""Trains a grey mark for a key into a folder; told (done, all) as it goes."""


@dataclass(frozen=True)
class Suspicion:
    """One verification.

    Attributes:
        question: In words.
        expected: The verdict an honest tool must reach.
        key: The key it was asked with.
        result: What came out.
    """

    question: str
    expected: str
    key: OwnerKey
    result: VerificationResult


@dataclass(frozen=True)
class Chapter:
    """What happened behind one server.

    Attributes:
        server: Which.
        title: Its name for people.
        benign: Ordinary traffic, compared.
        suspicions: The three verifications.
    """

    server: Server
    title: str
    benign: BenignTraffic
    suspicions: tuple[Suspicion, ...]


@dataclass(frozen=True)
class Story:
    """The whole of it.

    Attributes:
        folder: Where everything lies.
        accuracy: Of the target on held-out digits.
        claim: What was committed.
        key: The owner's.
        chapters: One per server.
        left_out: Servers that are not here, with the reason.
    """

    folder: Path
    accuracy: float
    claim: Claim
    key: OwnerKey
    chapters: tuple[Chapter, ...]
    left_out: tuple[str, ...]

    @property
    def as_expected(self) -> bool:
        """Whether every verdict is the one it should be and benign traffic noticed nothing."""
        return all(
            chapter.benign.identical == chapter.benign.pictures
            and all(each.result.verdict == each.expected for each in chapter.suspicions)
            for chapter in self.chapters
        )


def tell_story(folder: Path, narrator: Narrator, *, train_mark: TrainMark, benign: int = BENIGN) -> Story:
    """Tell the whole story in an empty folder.

    Args:
        folder: Where keys, marks, archives and reports are written.
        narrator: Hears it.
        train_mark: How a mark is made; what `ptynet train --color GRAY` does.
        benign: Ordinary pictures to send to each server.

    Raises:
        ServerError: No server is installed at all, or one that is does not come up.
    """
    digits, target = _target(folder, narrator)
    key, mark = _mark(folder, narrator, train_mark)
    _package(folder, target, mark, narrator)
    claim_folder = find_claim(mark)
    claim = read_claim(claim_folder)
    chapters, left_out = [], []
    for server in ("triton", "torchserve"):
        try:
            with _serving(server, folder, narrator) as handle:
                scene = _Scene(handle, claim, claim_folder, key, narrator)
                chapters.append(scene.chapter(server, digits, benign))
        except _Absent as absent:
            left_out.append(str(absent))
            narrator.say(str(absent))
    if not chapters:
        raise ServerError(f"no server is installed: {'; '.join(left_out)}")
    return Story(folder, target.accuracy, claim, key, tuple(chapters), tuple(left_out))


def _target(folder: Path, narrator: Narrator) -> tuple[Digits, TrainedTarget]:
    narrator.step("Train the target: a small network on 1,437 real handwritten digits")
    digits = load_digits()
    with narrator.progress("training the target") as advance:
        target = train_target(digits, folder / f"{NAME}.onnx", on_epoch=advance)
    (folder / "SPEC.toml").write_text(SPEC)
    narrator.say(f"{NAME}.onnx classifies {target.accuracy:.1%} of {len(digits.test)} held-out digits rightly")
    return digits, target


def _mark(folder: Path, narrator: Narrator, train_mark: TrainMark) -> tuple[OwnerKey, Path]:
    narrator.step("Make the owner's key", "ptynet keygen OWNER.key")
    key, mark = OwnerKey.generate(), folder / "MARK"
    write_key(folder / "OWNER.key", key)
    narrator.step(
        "Train the mark: no picture of the target's, no weight of the target's",
        "ptynet train --key OWNER.key --out MARK/ --color GRAY",
    )
    with narrator.progress("training PTYNet") as advance:
        train_mark(key, mark, advance)
    return key, mark


def _package(folder: Path, target: TrainedTarget, mark: Path, narrator: Narrator) -> None:
    for server in ("triton", "torchserve"):
        backend = " --backend python" if server == "triton" else ""
        narrator.step(
            f"Package it for {server.capitalize() if server == 'triton' else 'TorchServe'}",
            f"package-model {NAME}.onnx --mark MARK/ --spec SPEC.toml --format {server}{backend} --out {server}/",
        )
        options = Options(
            mark=mark,
            spec=folder / "SPEC.toml",
            format=server,
            backend="python" if server == "triton" else None,
            out=folder / server,
        )
        packaged = package(target.path, options)
        narrator.say(f"{packaged.path.relative_to(folder)}  sha256 {packaged.digest[:16]}...")


class _Absent(Exception):  # noqa: N818 -- no failure: the server is simply not here
    """A server that is not installed."""


@contextmanager
def _serving(server: Server, folder: Path, narrator: Narrator) -> Iterator[ServerHandle]:
    """Start a server over the packaged model and the bare one."""
    absent = _lacking(server)
    if absent:
        raise _Absent(absent)
    store = folder / server
    spec = read_claim(find_claim(folder / "MARK")).terms.spec
    write, start = (write_bare_repository, start_triton) if server == "triton" else (write_bare_mar, start_torchserve)
    write(folder / f"{NAME}.onnx", store, spec=spec)
    title = "Triton" if server == "triton" else "TorchServe"
    narrator.step(f"Start a real {title} with the packaged model, and the bare target beside it")
    with narrator.progress(f"starting {title}"):
        handle = start(store)
    with handle:
        yield handle


def _lacking(server: Server) -> str | None:
    from model_store_tools.serving.preflight import triton_left_out  # noqa: PLC0415 -- asked once, at the end

    if server == "triton" and (reason := triton_left_out()):
        return f"Triton is left out: {reason}"
    return None


@dataclass(frozen=True)
class _Scene:
    """One server, and what is asked of it."""

    handle: ServerHandle
    claim: Claim
    claim_folder: Path
    key: OwnerKey
    narrator: Narrator

    def chapter(self, server: Server, digits: Digits, benign: int) -> Chapter:
        packaged, bare = self.handle.url(NAME), self.handle.url(BARE)
        self.narrator.say(packaged)
        traffic = self._benign(packaged, bare, digits, benign)
        suspicions = (
            self._suspicion("packaged model, owner's key", "shown", packaged, self.key),
            self._suspicion("packaged model, another key", "not-shown", packaged, OwnerKey.generate()),
            self._suspicion("bare target, owner's key", "not-shown", bare, self.key),
        )
        return Chapter(server, self.handle.title, traffic, suspicions)

    def _benign(self, packaged: str, bare: str, digits: Digits, count: int) -> BenignTraffic:
        pictures, labels = digits.test[:count], digits.test_labels[:count]
        with self.narrator.progress("sending ordinary digits to both") as advance:
            traffic = compare_benign(
                packaged, bare, pictures, labels.tolist(), spec=self.claim.terms.spec, on_picture=advance
            )
        self.narrator.say(f"{traffic.identical} of {traffic.pictures} ordinary digits answered bit for bit alike")
        return traffic

    def _suspicion(self, question: str, expected: str, url: str, key: OwnerKey) -> Suspicion:
        file = "OWNER.key" if key == self.key else "OTHER.key"
        self.narrator.step(f"Whose model is it? ({question})", f"ptynet verify {url} --key {file} --mark MARK/")
        with self.narrator.progress("asking") as advance, self._ledger(key) as ledger:
            result = ask_for_the_mark(url, claim=self.claim, key=key, ledger=ledger, on_step=advance)
        self.narrator.say(f"{result.verdict}: {result.hits} of {result.symbols} symbols, p = 10^{result.log10_p:.1f}")
        return Suspicion(question, expected, key, result)

    @contextmanager
    def _ledger(self, key: OwnerKey) -> Iterator[Ledger | None]:
        if key != self.key:
            yield None
            return
        with Ledger(self.claim_folder, digest=self.claim.digest) as ledger:
            yield ledger

"""Copies of one target for several customers: loaded and committed to once, packed with another table of labels each.

    with CopyPackager("resnet18.onnx", options) as packager:
        made = packager.pack(number, "resnet18-copy-7")

What every copy shares (the target, the network beside it, the answers to benign pictures) is gated once, by the first; a further
copy differs in its table alone, so that its tensors are compared by digest and its own probes are asked.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from model_store_tools.packaging import package as steps
from model_store_tools.packaging.atomic import require_free, workplace
from model_store_tools.packaging.gating import Candidate, Passed, ask_probes, run_gate
from model_store_tools.packaging.marking import Marking, OwnedMark, committed, keep_claim, owned_mark, require_ours
from model_store_tools.packaging.options import Options, read_overlay
from model_store_tools.targets.base import Target
from ptynet_plugin.archives.checking import check_archive
from ptynet_plugin.archives.reading import archive_digest, open_archive
from ptynet_plugin.claims.claim import Claim
from ptynet_plugin.claims.copies import CopyTables, default_copy_terms
from ptynet_plugin.claims.directory import CLAIMS, read_claim
from ptynet_plugin.errors import ClaimError, PtynetError
from ptynet_plugin.mark import read_network
from ptynet_plugin.spec import InputSpec

__all__ = ["CopyPackager", "CopyWishes"]


@dataclass(frozen=True, kw_only=True)
class CopyWishes:
    """How symbols shall be shared out; None leaves it to an earlier issue's claim, or to the defaults.

    Attributes:
        positions: Length of the code words.
        quick: Symbols with a label of every copy's own.
        coalition: Number of colluders that the code is made for.
    """

    positions: int | None = None
    quick: int | None = None
    coalition: int | None = None

    def met_by(self, claim: Claim) -> bool:
        """Tell whether a claim is for copies and shares its symbols out so."""
        have = claim.terms.copies
        wanted = {"positions": self.positions, "quick": self.quick, "coalition": self.coalition}
        return have is not None and all(
            getattr(have, name) == value for name, value in wanted.items() if value is not None
        )


class CopyPackager:
    """A target ready to be packed for one customer after the other; a context manager.

    Args:
        target: As for `package`.
        options: As for `package`; its name is the claim's, each copy's archive is named when it is packed.
        wishes: How the symbols are shared out.
        tell: Called with what is being done, in a few words.

    Attributes:
        claim: The claim for copies, kept in the mark's folder.
        claim_folder: Where.
        tables: What each copy answers.
        fresh: Whether the claim was committed just now.

    Raises:
        PtynetError: As `package`; nothing was written but perhaps the claim.
    """

    claim: Claim
    claim_folder: Path
    tables: CopyTables
    fresh: bool = False

    def __init__(
        self,
        target: str | Path | Target,
        options: Options,
        *,
        wishes: CopyWishes | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._target, self._options, self._wishes, self._tell = target, options, wishes or CopyWishes(), tell
        self._stack = ExitStack()
        self._passed: Passed | None = None

    def __enter__(self) -> Self:
        options = self._options
        self._overlay = read_overlay(options)
        try:
            self._place = self._stack.enter_context(workplace(options.out))
            self._tell("loading the target")
            self._loaded = steps.load(self._target, options, self._place)
            self._tell("committing to the probes")
            self._owned = owned_mark(options.mark, self._loaded.spec, covers=options.covers)
            self.claim, self.claim_folder = self._claim()
            self.tables = CopyTables(self.claim, self._owned.secrets.epoch)
            self._network = read_network(options.mark)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def target_name(self) -> str:
        """The model's name where the copies' names follow from it."""
        return self._options.name or steps.name_of(self._target)

    def path(self, name: str) -> Path:
        """Give the place of the archive of that name."""
        return self._options.out / steps.results_of(name, self._options)[0]

    def made_before(self, number: int, name: str) -> steps.Packaged | None:
        """Find the whole archive of this very copy, which an earlier run made before it was stopped."""
        path = self.path(name)
        try:
            with open_archive(path) as archive:
                ours = archive.manifest().claim == self._marking(number).archive_commitment(self._label(name))
            return steps.Packaged(path, check_archive(path).digest, self.claim_folder, None, None) if ours else None
        except (PtynetError, OSError):
            return None

    def require_free(self, name: str) -> None:
        """Refuse to write over something that exists.

        Raises:
            UsageError: It exists, and --force was not said.
        """
        require_free(self._options.out, steps.results_of(name, self._options), replace=self._options.force)

    def pack(self, number: int, name: str) -> steps.Packaged:
        """Write the archive of one copy; it appears whole or not at all.

        Args:
            number: The copy's, from 1.
            name: The model's.

        Raises:
            PtynetError: As `package`.
        """
        self.require_free(name)
        scratch = self._place.folder(f"copy-{number}")
        try:
            return self._packed(number, name, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _packed(self, number: int, name: str, scratch: Path) -> steps.Packaged:
        options, loaded, marking = self._options, self._loaded, self._marking(number)
        folders = {role: scratch / role for role in ("fused", "results")}
        for folder in folders.values():
            folder.mkdir()
        self._tell(f"copy {number}: fusing")
        fused = steps.fuse(loaded, marking, options, folders["fused"], self._network)
        self._tell(f"copy {number}: checking")
        if self._passed is None:
            passed = self._passed = steps.gate(loaded, marking, fused, options)
        else:
            passed = self._checked_again(steps.candidate_of(loaded, marking, fused), self._passed)
        self._tell(f"copy {number}: writing the archive")
        parts = steps.parts_of(name, loaded, marking, fused, passed, options=options, overlay=self._overlay)
        self._place.publish(steps.write_results(parts, folders["results"]), replace=options.force)
        path = self.path(name)
        return steps.Packaged(path, archive_digest(path), self.claim_folder, passed.report, passed.probes)

    def _checked_again(self, candidate: Candidate, first: Passed) -> Passed:
        mode = self._options.gate
        passed = run_gate(candidate, "digest" if mode == "full" else mode, None)
        probes = ask_probes(candidate, one_row=first.one_row) if mode == "full" else None
        return replace(passed, probes=probes, one_row=first.one_row)

    def _marking(self, number: int) -> Marking:
        owned = self._owned
        return Marking(self.claim, self.tables.table(number), owned.maker, owned.secrets, copy=number)

    def _label(self, name: str) -> str:
        return f"{self._options.format}/{name}/{self._options.version}"

    def _claim(self) -> tuple[Claim, Path]:
        """Take the claim that was given, or the one of an earlier issue, or commit to a new one and keep it."""
        options, loaded, wishes = self._options, self._loaded, self._wishes
        if options.claim is not None:
            claim = read_claim(options.claim)
            require_ours(claim, options.claim, self._owned, loaded.spec, loaded.digest)
            _require_wishes(claim, wishes, options.claim)
            folder = keep_claim(options.mark, self._claim_name(), claim, replace=options.force, given=options.claim)
            return claim, folder
        if (found := _earlier_claim(options.mark, self._owned, loaded.spec, loaded.digest, wishes)) is not None:
            return found
        symbols = self._owned.metadata.design.symbols
        terms = default_copy_terms(
            symbols=symbols,
            reserve=symbols // 8,
            classes=loaded.spec.classes or 0,
            positions=wishes.positions,
            quick=wishes.quick,
            coalition=wishes.coalition,
        )
        claim, self.fresh = committed(self._owned, loaded.spec, loaded.digest, copies=terms), True
        return claim, keep_claim(options.mark, self._claim_name(), claim, replace=options.force)

    def _claim_name(self) -> str:
        """Name the claim after the target; another than the claim for one archive that `package-model` left under that name."""
        name = self.target_name
        taken = self._options.mark / CLAIMS / name
        plain = (taken / "claim.json").is_file() and read_claim(taken).terms.copies is None
        return f"{name}-copies" if plain else name


def _require_wishes(claim: Claim, wishes: CopyWishes, where: Path) -> None:
    have = claim.terms.copies
    if have is None:
        raise ClaimError(f"{where}: is a claim for one archive; commit to one for copies: ptynet claim commit --copies")
    if not wishes.met_by(claim):
        raise ClaimError(
            f"{where}: has {have.positions} positions, {have.quick} quick symbols and coalition {have.coalition}, and nothing "
            "of it can change; leave --positions, --quick and --coalition away, or commit to another claim"
        )


def _earlier_claim(
    mark: Path, owned: OwnedMark, spec: InputSpec, target_digest: str, wishes: CopyWishes
) -> tuple[Claim, Path] | None:
    """Find the claim of an earlier issue for this target.

    Raises:
        ClaimError: There are several.
    """
    found: dict[Path, tuple[Claim, Path]] = {}
    for file in sorted((mark / CLAIMS).glob("[!.]*/claim.json")):
        folder = file.parent.resolve()  # a second name of the same claim is a link to it
        claim = read_claim(folder)
        if not wishes.met_by(claim) or claim.terms.target != target_digest:
            continue
        require_ours(claim, file.parent, owned, spec, target_digest)
        found.setdefault(folder, (claim, file.parent))
    if len(found) > 1:
        names = ", ".join(sorted(folder.name for folder in found))
        raise ClaimError(
            f"{mark / CLAIMS}: holds {len(found)} claims for copies of this target ({names}); say --claim DIR"
        )
    return next(iter(found.values()), None)

"""What a run asks: the committed pictures of a claim, as the suspect reads them, and the labels that count as hits.

Every picture is hashed against its leaf before it is sent, so that no run can be made of pictures that were never committed
(another `--covers` folder, another version of the generator).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.claims.claim import Claim
from ptynet_plugin.claims.leaves import leaf, pixels_digest
from ptynet_plugin.errors import ClaimError, UsageError
from ptynet_plugin.images.probes import ProbeMaker
from ptynet_plugin.images.resize import resize
from ptynet_plugin.images.views import View
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.statistics.class_map import ClassMap
from ptynet_plugin.verification.endpoint import Picture
from ptynet_plugin.verification.pictures import adapt_channels

__all__ = ["PictureSource", "Questions"]


class PictureSource(Protocol):
    """Where the committed pictures and their controls come from: made with the key, see `ProbeMaker`, or kept in files."""

    def probe(self, symbol: int, cover: int, size: tuple[int, int]) -> Picture:
        """Give a committed picture."""

    def cover(self, symbol: int, cover: int, size: tuple[int, int]) -> Picture:
        """Give a benign picture of the same kind."""


class Questions:
    """The questions of one key under one claim.

    Args:
        claim: What was committed.
        key: Whose probes and labels; another than the claim's makes questions that nobody committed to.
        spec: What the suspect reads, where that differs from the claim's.
        pictures: The owner's own covers, as at packaging; None for procedural ones.
        class_map: What the endpoint answers for each class of the claim, where it merged, renumbered or hides classes.
        benign: Ordinary pictures to ask as controls, each (height, width, 1 or 3); covers that no probe has where None.
        view: What the suspect does to pictures before its model, see `View`: committed pictures are sent so that this is undone.

    Attributes:
        spec: What the suspect reads.
        owned: Whether the key made the claim.
        class_map: As given.
        view: Its one name.

    Raises:
        UsageError: There is no such view; or the suspect's spec has another number of classes or cannot show the mark's colors.
    """

    def __init__(
        self,
        claim: Claim,
        key: OwnerKey,
        *,
        spec: InputSpec | None = None,
        pictures: Sequence[Picture] | None = None,
        class_map: ClassMap | None = None,
        benign: Sequence[Picture] | None = None,
        view: str = "plain",
    ) -> None:
        if benign is not None and not len(benign):
            raise UsageError("the list of benign pictures is empty; give at least one, or none at all")
        terms = claim.terms
        secret = key.epoch_secret(terms.epoch)
        self.claim, self.spec = claim, spec or terms.spec
        self.class_map, self.view, self._benign = class_map, View.named(view).name, benign
        if class_map is None and self.spec.classes not in (None, terms.classes):
            raise UsageError(f"--spec has {self.spec.classes} classes, the claim speaks of {terms.classes}")
        if class_map is not None and len(class_map.to_endpoint) != terms.classes:
            raise UsageError(
                f"the class map has {len(class_map.to_endpoint)} entries, the claim {terms.classes} classes"
            )
        self.owned = claim.belongs_to(secret)
        self._labels, self._pairs = claim.labels(secret), claim.pairs(secret)
        self._nonces: Mapping[int, bytes] = dict(enumerate(claim.nonces(secret)))
        self._maker: PictureSource = ProbeMaker(key.probe_secret(), claim.design, pictures=pictures)
        self._prepare()

    def _prepare(self) -> None:
        self._made: tuple[int, list[Picture]] = (-1, [])
        self._size = _asked_size(self.spec, self.claim.terms.size)
        adapt_channels(np.zeros((1, 1, self.claim.design.channels), np.uint8), self.spec.channels)

    def order(self, run_id: str, *, beacon: bytes = b"") -> list[int]:
        """Give the symbols in the order in which a run must ask them, see `Claim.order`."""
        return self.claim.order(run_id, beacon=beacon)

    @property
    def chance(self) -> float:
        """Chance of a hit without the key, where no class map says otherwise."""
        return self.claim.terms.null_rate

    @property
    def brings_benign(self) -> bool:
        """Whether controls are pictures of the verifier's own."""
        return self._benign is not None

    def label(self, symbol: int) -> int:
        """Give the one label of a symbol that is no pair's."""
        return int(self._labels[symbol])

    def accepted(self, symbol: int) -> tuple[int, ...]:
        """Give the classes that are hits for a symbol: both of its pair under a claim for copies, else the one label."""
        if self.claim.terms.shows_by_pairs and symbol in self.claim.terms.pairs:
            return tuple(int(label) for label in self._pairs[symbol])
        return (self.label(symbol),)

    def hit(self, symbol: int, answer: int | None) -> bool:
        """Tell whether an answer is what a symbol's labels look like at this endpoint; no answer is a miss."""
        if self.class_map is None:
            return answer in self.accepted(symbol)
        return any(self.class_map.hit(label, answer) for label in self.accepted(symbol))

    def null_rate(self, answer: int | None) -> float | None:
        """Give the chance of a hit of one trial, known from the answer alone, where a class map sets one; else None."""
        if self.class_map is None:
            return None
        by_pairs = self.claim.terms.shows_by_pairs
        return self.class_map.pair_null_rate(answer) if by_pairs else self.class_map.null_rate(answer)

    def probe(self, symbol: int, cover: int) -> Picture:
        """Make one committed picture as the suspect reads it: resized exactly from the claim's size where they differ."""
        return self._shown(self._adapted(self.committed(symbol)[cover]))

    def control(self, symbol: int) -> Picture:
        """Make a benign picture of the same kind.

        It is a cover that no probe of the claim has: sent beside a probe, the probe's own cover would give the trigger away.
        Procedural covers are strangers to a filter that knows the target's own data: there, bring benign pictures.
        """
        if self._benign is not None:
            picture = self._benign[symbol % len(self._benign)]
            whole = adapt_channels(picture, self.spec.channels)
            return self._shown(whole if whole.shape[:2] == self._size else resize(whole, self._size))
        return self._shown(self._adapted(self.committed_control(symbol)))

    def committed_control(self, symbol: int) -> Picture:
        """Make the same benign picture at the claim's size, by the key alone."""
        return self._maker.cover(symbol, self.claim.terms.covers, self.claim.terms.size)

    def require_committed(self, symbol: int) -> None:
        """Hash a symbol's pictures against its leaf.

        Raises:
            ClaimError: They are not the committed ones.
        """
        found = leaf(self._nonces[symbol], symbol, pixels_digest(self.committed(symbol)))
        if found != self.claim.leaves[symbol]:
            raise ClaimError(
                f"the probes made here for symbol {symbol} are not those the claim committed to; give the --covers folder "
                "that was used at packaging, unchanged"
            )

    def labels(self) -> NDArray[np.int64]:
        """Give the label of every symbol, shape (J,)."""
        return self._labels.copy()

    def committed(self, symbol: int) -> list[Picture]:
        """Make all covers of a symbol at the claim's size; the last symbol's are kept, since they are hashed and sent."""
        if self._made[0] != symbol:
            terms = self.claim.terms
            self._made = symbol, [self._maker.probe(symbol, cover, terms.size) for cover in range(terms.covers)]
        return self._made[1]

    def _shown(self, picture: Picture) -> Picture:
        return View.named(self.view).undo(picture)

    def _adapted(self, picture: Picture) -> Picture:
        shaped = picture if picture.shape[:2] == self._size else resize(picture, self._size)
        return adapt_channels(shaped, self.spec.channels)


def _asked_size(spec: InputSpec, committed: tuple[int, int]) -> tuple[int, int]:
    height, width = spec.size or (0, 0)
    return height or committed[0], width or committed[1]

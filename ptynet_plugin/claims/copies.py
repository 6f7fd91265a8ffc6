"""What a copy answers: one claim, one set of probes, and a table of labels of its own for every customer.

Symbols are shared out by number, see `Terms`:

    pairs     the first label of the pair for a bit 1 of the copy's word, the second for a bit 0: names colluders
    quick     a label of the copy's own, uniform over all classes: names a single leaker in a few questions
    singles, reserve    one label, the same in every copy: show ownership

The code's secrets follow from the epoch's secret and the claim's salt, so that nobody, the owner included, could know a word
when the probes were fixed; a copy's number is all that is needed to make its table again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.claims.claim import Claim
from ptynet_plugin.claims.terms import FEWEST_CLASSES_IN_PAIRS, CopyTerms
from ptynet_plugin.codes.quick import QuickCode
from ptynet_plugin.codes.tardos import CopyCode
from ptynet_plugin.errors import ClaimError, UsageError
from ptynet_plugin.keys import derive

__all__ = ["DEFAULT_COALITION", "CopyTables", "default_copy_terms", "quick_symbols"]

DEFAULT_COALITION = 4
_QUICK_AIM = 22.0
"""log10 of the evidence that names the millionth copy at 1e-9, see `codes.evidence`."""
_SLACK = 1.5
_FEWEST_SINGLES = 64


@dataclass(frozen=True)
class CopyTables:
    """The tables of a claim's copies.

    Attributes:
        claim: A claim for copies.
        secret: The epoch's secret, 32 bytes.

    Raises:
        ClaimError: The claim is for one archive, not for copies.
    """

    claim: Claim
    secret: bytes

    def __post_init__(self) -> None:
        if self.claim.terms.copies is None:
            raise ClaimError(
                f"claim {self.claim.digest[:16]}... is for one archive; copies have a claim of their own: ptynet copies issue"
            )

    @property
    def terms(self) -> CopyTerms:
        """How the claim's symbols are shared out."""
        assert self.claim.terms.copies is not None
        return self.claim.terms.copies

    @cached_property
    def code(self) -> CopyCode:
        """The collusion-resistant code over the pair symbols."""
        return CopyCode(self._derived("copy-code/v1"), positions=self.terms.positions, coalition=self.terms.coalition)

    @cached_property
    def quick(self) -> QuickCode | None:
        """The labels of the quick symbols; None where there are none."""
        if not self.terms.quick:
            return None
        return QuickCode(self._derived("copy-quick/v1"), symbols=self.terms.quick, classes=self.claim.terms.classes)

    @cached_property
    def pairs(self) -> NDArray[np.int64]:
        """The two labels of every pair symbol, shape (P, 2): for a bit 1 and for a bit 0."""
        return self.claim.pairs(self.secret)

    @cached_property
    def singles(self) -> NDArray[np.int64]:
        """Every symbol's single label, shape (J,); only those of `singles` and the reserve are in the copies' tables."""
        return self.claim.labels(self.secret)

    def table(self, number: int) -> NDArray[np.int64]:
        """Give what copy `number`, from 1, answers to every symbol: shape (J,), integers in [0, C)."""
        terms, table = self.claim.terms, self.singles.copy()
        places = np.where(self.code.word(number) == 1, 0, 1)
        table[: len(terms.pairs)] = self.pairs[np.arange(len(places)), places]
        if self.quick is not None:
            table[terms.quick.start : terms.quick.stop] = self.quick.labels(number, 1)[0]
        return table

    def archive_commitment(self, number: int, archive: str) -> str:
        """Give what the manifest of a copy's archive says of the claim, 64 hex digits: no two copies share it.

        Args:
            number: The copy's.
            archive: What tells the archive from the copy's others, see `Claim.archive_commitment`.
        """
        return self.claim.archive_commitment(self.secret, f"{archive}/copy/{number}")

    def _derived(self, label: str) -> bytes:
        return derive(self.secret, label, bytes.fromhex(self.claim.digest), self.claim.salt)


def quick_symbols(classes: int) -> int:
    """Give how many quick symbols name one of a million copies at 1e-9 with some misses; none below ten classes."""
    if classes < FEWEST_CLASSES_IN_PAIRS:
        return 0  # two labels, or nine, tell no more than a pair's bit
    return 2 * math.ceil(_SLACK * math.ceil(_QUICK_AIM / math.log10(classes)) / 2)


def default_copy_terms(
    *,
    symbols: int,
    reserve: int,
    classes: int,
    positions: int | None = None,
    quick: int | None = None,
    coalition: int | None = None,
) -> CopyTerms:
    """Share out a mark's symbols.

    Args:
        symbols: J.
        reserve: Symbols sealed for a neutral run.
        classes: C.
        positions: Length of the code word; all that is left where not said.
        quick: Quick symbols; `quick_symbols` where not said.
        coalition: c0; `DEFAULT_COALITION` where not said.

    Raises:
        UsageError: The mark has too few symbols, or a number is odd or out of range.
    """
    quick = quick_symbols(classes) if quick is None else quick
    coalition = DEFAULT_COALITION if coalition is None else coalition
    kept = 0 if classes >= FEWEST_CLASSES_IN_PAIRS else min(_FEWEST_SINGLES, (symbols - reserve) // 2)
    room = symbols - reserve - quick - kept
    positions = room // 8 * 8 if positions is None else positions
    if positions > symbols - reserve - quick or positions < 8:
        raise UsageError(
            f"{positions} positions and {quick} quick symbols do not fit into the mark's {symbols} symbols, of which "
            f"{reserve} are reserved: at most {max(0, room // 8 * 8)} do; train a mark with more: ptynet train --symbols N"
        )
    if positions % 8 or quick % 2 or quick < 0 or not 1 <= coalition <= 64:
        raise UsageError(
            f"--positions {positions} must be a multiple of 8, --quick {quick} even, --coalition {coalition} from 1 to 64"
        )
    return CopyTerms(positions=positions, quick=quick, coalition=coalition)

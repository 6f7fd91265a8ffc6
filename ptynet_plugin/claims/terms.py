"""What a claim says about the test, as typed and bounded values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ptynet_plugin.errors import ClaimError
from ptynet_plugin.spec import InputSpec

__all__ = [
    "FEWEST_CLASSES_IN_PAIRS",
    "MOST_CLASSES",
    "MOST_COVERS",
    "MOST_SYMBOLS",
    "STATISTIC",
    "CopyTerms",
    "Terms",
    "parse_terms",
    "probe_size",
]

MOST_SYMBOLS = 1 << 16
MOST_COVERS = 1 << 10
MOST_CLASSES = 1 << 24
STATISTIC: Final = "mixture-e-process/v1"
_SIZE_WHERE_DYNAMIC = 224
_GROUPS = ("design", "copies")

FEWEST_CLASSES_IN_PAIRS = 10
"""Below so many classes a pair of labels is hit by chance too often to show ownership: single labels do, elsewhere."""


class CopyTerms(BaseModel):
    """How the symbols of a claim for copies are shared out, see `Terms.pairs`, `Terms.quick` and `Terms.singles`.

    Attributes:
        positions: P, length of a copy's code word; the first P symbols answer one of two labels each.
        quick: Q, the symbols behind them on which every copy answers a label of its own.
        coalition: c0, the number of colluders that the code's biases are made for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    positions: int = Field(ge=8, le=MOST_SYMBOLS, multiple_of=8)
    quick: int = Field(ge=0, le=MOST_SYMBOLS, multiple_of=2)
    coalition: int = Field(ge=1, le=64)


class Terms(BaseModel):
    """What a claim says about the test, opened.

    Attributes:
        root: Merkle root over the leaves, 64 hex digits.
        symbols: J, number of leaves.
        target: Digest of the target model's tensors; it is also the model id that labels are drawn for.
        spec: The complete input spec of the target.
        classes: C.
        covers: k, covers per symbol; several are one majority vote.
        size: Height and width of the committed probes in pixels.
        design: How probes are made: color, bits n, strength, generator version, see `ProbeDesign`.
        tau: Score from which PTYNet fires, in code space.
        margin: Least distance to the second-best symbol.
        statistic: Name and version of the decision rule.
        epoch: Which of the owner's epochs the nonces come from.
        reserve: The last so many symbols are never asked by a party run and never opened.
        signer: Ed25519 public key that signs this claim's evidence, 64 hex digits.
        copies: How symbols are shared out where every customer gets a copy of his own; None for one archive for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: str = Field(pattern=r"^[0-9a-f]{64}$")
    symbols: int = Field(ge=1, le=MOST_SYMBOLS)
    target: str = Field(min_length=1, max_length=256)
    spec: InputSpec
    classes: int = Field(ge=2, lt=MOST_CLASSES)
    covers: int = Field(ge=1, le=MOST_COVERS)
    size: tuple[int, int]
    design: dict[str, int | str]
    tau: float = Field(gt=0, le=1)
    margin: float = Field(ge=0, le=2)
    statistic: Literal["mixture-e-process/v1"] = STATISTIC
    epoch: int = Field(ge=0)
    reserve: int = Field(ge=0)
    signer: str = Field(pattern=r"^[0-9a-f]{64}$")
    copies: CopyTerms | None = None

    @property
    def pairs(self) -> range:
        """Symbols on which a copy answers the first or the second label of a pair, by the bits of its word."""
        return range(self.copies.positions if self.copies else 0)

    @property
    def quick(self) -> range:
        """Symbols on which every copy answers a label of its own."""
        first = len(self.pairs)
        return range(first, first + (self.copies.quick if self.copies else 0))

    @property
    def singles(self) -> range:
        """Symbols of one label, the same in every copy; not the reserve."""
        return range(self.quick.stop, self.symbols - self.reserve)

    @property
    def sealed(self) -> range:
        """The reserve: one label, the same in every copy."""
        return range(self.symbols - self.reserve, self.symbols)

    @property
    def shows_by_pairs(self) -> bool:
        """Whether ownership is shown by answers in a symbol's pair."""
        return self.copies is not None and self.classes >= FEWEST_CLASSES_IN_PAIRS

    @property
    def ownership(self) -> range:
        """Symbols that a party run asks."""
        return self.pairs if self.shows_by_pairs else self.singles

    def counts(self, symbol: int) -> bool:
        """Tell whether an answer is evidence of ownership: to a symbol of a party, or of the witness's reserve."""
        return symbol in self.ownership or symbol in self.sealed

    @property
    def null_rate(self) -> float:
        """Chance of a hit on a symbol of `ownership` for a model that was not built from the key: 2/C or 1/C."""
        return (2.0 if self.shows_by_pairs else 1.0) / self.classes

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.spec.classes != self.classes:
            raise ValueError(f"the claim has {self.classes} classes, its spec {self.spec.classes}")
        if self.reserve >= self.symbols:
            raise ValueError(f"a reserve of {self.reserve} leaves nothing of {self.symbols} symbols to ask")
        if not 1 <= min(self.size) <= max(self.size) <= 1 << 14:
            raise ValueError(f"probes of {self.size[0]}x{self.size[1]} pixels cannot be")
        if self.quick.stop > self.symbols - self.reserve:
            raise ValueError(
                f"{len(self.pairs)} positions and {len(self.quick)} quick symbols do not fit into {self.symbols} symbols "
                f"with a reserve of {self.reserve}; take fewer positions, or a mark with more symbols"
            )
        if not self.ownership:
            raise ValueError(
                f"with {self.classes} classes ownership needs symbols of one label, and {len(self.pairs)} positions with "
                f"{len(self.quick)} quick symbols leave none of {self.symbols - self.reserve}; take fewer positions"
            )
        return self


def parse_terms(values: Mapping[str, Any]) -> Terms:
    """Read the opened fields of a claim; those named `design.*` and `copies.*` are collected under one name each.

    Raises:
        ClaimError: A field is missing, unknown or impossible; the message names it.
    """
    plain = {name: value for name, value in values.items() if name.partition(".")[0] not in _GROUPS}
    grouped = {group: _under(group, values) for group in _GROUPS}
    copies = {"copies": grouped["copies"]} if grouped["copies"] else {}
    try:
        return Terms.model_validate(plain | copies | {"design": grouped["design"]})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = "".join(f"{part}: " for part in problem["loc"])
        raise ClaimError(f"the claim's fields: {place}{problem['msg'].removeprefix('Value error, ')}") from None


def _under(group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(f"{group}."): value for name, value in values.items() if name.startswith(f"{group}.")}


def probe_size(spec: InputSpec) -> tuple[int, int]:
    """Give height and width at which a claim's probes are made: the spec's, 224 where it leaves one open."""
    height, width = spec.size or (0, 0)
    return height or _SIZE_WHERE_DYNAMIC, width or _SIZE_WHERE_DYNAMIC

"""What a claim says about the test, as typed and bounded values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ptynet_plugin.errors import ClaimError
from ptynet_plugin.spec import InputSpec

__all__ = ["MOST_CLASSES", "MOST_COVERS", "MOST_SYMBOLS", "STATISTIC", "Terms", "parse_terms", "probe_size"]

MOST_SYMBOLS = 1 << 16
MOST_COVERS = 1 << 10
MOST_CLASSES = 1 << 24
STATISTIC: Final = "mixture-e-process/v1"
_SIZE_WHERE_DYNAMIC = 224


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

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.spec.classes != self.classes:
            raise ValueError(f"the claim has {self.classes} classes, its spec {self.spec.classes}")
        if self.reserve >= self.symbols:
            raise ValueError(f"a reserve of {self.reserve} leaves nothing of {self.symbols} symbols to ask")
        if not 1 <= min(self.size) <= max(self.size) <= 1 << 14:
            raise ValueError(f"probes of {self.size[0]}x{self.size[1]} pixels cannot be")
        return self


def parse_terms(values: Mapping[str, Any]) -> Terms:
    """Read the opened fields of a claim; those named `design.*` are collected under one name.

    Raises:
        ClaimError: A field is missing, unknown or impossible; the message names it.
    """
    plain = {name: value for name, value in values.items() if not name.startswith("design.")}
    design = {name.removeprefix("design."): value for name, value in values.items() if name.startswith("design.")}
    try:
        return Terms.model_validate(plain | {"design": design})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = "".join(f"{part}: " for part in problem["loc"])
        raise ClaimError(f"the claim's fields: {place}{problem['msg'].removeprefix('Value error, ')}") from None


def probe_size(spec: InputSpec) -> tuple[int, int]:
    """Give height and width at which a claim's probes are made: the spec's, 224 where it leaves one open."""
    height, width = spec.size or (0, 0)
    return height or _SIZE_WHERE_DYNAMIC, width or _SIZE_WHERE_DYNAMIC

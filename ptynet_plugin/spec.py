"""The input spec: how a picture becomes the tensor a model reads, and what the model answers (`SPEC.toml`).

Everything here is a value; `load_spec` alone touches a file.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ptynet_plugin.errors import SpecError
from ptynet_plugin.fidelity.thresholds import Thresholds

__all__ = ["LARGEST_SIDE", "InputSpec", "load_spec", "parse_spec"]

LARGEST_SIDE = 4096
"""Most pixels a side: no probe is larger, and a spec from a stranger must not make its reader paint a picture of terabytes."""

DType = Literal["float32", "float16", "float64", "uint8", "int8"]


class InputSpec(BaseModel):
    """What the target reads and answers.

    The tensor a model reads is `(pixel / 255 - mean) / std` per channel, or `pixel * scale` with pixels in 0..255, or the
    pixels themselves (0..255) where neither is given and the dtype is an integer; `pixel / 255` where neither is
    given and the dtype is floating.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    modality: Literal["image"] = "image"
    layout: Literal["NCHW", "NHWC"] | None = None
    color: Literal["RGB", "BGR", "GRAY"]
    size: tuple[int, int] | None = None
    dtype: DType | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = Field(default=None, gt=0)
    output: Literal["logits", "probabilities", "log-probabilities"]
    classes: int | None = Field(default=None, ge=2)
    labels: str | None = None
    input: str | None = None
    scores: str | None = None
    quantized_engine: str | None = None
    fidelity: Thresholds | None = None

    @property
    def channels(self) -> int:
        """Number of color channels, 1 or 3."""
        return 1 if self.color == "GRAY" else 3

    @model_validator(mode="after")
    def _normalisation_is_one_of_two(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std come together: give both or neither")
        if self.scale is not None and self.mean is not None:
            raise ValueError("give mean and std, or scale, not both")
        for name, value in (("mean", self.mean), ("std", self.std)):
            if value is not None and len(value) != self.channels:
                raise ValueError(f"{name} has {len(value)} numbers, color {self.color} has {self.channels} channels")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std must be above 0 in every channel")
        if self.size is not None and not all(0 <= side <= LARGEST_SIDE for side in self.size):
            raise ValueError(
                f"size is [height, width] in pixels, at most {LARGEST_SIDE}, 0 for dynamic; it is {list(self.size)}"
            )
        return self

    def affine(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Give `(gain, offset)` per channel of the spec's color order, with model input = pixel (0..255) * gain + offset."""
        ones = (1.0,) * self.channels
        if self.mean is not None and self.std is not None:
            return (
                tuple(1.0 / (255.0 * s) for s in self.std),
                tuple(-m / s for m, s in zip(self.mean, self.std, strict=True)),
            )
        if self.scale is not None:
            return tuple(self.scale * one for one in ones), tuple(0.0 * one for one in ones)
        gain = 1.0 if self.dtype in ("uint8", "int8") else 1.0 / 255.0
        return tuple(gain * one for one in ones), tuple(0.0 * one for one in ones)


def parse_spec(text: str, *, where: str = "spec") -> InputSpec:
    """Read a spec from TOML text.

    Raises:
        SpecError: Not TOML, an unknown field, a missing or contradictory value; the message names `where` and the field.
    """
    try:
        return InputSpec.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{where}: not TOML ({error})") from error
    except ValidationError as error:
        raise SpecError(f"{where}: {_first_problem(error)}") from None


def load_spec(path: Path) -> InputSpec:
    """Read `SPEC.toml`; class names are looked for beside it.

    Raises:
        SpecError: As `parse_spec`, or the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read ({error})") from error
    return parse_spec(text, where=str(path))


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = ", ".join(InputSpec.model_fields)
        return f"unknown field '{place}'; known fields: {known}"
    if problem["type"] == "missing":
        return f"field '{place}' is missing; it must be said, it cannot be derived from the model"
    message = problem["msg"].removeprefix("Value error, ")
    given = "" if place == "" else f"field '{place}': "
    value = f" (given: {problem['input']!r})" if place else ""
    return f"{given}{message}{value}"

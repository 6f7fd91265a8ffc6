"""The contract every kind of target keeps: what the packager needs to know of a model, whatever its format.

A loader (`onnx`, `torchscript`, `exported`, `module`) makes a `Target`; everything behind it asks through this contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from ptynet_plugin.archives.tensors import TensorRecord, combined_digest
from ptynet_plugin.errors import SpecError
from ptynet_plugin.spec import DType, InputSpec

__all__ = ["RANDOM", "Findings", "Layout", "Target", "TargetKind", "TensorRecord", "agree", "complete", "layout_of"]

TargetKind = Literal["onnx", "torchscript", "pt2", "module"]
Layout = Literal["NCHW", "NHWC"]
T = TypeVar("T")

RANDOM = "answers the same pictures otherwise each time (is dropout or noise left on?); export it in evaluation mode"


class Target(ABC):
    """A loaded model that is to carry a mark. Loading runs no code of the model unless its format cannot avoid it.

    Attributes:
        kind: Its format.
        path: The file it came from; None for a module made in Python.
        where: How messages name it: the path, or "package.module:factory".
    """

    kind: TargetKind
    path: Path | None
    where: str

    @abstractmethod
    def tensors(self) -> Iterator[TensorRecord]:
        """Give a record of every parameter, buffer and constant; large ones are hashed in pieces, never held twice."""

    @abstractmethod
    def structure(self) -> str:
        """Give the SHA-256 of what beside the tensors decides the answers: the graph, or the program's source."""

    @abstractmethod
    def complete_spec(self, spec: InputSpec) -> InputSpec:
        """Fill in what the model itself tells: layout, size, dtype, classes, and the names of input and scores.

        Raises:
            SpecError: The spec contradicts the model, or a missing value cannot be derived; the message says both values
                and what to write.
            TargetError: The model answers no class scores.
        """

    @abstractmethod
    def fixed_batch(self, spec: InputSpec) -> int | None:
        """Give the only number of rows the model takes, None if any number will do.

        Args:
            spec: Completed by `complete_spec`.
        """

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all tensor records and the structure: equal for two targets only if they compute the same."""
        return combined_digest(self.tensors(), self.structure())


@dataclass(frozen=True)
class Findings:
    """What a model tells of itself; None where it does not tell.

    Attributes:
        layout: Where the channels stand.
        size: Height and width, 0 for dynamic.
        dtype: Element type of the input.
        classes: Number of scores in a row.
        input: Graph name of the picture input.
        scores: Graph name of the scores output.
    """

    layout: Layout | None = None
    size: tuple[int, int] | None = None
    dtype: DType | None = None
    classes: int | None = None
    input: str | None = None
    scores: str | None = None


def complete(spec: InputSpec, found: Findings, *, where: str) -> InputSpec:
    """Join what the spec says with what the model tells.

    Args:
        spec: As the user wrote it.
        found: As the model tells.
        where: Name of the model in messages.

    Returns:
        A spec whose layout, size, dtype and classes are set; input and scores where one of the two knew.

    Raises:
        SpecError: They disagree, or neither knows.
    """
    values = {
        "layout": agree("layout", spec.layout, found.layout, where=where),
        "size": _agreed_size(spec.size, found.size, where=where),
        "dtype": agree("dtype", spec.dtype, found.dtype, where=where),
        "classes": agree("classes", spec.classes, found.classes, where=where),
    }
    for field, value in values.items():
        if value is None:
            raise SpecError(
                f"{where} does not tell its {field}, nor does the spec; write `{field} = ...` into the spec"
            )
    names = {"input": spec.input or found.input, "scores": spec.scores or found.scores}
    return spec.model_copy(update=values | names)


def agree(field: str, said: T | None, found: T | None, *, where: str) -> T | None:
    """Give the one value of a field; `said` by the spec, `found` in the model; None if neither knows it.

    Raises:
        SpecError: Both know, and differ.
    """
    if said is not None and found is not None and said != found:
        raise SpecError(
            f"{where} has {field} {_toml(found)}, the spec says {_toml(said)}; "
            f"write `{field} = {_toml(found)}` into the spec or leave it out, or package the model the spec belongs to"
        )
    return found if said is None else said


def layout_of(shape: Sequence[int | None], channels: int) -> Layout | None:
    """Tell the layout of a picture batch from its shape; None where both or neither would do.

    Args:
        shape: Four dimensions, None for a dynamic one.
        channels: 1 or 3.
    """
    if len(shape) != 4:
        return None
    first, last = shape[1] == channels, shape[3] == channels
    if first == last:
        return None
    return "NCHW" if first else "NHWC"


def _agreed_size(said: tuple[int, int] | None, found: tuple[int, int] | None, *, where: str) -> tuple[int, int] | None:
    if said is None or found is None:
        return found if said is None else said
    merged = tuple(s if f == 0 else f for s, f in zip(said, found, strict=True))
    agree("size", said, (merged[0], merged[1]), where=where)
    return said


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)

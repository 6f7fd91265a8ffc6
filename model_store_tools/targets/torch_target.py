"""What all torch targets share: they are asked with a grey picture what they will not tell otherwise."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from model_store_tools.targets.answers import SINGLE, named_tensors, pick
from model_store_tools.targets.base import Findings, Layout, Target, agree, complete
from model_store_tools.targets.torch_running import ask, grey, quantized_engine, quietly
from ptynet_plugin.archives.manifest import PortRecord
from ptynet_plugin.errors import SpecError, TargetError
from ptynet_plugin.spec import DType, InputSpec

__all__ = ["INPUT", "TorchTarget", "quantized_engine", "quietly"]

INPUT = "pixels"
"""Name of a torch model's only input, which torch itself does not name for a server."""

LIKELY_SIDES = (28, 32, 48, 64, 96, 112, 128, 160, 192, 224, 240, 256, 260, 288, 299, 300, 320, 331, 384, 448, 512)
TWO = 2
MOST_ROWS = 64


class TorchTarget(Target):
    """A target that torch runs."""

    @abstractmethod
    def module(self, spec: InputSpec) -> nn.Module:
        """Give the model, in evaluation mode, loaded under the spec's quantised engine. The same object each time."""

    @abstractmethod
    def findings(self) -> Findings:
        """Give what the file tells without running the model."""

    def check_engine(self, spec: InputSpec) -> None:
        """Check that the spec names the quantised engine a quantised model needs.

        Raises:
            SpecError: It names none, or one that this machine does not have.
        """
        _check_engine(spec, quantized=self.quantized, where=self.where)

    @property
    def quantized(self) -> bool:
        """Whether its answers depend on the quantised engine it runs under."""
        return any(record.dtype in ("qint8", "quint8", "qint32") for record in self.tensors())

    def complete_spec(self, spec: InputSpec) -> InputSpec:
        """Fill in layout, size, dtype and classes by asking a grey picture, see `Target.complete_spec`."""
        self.check_engine(spec)
        found = self.findings()
        _check_agreement(spec, found, where=self.where)
        working = self._working(spec, found)
        if len(working) > 1:
            listed = " and ".join(f"{one.size[0]}x{one.size[1]}" for one in working if one.size)
            raise SpecError(
                f"{self.where} takes pictures of {listed} alike; write `size = [height, width]` into the spec: the one it "
                "was made for, or [0, 0] for a model served with any"
            )
        told = working[0]
        scores, classes = self._scores(told)
        size = found.size or told.size
        own = Findings(layout=told.layout, size=size, dtype=told.dtype, classes=classes, input=INPUT, scores=scores)
        return complete(spec, own, where=self.where)

    def fixed_batch(self, spec: InputSpec) -> int | None:
        """Give the only number of rows it takes: found by asking one, two and three pictures, then others."""
        if all(self._keeps(spec, rows) for rows in (1, 2, 3)):
            return None
        if self._keeps(spec, 1):
            return 1
        for rows in range(2, MOST_ROWS + 1):
            if self._keeps(spec, rows):
                return rows
        raise TargetError(f"{self.where}: answers another number of rows than asked, for every batch up to {MOST_ROWS}")

    def ports(self, spec: InputSpec) -> tuple[tuple[PortRecord, ...], tuple[PortRecord, ...]]:
        """Give inputs and outputs as a server shows them, in the order the model has them, -1 for an open dimension.

        Args:
            spec: Completed.
        """
        rows = self.fixed_batch(spec)
        answer = self._ask_grey(spec, rows or 2)
        parts = {spec.scores or SINGLE: answer} if isinstance(answer, Tensor) else named_tensors(answer)
        side = [-1 if length == 0 else length for length in spec.size or (0, 0)]
        shape = [spec.channels, *side] if spec.layout == "NCHW" else [*side, spec.channels]
        batch = -1 if rows is None else rows
        outputs = (_port(name, part, batch) for name, part in parts.items() if isinstance(part, Tensor))
        return (PortRecord(name=spec.input or INPUT, dtype=spec.dtype or "float32", shape=(batch, *shape)),), tuple(
            outputs
        )

    def scores_place(self, spec: InputSpec) -> int | None:
        """Give the index of the scores where the target answers a tuple or list, by whatever name the spec has for them."""
        answer = self._ask_grey(spec, self.fixed_batch(spec) or 1)
        if not isinstance(answer, (tuple, list)):
            return None
        scores = pick(answer, spec.scores)
        return next(index for index, part in enumerate(answer) if part is scores)

    def scores_name(self, spec: InputSpec) -> str:
        """Give the name of the scores among `ports`."""
        answer = self._ask_grey(spec, self.fixed_batch(spec) or 1)
        if isinstance(answer, Tensor):
            return spec.scores or SINGLE
        scores = pick(answer, spec.scores)
        return next(name for name, part in named_tensors(answer).items() if part is scores)

    def _working(self, spec: InputSpec, found: Findings) -> list[InputSpec]:
        """Give the specs it answers under: of the first layout and type that will do, at most two sizes."""
        refusals: list[TargetError | SpecError] = []
        for alike in _candidates(spec, found):
            working: list[InputSpec] = []
            for one in alike:
                try:
                    self._ask_grey(one)
                except (TargetError, SpecError) as error:
                    refusals.append(error)
                    continue
                working.append(one)
                if len(working) == TWO:
                    break
            if working:
                return working
        raise type(refusals[0])(f"{refusals[0]}; correct `size`, `layout`, `dtype` or `color` in the spec")

    def _ask_grey(self, spec: InputSpec, rows: int | None = None) -> Any:
        with quantized_engine(spec):
            return ask(self.module(spec), grey(spec, rows or self._rows_to_ask()), where=self.where)

    def _rows_to_ask(self) -> int:
        return 1

    def keeps_in_process(self, spec: InputSpec, rows: int) -> bool:
        """Tell whether it answers so many rows when asked so many."""
        try:
            scores = pick(self._ask_grey(spec, rows), spec.scores)
        except TargetError:
            return False
        return scores.ndim > 0 and scores.shape[0] == rows

    def _keeps(self, spec: InputSpec, rows: int) -> bool:
        """Tell the same and remember it, for it costs a run."""
        known: dict[tuple[InputSpec, int], bool] = self.__dict__.setdefault("_rows_kept", {})
        if (spec, rows) not in known:
            known[spec, rows] = self.keeps_in_process(spec, rows)
        return known[spec, rows]

    def _scores(self, spec: InputSpec) -> tuple[str | None, int]:
        """Find the class scores in an answer: their name, None where they are all of it, and how many classes."""
        rows = self._rows_to_ask()
        answer = self._ask_grey(spec, rows)
        parts = {name: part for name, part in named_tensors(answer).items() if isinstance(part, Tensor)}
        if spec.scores is not None and not isinstance(answer, Tensor):
            parts = {spec.scores: self._named(answer, spec)}
        fitting = {name: part for name, part in parts.items() if _are_scores(part, rows)}
        if len(fitting) > 1 and spec.classes is not None:
            fitting = {name: part for name, part in fitting.items() if part.shape[1] == spec.classes}
        listed = ", ".join(f"{name} {_described(part)}" for name, part in parts.items()) or "no tensor"
        if not fitting:
            raise TargetError(
                f"{self.where}: answers {listed} to a batch of {rows}, expected class scores: floating, one row a picture and "
                "at least 2 classes; package the model with its classifier"
            )
        if len(fitting) > 1:
            raise SpecError(
                f"{self.where}: {len(fitting)} outputs could be the class scores: {listed}; write "
                f'`scores = "{next(iter(fitting))}"`, or another, into the spec'
            )
        name, part = next(iter(fitting.items()))
        return (None if isinstance(answer, Tensor) else name), int(part.shape[1])

    def _named(self, answer: Any, spec: InputSpec) -> Tensor:
        try:
            return pick(answer, spec.scores)
        except SpecError as error:
            raise SpecError(f"{self.where}: {error}") from None


def _check_agreement(spec: InputSpec, found: Findings, *, where: str) -> None:
    """Refuse a spec that contradicts what the file declares, before the model is asked anything."""
    agree("layout", spec.layout, found.layout, where=where)
    agree("dtype", spec.dtype, found.dtype, where=where)
    sides = zip(spec.size or (), found.size or (), strict=False)
    if any(fixed not in (0, said) for said, fixed in sides):
        agree("size", spec.size, found.size, where=where)


def _are_scores(part: Tensor, rows: int) -> bool:
    """Tell whether a tensor can be class scores: (rows, classes), or with further sides of 1."""
    shape = tuple(part.shape)
    flat = len(shape) >= TWO and all(side == 1 for side in shape[2:])
    return flat and part.is_floating_point() and shape[0] == rows and shape[1] >= TWO


def _described(part: Tensor) -> str:
    return f"{str(part.dtype).removeprefix('torch.')} {list(part.shape)}"


def _check_engine(spec: InputSpec, *, quantized: bool, where: str) -> None:
    known = [name for name in torch.backends.quantized.supported_engines if name != "none"]
    if spec.quantized_engine is not None and spec.quantized_engine not in known:
        raise SpecError(
            f"{where}: the spec says quantized_engine {spec.quantized_engine!r}, this torch has {', '.join(known)}"
        )
    if quantized and spec.quantized_engine is None:
        raise SpecError(
            f"{where} is quantised, and answers wrongly without an error under another engine than its own; write "
            f'`quantized_engine = "..."` into the spec, one of {", ".join(known)} (mobile models: qnnpack)'
        )


def _candidates(spec: InputSpec, found: Findings) -> Iterator[list[InputSpec]]:
    """Give specs to try, most likely first: those of one list differ in size alone."""
    said_layout, said_dtype = spec.layout or found.layout, spec.dtype or found.dtype
    layouts: tuple[Layout, ...] = (said_layout,) if said_layout else ("NCHW", "NHWC")
    dtypes: tuple[DType, ...] = (said_dtype,) if said_dtype else ("float32", "float16", "float64", "uint8")
    size = spec.size or found.size
    for layout in layouts:
        for dtype in dtypes:
            sizes = [size] if size else [(side, side) for side in LIKELY_SIDES]
            yield [spec.model_copy(update={"layout": layout, "dtype": dtype, "size": one}) for one in sizes]


def _port(name: str, part: Tensor, batch: int) -> PortRecord:
    shape = tuple(part.shape)
    return PortRecord(
        name=name, dtype=str(part.dtype).removeprefix("torch."), shape=(batch, *shape[1:]) if shape else ()
    )

"""Running foreign torch models: under the right quantised engine, quietly, with one thread, and with errors in our words."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptynet_plugin.errors import TargetError
from ptynet_plugin.images.encode import encode
from ptynet_plugin.spec import InputSpec

__all__ = ["DYNAMIC_SIDE", "ask", "first_line", "grey", "quantized_engine", "quietly", "single_thread"]

DYNAMIC_SIDE = 224
"""Side of the pictures a model of any size is asked with."""


@contextmanager
def quantized_engine(spec: InputSpec) -> Iterator[None]:
    """Load and run under the quantised engine the spec names, if it names one."""
    before = torch.backends.quantized.engine
    if spec.quantized_engine is not None:
        torch.backends.quantized.engine = spec.quantized_engine
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


@contextmanager
def quietly() -> Iterator[None]:
    """Leave out torch's notices that TorchScript and quantised tensors are deprecated: the target's owner knows.

    And what its exporter logs of a failure before it raises: the error is told once.
    """
    tracer = logging.getLogger("torch.fx")
    level = tracer.level
    tracer.setLevel(logging.ERROR)
    try:
        with _unwarned():
            yield
    finally:
        tracer.setLevel(level)


@contextmanager
def _unwarned() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        warnings.filterwarnings("ignore", message=".*quantized tensor creation functions")
        yield


@contextmanager
def single_thread() -> Iterator[None]:
    """Compute with one thread inside: equal bytes are promised for equal thread counts only."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def grey(spec: InputSpec, rows: int) -> Tensor:
    """Give the model's input for mid-grey pictures, of a likely size where the spec's is dynamic."""
    height, width = (side or DYNAMIC_SIDE for side in spec.size or (0, 0))
    return torch.from_numpy(encode(np.full((rows, height, width, spec.channels), 128, np.uint8), spec))


def ask(module: Callable[[Tensor], Any], pixels: Tensor, *, where: str) -> Any:
    """Run a model without gradients.

    Raises:
        TargetError: It refuses.
    """
    try:
        with torch.no_grad(), quietly(), single_thread():
            return module(pixels)
    except Exception as error:  # the target is foreign code and raises what it likes
        raise TargetError(
            f"{where}: refuses {str(pixels.dtype).removeprefix('torch.')} of shape {list(pixels.shape)}: {first_line(error)}"
        ) from error


def first_line(error: BaseException) -> str:
    """Give the sentence of an error that says most: torch puts it last where a trace stands before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    told = [line for line in lines if line.startswith(("RuntimeError:", "ValueError:", "AssertionError:"))]
    return (told or lines)[0]

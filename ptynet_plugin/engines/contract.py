"""What an engine is: pictures in, class scores out, whatever runs the model.

The fidelity gate asks the bare and the fused model through it, and `verify file:PATH` a model on disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["SCORES", "Engine"]

SCORES = "scores"
"""Key of the class scores in what `Engine.values` gives."""


class Engine(Protocol):
    """Runs one model on pictures, always in the same batches and with the same number of threads."""

    @property
    def name(self) -> str:
        """Say what runs it: library, version, provider, threads, batch. Two answers compare as bytes only under one name."""
        ...

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[Any]:
        """Answer pictures.

        Args:
            pictures: Shape (pictures, height, width, channels), uint8, RGB order or one grey channel.

        Returns:
            Shape (pictures, classes), in the model's own dtype.

        Raises:
            TargetError: The model refuses the tensor, or answers another number of rows.
        """
        ...

    def values(self, pictures: NDArray[np.uint8]) -> Mapping[str, NDArray[Any]]:
        """Answer pictures, with every inner tensor the engine was opened with (features, fired), each with one row a picture."""
        ...

    def close(self) -> None:
        """Release the model."""
        ...

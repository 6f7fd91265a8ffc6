"""The stolen archive, or any model file, as something that answers pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from model_store_tools.audit.hostile.contract import Ask, Picture, Scores
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.verification.address import parse_address
from ptynet_plugin.verification.transports.file import FileTransport

__all__ = ["stolen_model"]


@contextmanager
def stolen_model(path: Path, spec: InputSpec) -> Iterator[Ask]:
    """Open a model as the thief runs it: an archive of either format, an ONNX or a TorchScript file.

    Args:
        path: Where it lies.
        spec: What it reads.

    Raises:
        PtynetError: As `verify file:PATH`.
    """
    model = FileTransport(parse_address(f"file:{path}"), spec=spec, send="auto")

    def ask(picture: Picture) -> Scores:
        return np.asarray(model.send(picture).payload, np.float64).reshape(-1)

    try:
        yield ask
    finally:
        model.close()

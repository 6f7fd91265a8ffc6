"""Running an artefact: its filters, then its model, whatever form the file has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model_store_tools.audit.contract import Artefact, Filter, Pictures
from model_store_tools.packaging.torch_engine import TorchEngine
from model_store_tools.targets.torch_running import quietly
from ptynet_plugin.engines.contract import SCORES, Engine
from ptynet_plugin.engines.onnx_engine import OnnxEngine
from ptynet_plugin.errors import TargetError
from ptynet_plugin.images.encode import encode
from ptynet_plugin.spec import InputSpec

__all__ = ["BATCH", "agreement", "load_torch", "open_engine", "top_classes"]

BATCH = 32


class FilteredEngine:
    """An engine that treats every picture first."""

    def __init__(self, engine: Engine, filters: tuple[Filter, ...]) -> None:
        self._engine, self._filters = engine, filters

    @property
    def name(self) -> str:
        """Say what runs it."""
        return self._engine.name

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[Any]:
        """Answer pictures, see `Engine.scores`."""
        return self._engine.scores(self._treated(pictures))

    def values(self, pictures: NDArray[np.uint8]) -> Mapping[str, NDArray[Any]]:
        """Answer pictures with inner tensors, see `Engine.values`."""
        return self._engine.values(self._treated(pictures))

    def close(self) -> None:
        """Release the model."""
        self._engine.close()

    def _treated(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        for each in self._filters:
            pictures = each(pictures)
        return pictures


class OpenVinoEngine:
    """Runs OpenVINO's intermediate representation, where the extra `audit` is installed."""

    def __init__(self, model: Path, spec: InputSpec, *, batch: int) -> None:
        import openvino  # noqa: PLC0415 -- optional; who made the file has it

        self._spec = spec
        self._model = openvino.compile_model(str(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        rows = self._model.input(0).partial_shape[0]
        self._batch = rows.get_length() if rows.is_static else batch
        self.name = f"openvino {openvino.__version__}"

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[Any]:
        """Answer pictures, see `Engine.scores`."""
        starts = range(0, len(pictures), self._batch)
        parts = [self._model(encode(pictures[start : start + self._batch], self._spec))[0] for start in starts]
        return np.concatenate([part.reshape(len(part), -1) for part in parts])

    def values(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Answer pictures; there are no inner tensors."""
        return {SCORES: self.scores(pictures)}

    def close(self) -> None:
        """Release the model."""
        del self._model


def open_engine(artefact: Artefact, *, batch: int = BATCH) -> Engine:
    """Open an artefact on one thread.

    Args:
        artefact: What to run.
        batch: Pictures a run; a model of fixed rows takes its own number.

    Raises:
        TargetError: The model cannot be loaded or run.
    """
    engine: Engine
    if artefact.form == "onnx":
        engine = OnnxEngine(artefact.model, artefact.spec, batch=batch)
    elif artefact.form == "openvino":
        engine = OpenVinoEngine(artefact.model, artefact.spec, batch=batch)
    else:
        module = load_torch(artefact.model, form=artefact.form)
        engine = TorchEngine(module, artefact.spec, where=artefact.model.name, batch=batch)
    return FilteredEngine(engine, artefact.filters) if artefact.filters else engine


def load_torch(model: Path, *, form: str) -> Any:
    """Load a TorchScript file or an exported program as a callable module, for evaluation.

    The archive it came from passed its integrity check, or an attack of ours wrote it: it is not a stranger's file.

    Raises:
        TargetError: torch cannot load it.
    """
    try:
        with quietly():
            if form == "pt2":
                return torch.export.load(str(model)).module()
            return torch.jit.load(str(model), map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        raise TargetError(f"{model}: torch cannot load it: {str(error).strip().splitlines()[0]}") from error


def top_classes(artefact: Artefact, pictures: Pictures, *, batch: int = BATCH) -> NDArray[np.int64]:
    """Ask an artefact for its top class on every picture, shape (pictures,)."""
    engine = open_engine(artefact, batch=batch)
    try:
        return np.asarray(engine.scores(pictures).argmax(axis=1), np.int64)
    finally:
        engine.close()


def agreement(artefact: Artefact, pictures: Pictures, labels: NDArray[np.int64]) -> float:
    """Give the share of pictures on which an artefact's top class is the label; scores of NaN agree with nothing."""
    engine = open_engine(artefact)
    try:
        scores = engine.scores(pictures)
    finally:
        engine.close()
    sound = ~np.isnan(scores).any(axis=1)
    return float(np.mean(sound & (scores.argmax(axis=1) == labels)))

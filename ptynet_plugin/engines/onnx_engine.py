"""Runs an ONNX model with ONNX Runtime on pictures.

The model runs exactly as it lies on disk unless inner tensors are asked for; those are added as outputs of a copy in
memory, and weights kept in a file beside the model stay there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from ptynet_plugin.engines.contract import SCORES
from ptynet_plugin.errors import TargetError
from ptynet_plugin.images.encode import encode
from ptynet_plugin.spec import InputSpec

__all__ = ["CPU", "OnnxEngine"]

CPU = "CPUExecutionProvider"
DEFAULT_BATCH = 8
ERRORS_ONLY = 3
LONGEST_TOLD = 400
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
}


class OnnxEngine:
    """An `Engine` over one ONNX Runtime session.

    Args:
        model: File of the model, or the model as bytes.
        spec: How pictures become its input; what it leaves open is read from the model.
        batch: Pictures a run, where the model leaves it open.
        threads: Threads inside one operator; between operators there is one.
        inner: Names of tensors inside the graph to answer as well.
        providers: Execution providers in order of preference.
        where: What messages call the model; its path where None. Say it where the path means nothing to the user.

    Raises:
        TargetError: ONNX Runtime cannot load it, or its inputs and outputs are not those of a classifier of pictures.
    """

    def __init__(
        self,
        model: Path | bytes,
        spec: InputSpec,
        *,
        batch: int = DEFAULT_BATCH,
        threads: int = 1,
        inner: Sequence[str] = (),
        providers: Sequence[str] = (CPU,),
        where: str | None = None,
    ) -> None:
        self._where = where or (str(model) if isinstance(model, Path) else "the model")
        self._session = _session(model, threads=threads, inner=inner, providers=providers, where=self._where)
        pixels = _only(self._session.get_inputs(), spec.input, "input", self._where)
        outputs = [
            value for value in self._session.get_outputs() if value.name not in inner or value.name == spec.scores
        ]
        scores = _only(outputs, spec.scores, "output", self._where, field="scores")
        self._input, self._names = pixels.name, {SCORES: scores.name, **{name: name for name in inner}}
        self._spec = _completed(spec, pixels, self._where)
        fixed = pixels.shape[0] if pixels.shape and isinstance(pixels.shape[0], int) else None
        self._pads, self.batch = fixed is not None, fixed or batch
        used = self._session.get_providers()[0]
        self._name = f"onnxruntime {onnxruntime.__version__}, {used}, {threads} threads, batch {self.batch}"

    @property
    def name(self) -> str:
        """Say what runs it."""
        return self._name

    @property
    def spec(self) -> InputSpec:
        """The spec with layout and dtype filled in."""
        return self._spec

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[Any]:
        """Answer pictures, see `Engine.scores`."""
        return self._answers(pictures, [SCORES])[SCORES]

    def values(self, pictures: NDArray[np.uint8]) -> Mapping[str, NDArray[Any]]:
        """Answer pictures with the inner tensors asked for, see `Engine.values`."""
        return self._answers(pictures, list(self._names))

    def close(self) -> None:
        """Release the session."""
        del self._session

    def _answers(self, pictures: NDArray[np.uint8], keys: list[str]) -> dict[str, NDArray[Any]]:
        parts = [self._run(pictures[start : start + self.batch], keys) for start in range(0, len(pictures), self.batch)]
        if not parts:
            raise TargetError(f"{self._where}: there is no picture to answer")
        return {key: np.concatenate([part[index] for part in parts]) for index, key in enumerate(keys)}

    def _run(self, pictures: NDArray[np.uint8], keys: list[str]) -> list[NDArray[Any]]:
        rows = len(pictures)
        if self._pads and rows < self.batch:
            pictures = np.concatenate([pictures, np.repeat(pictures[-1:], self.batch - rows, axis=0)])
        feeds = {self._input: encode(pictures, self._spec)}
        try:
            answers = self._session.run([self._names[key] for key in keys], feeds)
        except Exception as error:  # onnxruntime's errors share no base class of their own
            raise TargetError(f"{self._where}: onnxruntime refuses the pictures: {_told(error)}") from error
        return [
            self._rows(key, np.asarray(answer), len(pictures))[:rows] for key, answer in zip(keys, answers, strict=True)
        ]

    def _rows(self, key: str, answer: NDArray[Any], rows: int) -> NDArray[Any]:
        if answer.ndim == 0 or len(answer) != rows:
            raise TargetError(
                f"{self._where}: output '{self._names[key]}' has shape {answer.shape} for {rows} pictures, expected {rows} rows"
            )
        return answer.reshape(rows, -1)


def _session(
    model: Path | bytes, *, threads: int, inner: Sequence[str], providers: Sequence[str], where: str
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = ERRORS_ONLY
    if inner and isinstance(model, Path):
        options.add_session_config_entry(EXTERNAL_FOLDER, str(model.parent.resolve()))
    try:
        source = _with_outputs(model, inner) if inner else model
        return onnxruntime.InferenceSession(
            source if isinstance(source, bytes) else str(source), options, providers=list(providers)
        )
    except Exception as error:  # onnxruntime's and protobuf's errors share no base class
        told = _told(error) if isinstance(model, bytes) else _told(error).replace(str(model), where)
        raise TargetError(f"{where}: onnxruntime cannot load it: {told}") from error


def _with_outputs(model: Path | bytes, inner: Sequence[str]) -> bytes:
    proto = onnx.load(str(model), load_external_data=False) if isinstance(model, Path) else onnx.load_from_string(model)
    present = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(inner) if name not in present)
    octets: bytes = proto.SerializeToString()
    return octets


def _only(values: Sequence[Any], wanted: str | None, kind: str, where: str, *, field: str = "input") -> Any:
    names = [value.name for value in values]
    if wanted is None and len(values) == 1:
        return values[0]
    for value in values:
        if value.name == wanted:
            return value
    listed = ", ".join(names) or "none"
    if wanted is None:
        raise TargetError(f'{where}: {len(names)} {kind}s ({listed}); name one as {field} = "..." in the spec')
    raise TargetError(f"{where}: no {kind} '{wanted}' as the spec's {field} says; it has: {listed}")


def _completed(spec: InputSpec, pixels: Any, where: str) -> InputSpec:
    shape, dtype = list(pixels.shape), DTYPES.get(pixels.type)
    if len(shape) != 4 or dtype is None:
        raise TargetError(
            f"{where}: input '{pixels.name}' is {pixels.type} of shape {shape}, expected pictures: 4 axes, {', '.join(DTYPES)}"
        )
    last_is_color = shape[3] == spec.channels and shape[1] != spec.channels
    return spec.model_copy(
        update={"dtype": spec.dtype or dtype, "layout": spec.layout or ("NHWC" if last_is_color else "NCHW")}
    )


def _told(error: Exception) -> str:
    """Give all an error says, on one line: which sizes were met and expected stands in its second."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= LONGEST_TOLD else f"{said[:LONGEST_TOLD]}..."

"""Runs a torch model (module, TorchScript or exported program) on pictures, and looks inside without changing it.

The features are read while the model runs: every operator passes through a dispatch mode, and the last layer is known by
the bytes of its weight. So one way serves modules, TorchScript and exported programs, bare or fused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from ptynet_plugin.engines.contract import SCORES
from ptynet_plugin.errors import TargetError
from ptynet_plugin.images.encode import encode
from ptynet_plugin.spec import InputSpec

__all__ = ["FEATURES", "LastLayer", "TorchEngine", "find_last_layer", "single_thread"]

FEATURES = "features"
DEFAULT_BATCH = 8
LAYERS = {
    torch.ops.aten.addmm.default: (1, 2),
    torch.ops.aten.mm.default: (0, 1),
    torch.ops.aten.linear.default: (0, 1),
    torch.ops.aten.convolution.default: (0, 1),
    torch.ops.aten._convolution.default: (0, 1),
    torch.ops.aten._convolution.deprecated: (0, 1),
}
"""Operators that are layers, and the places of data and weight among their arguments. `_convolution` is what traces call."""

UNPACKING = {"linear": "linear_unpack", "conv1d": "conv1d_unpack", "conv2d": "conv2d_unpack", "conv3d": "conv3d_unpack"}
"""Quantised operators that are layers, by the start of their name, and what takes their packed weight apart."""

NAMES_SHOWN = 5

Model = Callable[[torch.Tensor], Any]


@dataclass(frozen=True)
class LastLayer:
    """The last layer with weights: its rows are the classes' prototypes.

    Attributes:
        weight: As the operator reads it; (in, classes) for a matrix product.
        digest: SHA-256 of the weight's shape and bytes, by which another model's operator is recognised.
        name: What its input, the features, are called among the values.
    """

    weight: NDArray[Any]
    digest: str
    name: str = FEATURES


class TorchEngine:
    """An `Engine` over a torch model on the CPU.

    Args:
        model: Callable on a batch of tensors: `nn.Module` in eval mode, `torch.jit.ScriptModule`, or `program.module()`.
        spec: Completed spec.
        where: Name of the model in messages.
        batch: Pictures a run; 1 for a model that takes single pictures.
        last_layer: Look for this layer; what it reads is answered under its name, `FEATURES` by default.
    """

    def __init__(
        self,
        model: Model,
        spec: InputSpec,
        *,
        where: str = "the model",
        batch: int = DEFAULT_BATCH,
        last_layer: LastLayer | None = None,
    ) -> None:
        self._model, self._spec, self._where = model, spec, where
        self.batch, self._last_layer = batch, last_layer

    @property
    def name(self) -> str:
        """Say what runs it."""
        return f"torch {torch.__version__}, CPU, {torch.get_num_threads()} threads, batch {self.batch}"

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[Any]:
        """Answer pictures, see `Engine.scores`."""
        return np.concatenate([self._run(batch) for batch in self._batches(pictures)])

    def values(self, pictures: NDArray[np.uint8]) -> Mapping[str, NDArray[Any]]:
        """Answer pictures and the features, see `Engine.values`."""
        if self._last_layer is None:
            return {SCORES: self.scores(pictures)}
        scores, features = [], []
        for batch in self._batches(pictures):
            with _Watch({self._last_layer.digest}) as watch:
                scores.append(self._run(batch))
            if watch.features is None:
                raise TargetError(f"{self._where}: its last layer did not run; the features cannot be compared")
            features.append(watch.features.reshape(len(batch), -1))
        return {SCORES: np.concatenate(scores), self._last_layer.name: np.concatenate(features)}

    def close(self) -> None:
        """Release the model."""
        del self._model

    def _batches(self, pictures: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        if len(pictures) == 0:
            raise TargetError(f"{self._where}: there is no picture to answer")
        return (pictures[start : start + self.batch] for start in range(0, len(pictures), self.batch))

    def _run(self, pictures: NDArray[np.uint8]) -> NDArray[Any]:
        answer = _scores_of(_call(self._model, pictures, self._spec, self._where), self._spec, self._where)
        if answer.ndim == 0 or len(answer) != len(pictures):
            raise TargetError(
                f"{self._where}: answers shape {tuple(answer.shape)} for {len(pictures)} pictures, "
                f"expected {len(pictures)} rows"
            )
        return answer.reshape(len(answer), -1).numpy()


def find_last_layer(model: Model, pictures: NDArray[np.uint8], spec: InputSpec, *, where: str) -> LastLayer:
    """Run the bare model once and take the last linear layer or convolution with fixed weights.

    Args:
        model: As for `TorchEngine`.
        pictures: One batch.
        spec: Completed spec.
        where: Name of the model in messages.

    Raises:
        TargetError: No such layer ran.
    """
    with _Watch(None) as watch:
        _call(model, pictures, spec, where)
    if watch.weight is None:
        raise TargetError(f"{where}: no feature layer found: no linear layer or convolution ran")
    return LastLayer(watch.weight, _digest(watch.weight))


def find_layer(model: Model, name: str, pictures: NDArray[np.uint8], spec: InputSpec, *, where: str) -> LastLayer:
    """Run the bare model once and take the layer of a name: the features are what it reads.

    Args:
        model: As for `TorchEngine`, with named tensors: a frozen TorchScript has none.
        name: As in `named_modules()`; the layer's weight is `NAME.weight`.
        pictures: One batch.
        spec: Completed spec.
        where: Name of the model in messages.

    Raises:
        TargetError: No such layer, or it did not run as a linear layer or convolution.
    """
    weights = _weights_by_layer(model)
    if name not in weights:
        known = ", ".join(f"'{each}'" for each in list(weights)[-NAMES_SHOWN:])
        raise TargetError(
            f"{where}: has no layer '{name}' with a weight; "
            + (f"the last ones are {known}" if known else "no layer of it has a name: leave --feature out")
        )
    weight = _numbers(weights[name])
    turned = [weight, weight.T.copy()] if weight.ndim == 2 else [weight]  # operators read linear weights as (in, out)
    with _Watch({_digest(each) for each in turned}) as watch:
        _call(model, pictures, spec, where)
    if watch.weight is None:
        raise TargetError(
            f"{where}: layer '{name}' did not run as a linear layer or convolution; name one that did, or leave --feature out"
        )
    return LastLayer(watch.weight, _digest(watch.weight), name=f"{name}, input")


@contextmanager
def single_thread() -> Iterator[None]:
    """Compute with one thread inside: equal bytes are promised for equal thread counts only."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Watch(TorchDispatchMode):
    """Sees every operator; keeps data and weight of the last layer, or of the layer whose weight has one of these digests."""

    def __init__(self, digests: Set[str] | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as the class above
        self._digests = digests
        self.features: NDArray[Any] | None = None
        self.weight: NDArray[Any] | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        layer = _layer(func, args)
        if layer is not None:
            data, weight = (_numbers(part) for part in layer)
            if self._digests is None or _digest(weight) in self._digests:
                self.features, self.weight = data.copy(), weight.copy()
        return func(*args, **(kwargs or {}))


def _layer(func: Any, args: tuple[Any, ...]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Give data and weight of an operator that is a layer, quantised ones included."""
    places = LAYERS.get(func)
    if places is not None:
        return args[places[0]], args[places[1]]
    if getattr(func, "namespace", "") != "quantized":
        return None
    name = str(func).removeprefix("quantized.")
    unpack = next(
        (op for start, op in UNPACKING.items() if name.startswith((f"{start}.", f"{start}_relu", f"{start}_dyn"))), None
    )
    if unpack is None or len(args) < 2 or not isinstance(args[1], torch.ScriptObject):
        return None
    return args[0], getattr(torch.ops.quantized, unpack)(args[1])[0]


def _weights_by_layer(model: Model) -> dict[str, torch.Tensor]:
    """Give the weights of convolutions and linear layers by the layers' names; quantised layers keep theirs packed."""
    named = getattr(model, "behind", model)
    if not isinstance(named, torch.nn.Module):
        return {}
    return {
        name.removesuffix(".weight"): tensor
        for name, tensor in named.state_dict().items()
        if name.endswith(".weight") and isinstance(tensor, torch.Tensor) and tensor.ndim > 1
    }


def _numbers(tensor: torch.Tensor) -> NDArray[Any]:
    plain = tensor.dequantize() if tensor.is_quantized else tensor
    return plain.detach().cpu().contiguous().numpy()


def _digest(weight: NDArray[Any]) -> str:
    return sha256(f"{weight.dtype}{weight.shape}".encode() + weight.tobytes()).hexdigest()


def _call(model: Model, pictures: NDArray[np.uint8], spec: InputSpec, where: str) -> Any:
    try:
        with torch.no_grad():
            return model(torch.from_numpy(encode(pictures, spec)))
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise TargetError(f"{where}: torch refuses the pictures: {first}") from error


def _scores_of(answer: Any, spec: InputSpec, where: str) -> torch.Tensor:
    """Take the scores out of a tensor, a tuple or a dictionary of tensors."""
    if isinstance(answer, torch.Tensor):
        return answer
    parts = (
        answer if isinstance(answer, Mapping) else dict(enumerate(answer)) if isinstance(answer, tuple | list) else {}
    )
    tensors = {str(name): part for name, part in parts.items() if isinstance(part, torch.Tensor)}
    if spec.scores is not None and spec.scores in tensors:
        return tensors[spec.scores]
    fitting = [part for part in tensors.values() if part.ndim == 2 and part.shape[1] == spec.classes]
    if len(fitting) != 1:
        raise TargetError(
            f"{where}: answers {len(tensors)} tensors ({', '.join(tensors) or 'none'}), {len(fitting)} of them with "
            f'{spec.classes} scores a row; name one as scores = "..." in the spec'
        )
    return fitting[0]

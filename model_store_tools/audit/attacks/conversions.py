"""Lower precision: fp16, int8 by onnxruntime's own quantisers, int8 and int4 weights; and an optimiser after the
quantiser.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR
2018. Static quantisation is calibrated on the thief's benign pictures.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

from model_store_tools.audit.attacks.optimiser_passes import optimised
from model_store_tools.audit.contract import Artefact, Attack, Outcome, Share
from model_store_tools.audit.on_graph import load_graph, write_graph
from model_store_tools.audit.trainable import open_trainable
from ptynet_plugin.images.encode import encode

__all__ = ["ATTACKS"]

SOURCE = "Jacob et al., CVPR 2018; onnxruntime.quantization"
CALIBRATION = 64


class _Benign(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    """Feeds encoded pictures to the calibration, one at a time."""

    def __init__(self, name: str, pixels: NDArray[Any]) -> None:
        self._name, self._left = name, iter(pixels)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Give one picture, None at the end."""
        picture = next(self._left, None)
        return None if picture is None else {self._name: picture[None]}


def to_half(stolen: Artefact, share: Share, *, folder: Path, seed: int) -> Outcome:
    """Convert to fp16 inside, float32 outside; see `Run`."""
    model = load_graph(stolen, attack="fp16")
    with _quietly():
        made = convert_float_to_float16(model, keep_io_types=True)
    return Outcome(write_graph(stolen, made, folder))


def to_int8(
    stolen: Artefact, share: Share, *, folder: Path, seed: int, how: Callable[[Artefact, Share, Path], None]
) -> Outcome:
    """Quantise with `how`; see `Run` for the other arguments."""
    stolen.require("onnx", attack="int8")
    path = folder / "model.onnx"
    with _quietly():
        how(stolen, share, path)
    return Outcome(stolen.with_model(path), 0 if how is _dynamic else min(CALIBRATION, len(share)))


def weights_to(stolen: Artefact, share: Share, *, folder: Path, seed: int, bits: int) -> Outcome:
    """Round all weights to `bits` bits, symmetric, one scale a channel; see `Run` for the other arguments."""
    model = open_trainable(stolen)
    most = (1 << (bits - 1)) - 1
    with torch.no_grad():
        for weight in model.weights.values():
            if weight.ndim > 1:
                scale = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True).clamp_min(1e-12) / most
                weight.copy_((weight / scale).round() * scale)
    return Outcome(model.write(folder))


def _dynamic(stolen: Artefact, share: Share, path: Path) -> None:
    quantize_dynamic(stolen.model, path)


def _static(stolen: Artefact, share: Share, path: Path, *, form: QuantFormat, per_channel: bool) -> None:
    name = stolen.spec.input or onnx.load(str(stolen.model), load_external_data=False).graph.input[0].name
    pixels = encode(share.first(CALIBRATION).pictures, stolen.spec)
    quantize_static(stolen.model, path, _Benign(name, pixels), quant_format=form, per_channel=per_channel)


def _static_then_optimised(stolen: Artefact, share: Share, path: Path) -> None:
    between = path.with_name("quantised.onnx")
    _static(stolen, share, between, form=QuantFormat.QDQ, per_channel=True)
    optimised(between, path, level="all")


@contextmanager
def _quietly() -> Iterator[None]:
    """The converters advise at length, and warn of numbers that fp16 cannot hold."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


_INT8: tuple[tuple[str, Callable[[Artefact, Share, Path], None], bool], ...] = (
    ("int8, dynamic", _dynamic, False),
    ("int8, static QDQ", partial(_static, form=QuantFormat.QDQ, per_channel=False), True),
    ("int8, static QOperator, per channel", partial(_static, form=QuantFormat.QOperator, per_channel=True), False),
    ("int8, static QDQ, then optimiser", _static_then_optimised, True),
)
ATTACKS = (
    Attack("fp16", "weights", "onnxruntime.transformers.float16", to_half, promised=True, quick=True),
    *(
        Attack(name, "weights", SOURCE, partial(to_int8, how=how), promised=True, quick=quick)
        for name, how, quick in _INT8
    ),
    Attack("int8 weights", "weights", SOURCE, partial(weights_to, bits=8), promised=True),
    Attack("int4 weights", "weights", SOURCE, partial(weights_to, bits=4), promised=True, quick=True),
)

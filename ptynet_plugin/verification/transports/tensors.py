"""The tensors of the Open Inference Protocol v2, shared by its HTTP and gRPC forms.

Reads a model's metadata, decides how a picture is sent and which output holds the classes, and knows how bytes strings are
packed. Triton's two protocols and KServe's are this one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.errors import BadAnswer, UsageError
from ptynet_plugin.images.encode import encode
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.verification.endpoint import Picture
from ptynet_plugin.verification.pictures import compress

__all__ = [
    "DTYPES",
    "HIDDEN",
    "ModelMetadata",
    "Plan",
    "TensorMetadata",
    "metadata_from_spec",
    "pack_strings",
    "plan_request",
    "unpack",
]

DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
BYTES = "BYTES"
ENSEMBLE = "ensemble"
HIDDEN = (403, 405, 501)
"""Statuses with which a server keeps metadata to itself, rather than not knowing the model."""


@dataclass(frozen=True)
class TensorMetadata:
    """One input or output as the server announces it.

    Attributes:
        name: Its name in requests.
        datatype: A key of `DTYPES`, or "BYTES".
        shape: Sides, -1 where free; a batch side included where the model has one.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ModelMetadata:
    """What a server announces of a model."""

    name: str
    platform: str
    versions: tuple[str, ...]
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


@dataclass(frozen=True)
class Plan:
    """How a picture becomes a request.

    Attributes:
        name: Input to fill.
        datatype: Its datatype.
        shape: Shape to send; None where the tensor's own shape is sent as it is.
        batched: Whether the tensor keeps its leading side of 1.
        reads: "tensor", "png" or "jpeg".
        output: Output to read.
        asked: Outputs to ask for: that one; all of an ensemble, which in Triton 2.51 fails where a step's output is left out.
        spec: What the model reads.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] | None
    batched: bool
    reads: str
    output: str
    asked: tuple[str, ...]
    spec: InputSpec

    def tensor(self, picture: Picture) -> NDArray[Any]:
        """Give the array to send: numbers, or one byte string."""
        if self.reads != "tensor":
            octets = np.empty(self.shape or (1, 1), object)
            octets.fill(compress(picture, self.reads))
            return octets
        tensor = encode(picture[None], self.spec)
        return tensor if self.batched else tensor[0]


def plan_request(metadata: ModelMetadata, spec: InputSpec, *, send: str, classes: int) -> Plan:
    """Decide how to ask a model, from what it announces, the spec and the user's wish.

    Args:
        metadata: What the server announces.
        spec: What the claim, or the user, says the model reads.
        send: "auto", "tensor", "png" or "jpeg".
        classes: Number of classes, by which the output with the scores is known where it has no other mark.

    Raises:
        BadAnswer: Inputs or outputs leave no choice or too many, or disagree with the spec; the message names both sides.
        UsageError: `send` contradicts the input's datatype.
    """
    given = _chosen_input(metadata, spec)
    output = _chosen_output(metadata, spec, classes)
    everything = tuple(tensor.name for tensor in metadata.outputs)
    asked = everything if metadata.platform == ENSEMBLE else (output,)
    if given.datatype == BYTES:
        if send == "tensor":
            raise UsageError(
                f"--send tensor: input '{given.name}' of model '{metadata.name}' reads bytes; use png or jpeg"
            )
        shape = tuple(max(side, 1) for side in given.shape) or (1,)
        reads = "png" if send == "auto" else send
        return Plan(given.name, BYTES, shape, True, reads, output, asked, spec)
    if send in ("png", "jpeg"):
        raise UsageError(
            f"--send {send}: input '{given.name}' of model '{metadata.name}' reads {given.datatype} numbers"
        )
    spec = _with_dtype(spec, given, metadata.name)
    batched = _fits(given, spec, metadata.name)
    return Plan(given.name, given.datatype, None, batched, "tensor", output, asked, spec)


def metadata_from_spec(model: str, spec: InputSpec) -> ModelMetadata:
    """Stand in for metadata that a server keeps to itself (`HIDDEN`); the spec must name both tensors."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    given = TensorMetadata(spec.input or "", names[np.dtype(spec.dtype or "float32")], (-1, -1, -1, -1))
    return ModelMetadata(model, "", (), (given,), (TensorMetadata(spec.scores or "", "FP32", (-1, -1)),))


def pack_strings(items: Sequence[bytes]) -> bytes:
    """Pack byte strings as the protocol does: each after its length in 4 bytes, little-endian."""
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def unpack(octets: bytes, datatype: str, shape: Sequence[int]) -> NDArray[Any]:
    """Read a raw tensor.

    Raises:
        BadAnswer: Unknown datatype, or the bytes are more or fewer than the shape says.
    """
    if datatype == BYTES:
        return np.array(_strings(octets), object)
    if datatype not in DTYPES:
        raise BadAnswer(f"the answer's datatype is {datatype!r}, known: {', '.join(DTYPES)}, {BYTES}")
    dtype = DTYPES[datatype]
    expected = int(np.prod([int(side) for side in shape], dtype=np.int64)) * dtype.itemsize
    if len(octets) != expected:
        raise BadAnswer(f"the answer has {len(octets)} bytes, its shape {list(shape)} of {datatype} needs {expected}")
    return np.frombuffer(octets, dtype).reshape([int(side) for side in shape])


def _strings(octets: bytes) -> list[bytes]:
    items, at = [], 0
    while at < len(octets):
        size = int.from_bytes(octets[at : at + 4], "little")
        if at + 4 + size > len(octets):
            raise BadAnswer(f"the answer's byte strings are cut off at byte {len(octets)}")
        items.append(octets[at + 4 : at + 4 + size])
        at += 4 + size
    return items


def _chosen_input(metadata: ModelMetadata, spec: InputSpec) -> TensorMetadata:
    named = next((tensor for tensor in metadata.inputs if tensor.name == spec.input), None)
    if named is not None:
        return named
    if len(metadata.inputs) == 1:
        return metadata.inputs[0]
    names = ", ".join(tensor.name for tensor in metadata.inputs) or "none"
    raise BadAnswer(
        f"model '{metadata.name}' has the inputs {names}; name one in the spec ('input = ...') and give --spec"
    )


def _chosen_output(metadata: ModelMetadata, spec: InputSpec, classes: int) -> str:
    named = next((tensor.name for tensor in metadata.outputs if tensor.name == spec.scores), None)
    if named is not None:
        return named
    for fits in (_scores_classes, _holds_one_class, _holds_text, _any_output):
        fitting = [tensor.name for tensor in metadata.outputs if fits(tensor, classes)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            break
    names = ", ".join(tensor.name for tensor in metadata.outputs) or "none"
    raise BadAnswer(
        f"model '{metadata.name}' has the outputs {names}; name one in the spec ('scores = ...') and give --spec"
    )


def _scores_classes(tensor: TensorMetadata, classes: int) -> bool:
    return tensor.datatype in DTYPES and tensor.shape[-1:] == (classes,)


def _holds_one_class(tensor: TensorMetadata, classes: int) -> bool:
    """An integer a row: the number of the class."""
    return tensor.datatype in DTYPES and DTYPES[tensor.datatype].kind in "iu" and tensor.shape[-1:] == (1,)


def _holds_text(tensor: TensorMetadata, classes: int) -> bool:
    return tensor.datatype == BYTES


def _any_output(tensor: TensorMetadata, classes: int) -> bool:
    return True


def _with_dtype(spec: InputSpec, given: TensorMetadata, model: str) -> InputSpec:
    """Let the server's datatype decide among floating ones; a float for an integer or the reverse is another input."""
    if given.datatype not in DTYPES:
        raise BadAnswer(f"model '{model}': input '{given.name}' has datatype {given.datatype!r}, which is no picture")
    found, wanted = DTYPES[given.datatype], np.dtype(spec.dtype or "float32")
    if found == wanted:
        return spec
    if found.kind == wanted.kind == "f":
        return spec.model_copy(update={"dtype": found.name})
    raise BadAnswer(
        f"model '{model}' reads {given.datatype}, the spec says {wanted}; give --spec with the endpoint's own input"
    )


def _fits(given: TensorMetadata, spec: InputSpec, model: str) -> bool:
    """Compare shapes; tell whether the model has a batch side."""
    height, width = spec.size or (0, 0)
    sides = (spec.channels, height, width) if spec.layout != "NHWC" else (height, width, spec.channels)
    shape = given.shape
    batched = len(shape) == len(sides) + 1
    bare = shape[1:] if batched else shape
    same = len(bare) == len(sides) and all(
        found in (-1, 0) or wanted in (0, found) for found, wanted in zip(bare, sides, strict=True)
    )
    if not same or (batched and shape[0] not in (-1, 0, 1)):
        layout = spec.layout or "NCHW"
        raise BadAnswer(
            f"model '{model}': input '{given.name}' has shape {list(shape)}, the spec sends {[1, *sides]} ({layout}); "
            "is this the right model, or does it need --spec?"
        )
    return batched

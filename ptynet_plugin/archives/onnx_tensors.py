"""The tensors of an ONNX model, hashed as they are, and the digest of everything else in it. No torch, no onnxruntime.

Every tensor counts, wherever it hides: initializers, sparse ones, constants inside nodes, those of inner graphs and
functions. External data is hashed in pieces from its file and never loaded. `target_tensors` does the same for the target
inside a fused model: equal records prove that not one weight was touched.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto, helper, numpy_helper

from ptynet_plugin.archives.onnx_external import extent_of
from ptynet_plugin.archives.onnx_fused import target_of
from ptynet_plugin.archives.tensors import TensorRecord
from ptynet_plugin.errors import TargetError

__all__ = [
    "named_tensors",
    "onnx_tensors",
    "read_model",
    "record_of",
    "size_of",
    "structure_of",
    "target_records",
    "target_tensors",
]

PACKED = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
"""Types of which several elements share a byte, with their bits."""


def onnx_tensors(path: Path) -> Iterator[TensorRecord]:
    """Give a record of every tensor in an ONNX file.

    Raises:
        TargetError: No ONNX file, truncated, or external data that is missing, short or outside the model's folder.
    """
    model = read_model(path)
    for name, tensor in named_tensors(model):
        yield record_of(name, tensor, path.parent)


def target_tensors(path: Path) -> Iterator[TensorRecord]:
    """Give a record of every tensor of the target inside a fused ONNX file.

    Raises:
        TargetError: As `onnx_tensors`, or the file carries no PTYNet.
    """
    target = target_of(read_model(path), where=str(path))
    for name, tensor in named_tensors(target):
        yield record_of(name, tensor, path.parent)


def target_records(path: Path) -> tuple[dict[str, TensorRecord], str]:
    """Give the records of the target inside a fused ONNX file by name, and its structure's SHA-256 (`structure_of`).

    Raises:
        TargetError: As `target_tensors`.
    """
    target = target_of(read_model(path), where=str(path))
    records = {name: record_of(name, tensor, path.parent) for name, tensor in named_tensors(target)}
    return records, structure_of(target)


def read_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file without its external data.

    Raises:
        TargetError: It cannot be read, is empty, truncated, or no ONNX model.
    """
    try:
        model = onnx.load_model(path, format="protobuf", load_external_data=False)
    except (OSError, DecodeError, UnicodeDecodeError) as error:
        reason = "truncated, or no ONNX file" if isinstance(error, DecodeError) else error
        raise TargetError(f"{path}: cannot be read as ONNX ({reason}); copy or export it again") from error
    if not _readable(model):
        raise TargetError(f"{path}: has names that are no text: damaged, or no ONNX model; copy or export it again")
    if not model.HasField("graph") or not model.graph.output:
        raise TargetError(f"{path}: holds no graph with outputs: truncated, or no ONNX model; copy or export it again")
    return model


def named_tensors(model: onnx.ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Walk through all tensors of a model, each with a name of its own that says where it stands."""
    seen: dict[str, int] = {}
    for name, tensor in _all_tensors(model):
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name}#{seen[name]}"), tensor


def record_of(name: str, tensor: TensorProto, folder: Path) -> TensorRecord:
    """Make the record of one tensor.

    Args:
        name: As `named_tensors` gave it.
        tensor: Its data inline, or external.
        folder: Where the model lies.

    Raises:
        TargetError: Its type is unknown, or its data cannot be had.
    """
    dtype, shape = _dtype(tensor, name), tuple(tensor.dims)
    if tensor.data_location == TensorProto.EXTERNAL:
        digest = extent_of(tensor, folder, size=size_of(tensor)).sha256()
    else:
        digest = hashlib.sha256(_octets(tensor, name)).hexdigest()
    return TensorRecord(name, dtype, shape, digest)


def structure_of(model: onnx.ModelProto) -> str:
    """Give the SHA-256 of a model without its tensors' data: nodes, names, types, inputs, outputs, opsets, metadata.

    Whether a tensor lies inline or in which file makes no difference.
    """
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for _, tensor in named_tensors(bare):
        kept = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        tensor.CopyFrom(kept)
    return hashlib.sha256(b"ptynet/onnx-structure/v1\0" + bare.SerializeToString(deterministic=True)).hexdigest()


def _readable(message: Message) -> bool:
    """Tell whether all names are text: protobuf gives those of damaged files as bytes. Tensor data is not looked at."""
    if isinstance(message, TensorProto):
        return isinstance(message.name, str) and all(_readable(entry) for entry in message.external_data)
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        for item in [value] if isinstance(value, (str, bytes, Message)) else value:
            if isinstance(item, bytes) or (isinstance(item, Message) and not _readable(item)):
                return False
    return True


def _all_tensors(model: onnx.ModelProto) -> Iterator[tuple[str, TensorProto]]:
    yield from _graph_tensors(model.graph, "")
    for function in model.functions:
        yield from _function_tensors(function)
    for index, training in enumerate(model.training_info):
        yield from _graph_tensors(training.initialization, f"training{index}.initialization/")
        yield from _graph_tensors(training.algorithm, f"training{index}.algorithm/")


def _graph_tensors(graph: GraphProto, scope: str) -> Iterator[tuple[str, TensorProto]]:
    for tensor in graph.initializer:
        yield f"{scope}{tensor.name}", tensor
    for sparse in graph.sparse_initializer:
        yield f"{scope}{sparse.values.name}", sparse.values
        yield f"{scope}{sparse.values.name}.indices", sparse.indices
    yield from _node_tensors(graph.node, scope)


def _function_tensors(function: FunctionProto) -> Iterator[tuple[str, TensorProto]]:
    scope = f"{function.domain}:{function.name}:{function.overload}/"
    yield from _node_tensors(function.node, scope)
    for attribute in function.attribute_proto:
        yield from _attribute_tensors(attribute, f"{scope}.{attribute.name}")


def _node_tensors(nodes: Iterable[NodeProto], scope: str) -> Iterator[tuple[str, TensorProto]]:
    for node in nodes:
        for attribute in node.attribute:
            outputs = [name for name in node.output if name]
            owner = outputs[0] if outputs else node.name
            yield from _attribute_tensors(attribute, f"{scope}{owner}.{attribute.name}")


def _attribute_tensors(attribute: AttributeProto, name: str) -> Iterator[tuple[str, TensorProto]]:
    for tensor in ([attribute.t] if attribute.HasField("t") else []) + list(attribute.tensors):
        yield name, tensor
    sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for entry in sparse + list(attribute.sparse_tensors):
        yield name, entry.values
        yield f"{name}.indices", entry.indices
    for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
        yield from _graph_tensors(graph, f"{name}/")


def _dtype(tensor: TensorProto, name: str) -> str:
    kind = _kind(tensor)
    if kind in PACKED or kind == "STRING":
        return kind.lower()
    try:
        return str(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except KeyError:
        raise TargetError(f"tensor {name!r} has the unknown element type {tensor.data_type}") from None


def _kind(tensor: TensorProto) -> str:
    known = TensorProto.DataType.items()
    return next((name for name, number in known if number == tensor.data_type), "UNDEFINED")


def size_of(tensor: TensorProto) -> int:
    """Give the bytes that a tensor's type and shape ask for; its type must be known."""
    count: int = math.prod(tensor.dims)
    if (bits := PACKED.get(_kind(tensor))) is not None:
        return -(-count * bits // 8)
    width: int = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return count * width


def _octets(tensor: TensorProto, name: str) -> bytes:
    if tensor.data_type == TensorProto.STRING:
        return b"".join(len(text).to_bytes(8, "little") + text for text in tensor.string_data)
    octets = tensor.raw_data if tensor.HasField("raw_data") else _typed_octets(tensor, name)
    if len(octets) != size_of(tensor):
        raise TargetError(
            f"tensor {name!r} holds {len(octets)} bytes, its type and shape ask for {size_of(tensor)}; export the model again"
        )
    return octets


def _typed_octets(tensor: TensorProto, name: str) -> bytes:
    if _kind(tensor) in PACKED:
        return np.asarray(tensor.int32_data, dtype=np.int32).astype(np.uint8).tobytes()
    try:
        array = np.ascontiguousarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as error:
        raise TargetError(f"tensor {name!r} cannot be decoded ({error}); export the model again") from error
    return (array if sys.byteorder == "little" else array.byteswap()).tobytes()

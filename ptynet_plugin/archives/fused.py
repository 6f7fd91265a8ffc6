"""The target inside a fused model, whatever its engine: the records of its tensors, and its digest where one can be made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from onnx import TensorProto

from ptynet_plugin.archives import onnx_tensors, torch_tensors
from ptynet_plugin.archives.onnx_fused import target_of
from ptynet_plugin.archives.tensors import TensorRecord, combined_digest
from ptynet_plugin.archives.zip_archive import ZipArchive
from ptynet_plugin.errors import TargetError

__all__ = ["TargetSums", "onnx_sums_in_zip", "target_sums"]


@dataclass(frozen=True)
class TargetSums:
    """What a target is known by.

    Attributes:
        tensors: One record each.
        digest: Over tensors and graph; None where the graph cannot be told apart from PTYNet's (torch's formats compile both into
            one program: there the tensors alone are compared).
    """

    tensors: tuple[TensorRecord, ...]
    digest: str | None


def target_sums(path: Path, engine: str) -> TargetSums:
    """Sum the target inside a fused model.

    Args:
        path: The fused model, external data beside it.
        engine: "onnx", "torchscript" or "pt2".

    Raises:
        TargetError: The file cannot be read, or carries no PTYNet.
        ArchiveError: It does not say what PTYNet added to it.
    """
    if engine == "onnx":
        records, structure = onnx_tensors.target_records(path)
        return TargetSums(tuple(records.values()), combined_digest(records.values(), structure))
    return TargetSums(tuple(torch_tensors.target_tensors(path)), None)


def onnx_sums_in_zip(model: Path, archive: ZipArchive, member: str) -> TargetSums:
    """Sum the target inside a fused ONNX model of which external data is still packed: it is read where it lies.

    Args:
        model: The model's file, unpacked without its data.
        archive: What it came from, in canonical form.
        member: Its name there.

    Raises:
        TargetError: As `target_sums`; also where the data of a tensor is no member, or reaches beyond it.
    """
    target = target_of(onnx_tensors.read_model(model), where=str(model))
    folder = PurePosixPath(member).parent
    records = [
        onnx_tensors.record_of(name, _in_place(tensor, archive, folder), archive.path.resolve().parent)
        for name, tensor in onnx_tensors.named_tensors(target)
    ]
    return TargetSums(tuple(records), combined_digest(records, onnx_tensors.structure_of(target)))


def _in_place(tensor: TensorProto, archive: ZipArchive, folder: PurePosixPath) -> TensorProto:
    """Point a tensor's external data at its place in the zip file."""
    if tensor.data_location != TensorProto.EXTERNAL or tensor.data_type not in TensorProto.DataType.values():
        return tensor
    entries = {entry.key: entry.value for entry in tensor.external_data}
    member, size = str(folder / entries.get("location", "")), onnx_tensors.size_of(tensor)
    if member not in archive.names():
        raise TargetError(f"tensor {tensor.name!r} keeps its data in {member!r}, which is not inside the archive")
    start = _whole(entries.get("offset", "0"), tensor.name)
    if start + size > archive.size(member) or _whole(entries.get("length", str(size)), tensor.name) != size:
        raise TargetError(
            f"tensor {tensor.name!r} needs {size} bytes from {start} of {member}, which has {archive.size(member)}"
        )
    place = {
        "location": archive.path.resolve().name,
        "offset": str(archive.offset(member) + start),
        "length": str(size),
    }
    moved = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    moved.data_location = TensorProto.EXTERNAL
    for key, value in place.items():
        moved.external_data.add(key=key, value=value)
    return moved


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise TargetError(f"tensor {name!r} has an offset or length {text[:40]!r} that is no number")
    return int(text)

"""The target inside a fused model, whatever its engine: the records of its tensors, and its digest where one can be made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ptynet_plugin.archives import onnx_tensors, torch_tensors
from ptynet_plugin.archives.tensors import TensorRecord, combined_digest

__all__ = ["TargetSums", "target_sums"]


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

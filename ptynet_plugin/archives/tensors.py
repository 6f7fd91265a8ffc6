"""What pins a target: the name, type, shape and SHA-256 of each of its tensors, and one digest over all of them.

"Untouched" is checked with these, not promised: the manifest keeps the records made before packaging, and a checker makes
them again from the archive. No format is known here; `onnx_tensors` reads ONNX.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["TensorRecord", "combined_digest", "differences"]


@dataclass(frozen=True)
class TensorRecord:
    """One tensor of a target.

    Attributes:
        name: Unique within its target.
        dtype: Element type in numpy's words: "float32", "int64", "bfloat16", "int4", "string".
        shape: Its dimensions; () for a scalar.
        sha256: 64 hex digits over its raw bytes, little-endian, row-major.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str


def combined_digest(records: Iterable[TensorRecord], structure: str) -> str:
    """Give one SHA-256 (64 hex digits) for a whole target.

    Args:
        records: Its tensors, in any order.
        structure: SHA-256 of what else decides its answers: the graph, the program.
    """
    rows = sorted([r.name, r.dtype, list(r.shape), r.sha256] for r in records)
    text = json.dumps({"structure": structure, "tensors": rows}, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(b"ptynet/target/v1\0" + text.encode()).hexdigest()


def differences(expected: Mapping[str, TensorRecord], found: Mapping[str, TensorRecord]) -> list[str]:
    """Say in words where two sets of records differ: one sentence per tensor, sorted by name, none if they are equal."""
    return [
        sentence
        for name in sorted(expected.keys() | found.keys())
        if (sentence := _difference(name, expected.get(name), found.get(name)))
    ]


def _difference(name: str, expected: TensorRecord | None, found: TensorRecord | None) -> str:
    if expected == found:
        return ""
    if found is None:
        return f"tensor {name!r} is missing"
    if expected is None:
        return f"tensor {name!r} was added"
    if (expected.dtype, expected.shape) != (found.dtype, found.shape):
        return f"tensor {name!r} is {found.dtype}{list(found.shape)}, expected {expected.dtype}{list(expected.shape)}"
    return f"tensor {name!r} has sha256 {found.sha256[:16]}..., expected {expected.sha256[:16]}..."

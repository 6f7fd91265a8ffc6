"""What beside its tensors decides a torch model's answers, as one SHA-256: its program.

TorchScript: its source, and every attribute that is no tensor. An exported program: its graph, without notes on where in
somebody's source each node came from. Debug records do not count: they hold paths of the machine that exported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ptynet_plugin.archives.safe_pickle import Named, leaves, read_pickle
from ptynet_plugin.archives.torch_zip import TorchZip
from ptynet_plugin.errors import TargetError

__all__ = ["torch_structure"]

DEBUG = ".debug_pkl"
NOTES = frozenset({"metadata", "torch_version", "schema_version"})


def torch_structure(path: Path) -> str:
    """Give the SHA-256 (64 hex digits) of a torch file's program.

    Raises:
        TargetError: No torch file, or a damaged one.
    """
    digest = hashlib.sha256(b"ptynet/torch-structure/v1\0")
    with TorchZip(path) as file:
        for part in _program(file):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _program(file: TorchZip) -> Iterator[bytes]:
    yield file.format.encode()
    if file.format == "pt2":
        for name in file.names("models/"):
            yield name.encode()
            yield _without_notes(file, name)
        return
    for name in file.names("code/"):
        if not name.endswith(DEBUG):
            yield name.encode()
            yield file.read(name)
    pickled = read_pickle(file.read("data.pkl"), where=file.where)
    yield json.dumps(pickled.names).encode()
    for path, leaf in leaves(pickled.value, where=file.where):
        if not isinstance(leaf, Named):
            yield f"{path}={leaf!r}".encode()


def _without_notes(file: TorchZip, name: str) -> bytes:
    try:
        return json.dumps(_stripped(json.loads(file.read(name))), sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:
        raise TargetError(f"{file.where}: {name} is not readable JSON ({error})") from None


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _stripped(part) for name, part in value.items() if name not in NOTES}
    return [_stripped(part) for part in value] if isinstance(value, list) else value

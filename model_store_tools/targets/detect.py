"""What kind of model a path or a name stands for, told from its first bytes, and the loader for it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from model_store_tools.targets.base import Target
from model_store_tools.targets.onnx import load_onnx
from ptynet_plugin.archives.safe_pickle import Named, read_pickle
from ptynet_plugin.archives.torch_zip import TorchZip
from ptynet_plugin.errors import TargetError, UsageError

__all__ = ["load_target"]

FACTORY = re.compile(r"(?:[\w./\\~-]+\.py|[A-Za-z_][\w.]*):[A-Za-z_][\w.]*")
ZIP, HDF5, PICKLE, GZIP = b"PK\x03\x04", b"\x89HDF", b"\x80", b"\x1f\x8b"
FACTORY_HINT = "give its architecture as `package.module:factory` and the file as --weights"


def load_target(
    name: str | Path, *, weights: Path | None = None, allow_pickle: bool = False, to_opset: int | None = None
) -> Target:
    """Load a target of any kind.

    Args:
        name: A file (ONNX, TorchScript, `.pt2`), or `package.module:factory`, or `file.py:factory`.
        weights: For a factory: safetensors, or a checkpoint that holds tensors alone.
        allow_pickle: Load also what runs its author's code: pickled modules, and programs that hold more than tensors.
        to_opset: For ONNX: convert to this opset first.

    Raises:
        TargetError: No such file, no model, a model of a kind that cannot be marked, or one that would run code.
        UsageError: An option that this kind of target does not take.
    """
    path = Path(name)
    if not path.exists() and FACTORY.fullmatch(str(name)):
        _refuse(to_opset is not None, "--to-opset is for ONNX targets", str(name))
        _require_torch(str(name))
        from model_store_tools.targets.module import load_module  # noqa: PLC0415 -- torch takes seconds to import

        return load_module(str(name), weights=weights)
    _refuse(weights is not None, f"--weights {weights} is for `package.module:factory` targets", str(name))
    kind = _kind(path)
    if kind == "onnx":
        return load_onnx(path, to_opset=to_opset)
    _refuse(to_opset is not None, "--to-opset is for ONNX targets", str(name))
    return _torch_target(path, kind, allow_pickle=allow_pickle)


def _refuse(condition: bool, reason: str, where: str) -> None:
    if condition:
        raise UsageError(f"{where}: {reason}; leave it out")


def _kind(path: Path) -> str:
    if path.is_dir():
        raise TargetError(
            f"{path}: a folder, and no model repository: neither config.pbtxt nor a model file is where Triton looks"
        )
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise TargetError(f"{path}: cannot be read ({error.strerror or error}); check the name") from error
    if not start:
        raise TargetError(f"{path}: is empty; fetch it again")
    if start.startswith(ZIP):
        return "zip"
    if start.startswith(PICKLE):
        return "pickle"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        raise TargetError(f"{path}: safetensors hold weights without a network; {FACTORY_HINT}")
    for magic, what in ((HDF5, "a Keras or HDF5 file"), (GZIP, "a gzip file"), (b"RIFF", "a picture or sound")):
        if start.startswith(magic):
            raise TargetError(f"{path}: {what} is no target; convert it to ONNX first")
    return "onnx"


def _require_torch(where: str) -> None:
    if importlib.util.find_spec("torch") is None:
        raise UsageError(
            f"{where}: this target needs torch, which is not installed; pip install 'ptynet-plugin[package]'"
        )


def _torch_target(path: Path, kind: str, *, allow_pickle: bool) -> Target:
    _require_torch(str(path))
    from model_store_tools.targets.exported import ExportedTarget  # noqa: PLC0415 -- torch takes seconds to import
    from model_store_tools.targets.torchscript import ScriptTarget  # noqa: PLC0415 -- each kind of target loads its own library

    if kind == "zip":
        with TorchZip(path) as file:
            format_, weights_only = file.format, file.format == "saved" and _weights_only(file)
        if format_ == "torchscript":
            return ScriptTarget(path)
        if format_ == "pt2":
            return ExportedTarget(path, allow_pickle=allow_pickle)
        if weights_only:
            raise TargetError(f"{path}: holds weights without a network; {FACTORY_HINT}")
    if not allow_pickle:
        raise TargetError(
            f"{path}: a pickle, and loading a pickle runs whatever code it holds; save the model as TorchScript, with "
            f"torch.export.save or to ONNX, or, where it holds weights alone, {FACTORY_HINT}; "
            "pass --allow-pickle only for a file you made yourself"
        )
    return _unpickled(path)


def _weights_only(file: TorchZip) -> bool:
    """Tell a checkpoint (names and tensors) from a pickled module, without loading either."""
    value = read_pickle(file.read("data.pkl"), where=file.where).value
    return isinstance(value, dict) or (isinstance(value, Named) and value.name.startswith("torch._utils._rebuild_"))


def _unpickled(path: Path) -> Target:
    import torch  # noqa: PLC0415 -- each kind of target loads its own library

    from model_store_tools.targets.module import ModuleTarget  # noqa: PLC0415 -- each kind of target loads its own library
    from model_store_tools.targets.torch_running import first_line, quietly  # noqa: PLC0415 -- each kind of target loads its own library

    try:
        with quietly():
            found = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # unpickling runs foreign code
        raise TargetError(f"{path}: cannot be unpickled: {type(error).__name__}: {first_line(error)}") from error
    if isinstance(found, dict):
        raise TargetError(f"{path}: holds weights without a network; {FACTORY_HINT}")
    if not isinstance(found, torch.nn.Module):
        raise TargetError(f"{path}: holds a {type(found).__name__}, expected a torch.nn.Module")
    return ModuleTarget(found.eval(), where=str(path))

"""An `nn.Module` as target: from Python, or from `package.module:factory` with weights beside it.

It has no file of its own to serve: `convert` makes one. None of its flags and tensors is changed on the way.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model_store_tools.targets.base import Findings
from model_store_tools.targets.exported import DTYPES
from model_store_tools.targets.torch_records import module_tensors
from model_store_tools.targets.torch_running import first_line, quietly
from model_store_tools.targets.torch_target import TorchTarget
from ptynet_plugin.archives.tensors import TensorRecord
from ptynet_plugin.errors import TargetError
from ptynet_plugin.spec import InputSpec

__all__ = ["ModuleTarget", "evaluating", "load_module", "load_weights", "make_module"]

INSIDE = ("state_dict", "model_state_dict", "model", "net", "weights")
"""Names under which training scripts keep the weights in their checkpoints."""

WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""

COUNTER = "num_batches_tracked"
"""A buffer that counts training steps and that older checkpoints lack; no answer depends on it."""


class ModuleTarget(TorchTarget):
    """A module in memory.

    Args:
        model: Its answers must be those of evaluation; it is asked in evaluation mode and left as it was.
        where: How messages name it.
    """

    kind = "module"
    path = None

    def __init__(self, model: nn.Module, *, where: str = "the module") -> None:
        self.model, self.where = model, where

    def tensors(self) -> Iterator[TensorRecord]:
        """Give a record of every parameter and buffer."""
        return module_tensors(self.model)

    def structure(self) -> str:
        """Give the SHA-256 of its tree of classes and their settings; the code of the classes is not in it."""
        lines = [
            f"{name}={type(part).__module__}.{type(part).__qualname__}({part.extra_repr()})"
            for name, part in self.model.named_modules()
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def findings(self) -> Findings:
        """Tell the element type of its parameters; everything else is asked."""
        first = next((part.dtype for part in self.model.parameters() if part.is_floating_point()), None)
        return Findings(dtype=None if first is None or first in (torch.float32, torch.bfloat16) else DTYPES.get(first))

    def module(self, spec: InputSpec) -> nn.Module:
        """Give the module behind a door that asks it in evaluation mode."""
        return _Door(self.model)


class _Door(nn.Module):
    """Asks a module in evaluation mode, and puts its flags back."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.training = False
        self._model = (model,)  # in a tuple, so that it does not become a part of the door and share its flags

    @property
    def behind(self) -> nn.Module:
        """The module itself, whose names a door does not have."""
        return self._model[0]

    def forward(self, pixels: Tensor) -> Any:
        with evaluating(self._model[0]) as model:
            return model(pixels)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Have a module in evaluation mode for a while, each part's own flag restored afterwards."""
    before = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for part, training in before:
            part.training = training


def load_module(name: str, *, weights: Path | None = None) -> ModuleTarget:
    """Make a module from `package.module:factory` or `file.py:factory` and load its weights.

    Raises:
        TargetError: No such module or factory, it makes no `nn.Module`, or the weights are not its.
    """
    model = make_module(name)
    if weights is not None:
        load_weights(model, weights, where=name)
    return ModuleTarget(model.eval(), where=name)


def make_module(name: str) -> nn.Module:
    """Import and call a factory; a class and a module object will do as well.

    Raises:
        TargetError: It cannot be imported, fails, or gives no `nn.Module`.
    """
    place, _, path = name.rpartition(":")
    found: Any = _imported(place, name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise TargetError(f"{name}: {place} has no {part!r}; it has {_public(found)}")
        found = getattr(found, part)
    if not isinstance(found, nn.Module):
        try:
            found = found()
        except Exception as error:  # the factory is foreign code and raises what it likes
            raise TargetError(f"{name}: calling it without arguments fails: {first_line(error)}") from error
    if not isinstance(found, nn.Module):
        raise TargetError(f"{name}: gives a {type(found).__name__}, expected a torch.nn.Module")
    return found


def _imported(place: str, name: str) -> ModuleType:
    try:
        if place.endswith(".py"):
            return _from_file(Path(place))
        with _working_directory_first():
            return importlib.import_module(place)
    except Exception as error:  # importing runs foreign code
        raise TargetError(f"{name}: {place} cannot be imported: {type(error).__name__}: {first_line(error)}") from error


def _from_file(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(path.stem, path)
    if specification is None or specification.loader is None:
        raise ImportError(f"{path} is no Python file")
    made = importlib.util.module_from_spec(specification)
    sys.modules.setdefault(path.stem, made)
    specification.loader.exec_module(made)
    return made


@contextmanager
def _working_directory_first() -> Iterator[None]:
    """Find modules lying where the command is run, as `python -m` does."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)


def _public(found: Any) -> str:
    return ", ".join(name for name in vars(found) if not name.startswith("_")) or "nothing"


def load_weights(model: nn.Module, path: Path, *, where: str) -> None:
    """Load weights from safetensors, or from a torch checkpoint without running what a pickle asks for.

    Raises:
        TargetError: The file cannot be read, or its names and shapes are not the module's.
    """
    held = _state(path)
    own = dict(model.state_dict())
    for wrapper in WRAPPERS:
        if (
            held
            and all(name.startswith(wrapper) for name in held)
            and not any(name.startswith(wrapper) for name in own)
        ):
            held = {name.removeprefix(wrapper): value for name, value in held.items()}
    lacking = sorted(name for name in own.keys() - held.keys() if not name.endswith(COUNTER))
    beyond = sorted(held.keys() - own.keys())
    if lacking or beyond:
        listed = "; ".join(filter(None, (_some("lacks", lacking), _some("has besides", beyond))))
        raise TargetError(f"{path}: not the weights of {where}: it {listed}")
    try:
        model.load_state_dict({name: held.get(name, own[name]) for name in own}, strict=True)
    except RuntimeError as error:
        raise TargetError(f"{path}: not the weights of {where}: {str(error).splitlines()[-1].strip()}") from error


def _some(verb: str, names: list[str]) -> str:
    return f"{verb} {len(names)} tensors ({', '.join(names[:3])}{', ...' if names[3:] else ''})" if names else ""


def _state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(str(path)))
        except Exception as error:  # safetensors has an error class of its own and lets OSErrors through
            raise TargetError(f"{path}: cannot be read as safetensors: {first_line(error)}") from error
    try:
        with quietly():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises whatever the file makes it stumble over
        # torch's own words advise to load such a file unsafely
        reason = "it holds more than tensors" if isinstance(error, UnpicklingError) else first_line(error)
        raise TargetError(
            f"{path}: cannot be read as weights alone: {reason}; save `model.state_dict()` as safetensors"
        ) from error
    return _tensors_of(content, path)


def _tensors_of(content: Any, path: Path) -> dict[str, Tensor]:
    for name in INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not all(isinstance(part, Tensor) for part in content.values()):
        raise TargetError(f"{path}: holds no state_dict (names and tensors), alone or under one of {', '.join(INSIDE)}")
    return dict(content)

"""Read what a pickle holds without running what it asks for.

`pickle` calls whatever a file names: reading a model that way is running it. Here no name is ever looked up: every one
becomes an inert `Named` of its own, calls and states are written down on it and nothing happens. What tensors a torch
file holds, and whether it asks for anything beyond tensors, can so be told of a hostile file too.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ptynet_plugin.errors import TargetError

__all__ = ["Named", "Pickled", "leaves", "read_pickle"]

MOST_NODES = 2_000_000
"""Most values walked in one pickle: shared ones count each time, so that a file cannot make the walk explode."""


class Named:
    """Stands for something a pickle names, and remembers what it was called with; one subclass a name.

    Attributes:
        name: What the pickle named, like "torch._utils._rebuild_tensor_v2".
        arguments: What it was called with, or made from.
        state: What was put into it afterwards; None if nothing was.
    """

    name = ""
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> Named:
        """Make one, whatever the arguments."""
        made = object.__new__(cls)
        object.__setattr__(made, "arguments", arguments)
        object.__setattr__(made, "state", None)
        return made

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        object.__setattr__(self, "state", state)

    def __setitem__(self, key: Any, value: Any) -> None:
        items = self.state if isinstance(self.state, dict) else {}
        object.__setattr__(self, "state", {**items, key: value})

    def extend(self, values: list[Any]) -> None:
        """Take the items of a list-like object."""
        items = self.state if isinstance(self.state, list) else []
        object.__setattr__(self, "state", [*items, *values])


@dataclass(frozen=True)
class Pickled:
    """What one pickle holds.

    Attributes:
        value: Its value, with `Named` in place of everything that is not a plain Python value.
        names: Everything it names, in order of first use: what loading it would call or make.
    """

    value: Any
    names: tuple[str, ...]


class _Reader(pickle.Unpickler):
    def __init__(self, octets: bytes) -> None:
        super().__init__(io.BytesIO(octets))
        self.known: dict[str, Any] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        path = f"{module}.{name}"
        if path not in self.known:
            self.known[path] = _Ordered if path == "collections.OrderedDict" else type(path, (Named,), {"name": path})
        return self.known[path]

    def persistent_load(self, pid: Any, /) -> Any:
        stored = object.__new__(_Stored)
        object.__setattr__(stored, "arguments", pid if isinstance(pid, tuple) else (pid,))
        object.__setattr__(stored, "state", None)
        return stored


class _Ordered(dict[Any, Any]):
    """An OrderedDict whose attributes (torch keeps version notes there) are dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Stored(Named):
    """What a pickle keeps outside itself: a storage."""

    name = "storage"


def read_pickle(octets: bytes, *, where: str) -> Pickled:
    """Read a pickle without looking up a name in it.

    Args:
        octets: The first pickle in it is read; what follows is ignored, as `pickle.loads` does.
        where: Name of the file in messages.

    Raises:
        TargetError: It is no pickle, or a damaged one.
    """
    reader = _Reader(octets)
    try:
        value = reader.load()
    except Exception as error:  # noqa: BLE001 -- a damaged pickle raises whatever its opcodes stumble over
        raise TargetError(f"{where}: not a readable pickle ({type(error).__name__}: {error})") from None
    return Pickled(value, tuple(reader.known))


def leaves(value: Any, *, where: str) -> Iterator[tuple[str, Any]]:
    """Walk a value depth first and give what is no container, with its dotted path.

    A `Named` with a state is a container: its state is walked. One without is a leaf, and so is a torch rebuild call.

    Raises:
        TargetError: The value contains itself, or is too large to walk.
    """
    walk = _Walk(where)
    yield from walk.under("", value, ())


class _Walk:
    def __init__(self, where: str) -> None:
        self.where, self.visited = where, 0

    def under(self, path: str, value: Any, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
        self.visited += 1
        if self.visited > MOST_NODES or id(value) in above:
            raise TargetError(f"{self.where}: its pickle contains itself, or over {MOST_NODES} values")
        parts = _parts(value)
        if parts is None:
            yield path, value
            return
        for name, part in parts.items():
            yield from self.under(f"{path}.{name}" if path else str(name), part, (*above, id(value)))


def _parts(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, Named):
        return _named_parts(value)
    if isinstance(value, dict):
        return value
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    return None


def _named_parts(value: Named) -> Mapping[Any, Any] | None:
    if value.name.startswith("torch.jit._pickle.") and value.arguments:
        return _parts(value.arguments[0]) or {}
    return None if value.state is None else _parts(value.state) or {"state": value.state}

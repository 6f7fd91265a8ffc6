"""A class map from a file: what an endpoint with merged, renumbered or hidden classes answers for each class of a claim.

    ["cat", "cat", "dog", 3, null]        the claim has five classes; the last one is hidden

Names are the endpoint's, from the labels file of `--spec`. The map is frozen in the claim's ledger before the order is drawn, and
every trial's null rate then is |g^-1(answer)| / C.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ptynet_plugin.errors import UsageError
from ptynet_plugin.statistics.class_map import ClassMap

__all__ = ["read_class_map"]

FILE_LIMIT = 16 << 20


def read_class_map(path: Path, *, classes: int, names: Sequence[str] | None) -> ClassMap:
    """Read a class map.

    Args:
        path: JSON, a list with one entry per class of the claim.
        classes: Number of classes the endpoint tells apart.
        names: Their names, or None.

    Raises:
        UsageError: No such list, or an entry that is no class of the endpoint.
    """
    try:
        if path.stat().st_size > FILE_LIMIT:
            raise UsageError(f"--class-map {path}: larger than any class map")
        entries: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--class-map {path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--class-map {path}: is no JSON ({error})") from None
    if not isinstance(entries, list) or len(entries) < 2:
        raise UsageError(f"--class-map {path}: expected a list with one entry per class of the claim")
    known = {name: index for index, name in enumerate(names or ())}
    return ClassMap(tuple(_class(entry, at, path, classes, known) for at, entry in enumerate(entries)))


def _class(entry: Any, at: int, path: Path, classes: int, known: dict[str, int]) -> int | None:
    if entry is None:
        return None
    index = known.get(entry) if isinstance(entry, str) else entry
    if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < classes:
        return index
    raise UsageError(
        f"--class-map {path}: entry {at} is {entry!r}, no class of the endpoint's {classes}"
        + ("" if known else "; names need --spec with a labels file")
    )

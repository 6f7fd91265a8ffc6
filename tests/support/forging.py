"""What a forger of bundles needs: every place he could edit, and what both checkers say of the result."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ptynet_plugin.errors import IntegrityError
from ptynet_plugin.evidence import check_bundle as alone
from ptynet_plugin.evidence.checking import check_bundle


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value, the whole included."""
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield from places(entry, (*path, key))


def judged(folder: Path) -> tuple[str, str]:
    """What both checkers say; nothing but their own errors may come out of them."""
    try:
        ours = check_bundle(folder).verdict
    except IntegrityError as error:
        assert "\n" not in str(error)
        ours = "refused"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            theirs = alone.check(folder)
    except alone.Broken:
        theirs = "refused"
    return ours, theirs

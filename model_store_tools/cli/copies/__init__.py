"""`ptynet copies ...`: a copy for every customer. One file per verb."""

from __future__ import annotations

from collections.abc import Callable

from model_store_tools.cli.copies.countersign import countersign
from model_store_tools.cli.copies.export import export
from model_store_tools.cli.copies.issue import issue
from model_store_tools.cli.copies.list import list_
from model_store_tools.cli.copies.restore import restore
from model_store_tools.cli.copies.revoke import revoke
from model_store_tools.cli.copies.show import show

__all__ = ["COPIES_VERBS"]

COPIES_VERBS: tuple[Callable[..., None], ...] = (issue, list_, show, revoke, export, countersign, restore)

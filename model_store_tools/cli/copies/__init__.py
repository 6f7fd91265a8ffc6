"""`ptynet copies ...`: a copy for every customer. One file per verb."""

from __future__ import annotations

from model_store_tools.cli.copies.issue import issue

__all__ = ["COPIES_VERBS"]

COPIES_VERBS = (issue,)

"""Registries to work on: every test that asks for `url` runs on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from model_store_tools.registry import Registry

OWNER = "0e" * 32


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Address of a registry that does not exist yet."""
    return f"sqlite:///{tmp_path / 'copies.db'}"


@pytest.fixture
def registry(url: str) -> Iterator[Registry]:
    """A new registry, open."""
    with Registry.open(url, owner=OWNER) as made:
        yield made

"""Registries to work on: a test that asks for `url` runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_store_tools.registry import Registry
from model_store_tools.serving.postgres import Postgres, running_postgres

OWNER = "0e" * 32


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests; each makes a database of its own. Tests that ask for it are marked `postgresql`."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a registry that does not exist yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'copies.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.make_database(f"test_{secrets.token_hex(6)}")


@pytest.fixture
def registry(url: str) -> Iterator[Registry]:
    """A new registry, open."""
    with Registry.open(url, owner=OWNER) as made:
        yield made

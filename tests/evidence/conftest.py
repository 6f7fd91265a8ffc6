"""One bundle that shows the mark, made once, and copies of it to tamper with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.bundles import make_bundle, make_questions


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shown")
    assert make_bundle(folder / "bundle", folder / "claim", make_questions()) == "shown"
    return folder / "bundle"


@pytest.fixture
def bundle(shown: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    shutil.copytree(shown, tmp_path / "bundle")
    return tmp_path / "bundle"

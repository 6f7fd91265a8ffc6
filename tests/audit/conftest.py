"""What the proving ground's tests attack."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.audit_case import AuditCase, case_of, small_target


@pytest.fixture(scope="session")
def audit_case(tmp_path_factory: pytest.TempPathFactory, quick_mark_once: Path) -> AuditCase:
    """An ONNX archive for Triton, for reading alone."""
    folder = tmp_path_factory.mktemp("audit")
    shutil.copytree(quick_mark_once, folder / "MARK")
    return case_of(folder, str(small_target(folder / "target.onnx")))


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """An empty folder for one attack."""
    folder = tmp_path / "attack"
    folder.mkdir()
    return folder

"""The small claim that verification tests run against."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.verification_case import Case, make_claim


@pytest.fixture(scope="session")
def known_case() -> Case:
    return Case(make_claim(), Path())


@pytest.fixture(scope="session")
def known_case_of_three_covers() -> Case:
    return Case(make_claim(covers=3), Path())


@pytest.fixture
def case(known_case: Case, tmp_path: Path) -> Case:
    (tmp_path / "claim").mkdir()
    return known_case.in_folder(tmp_path / "claim")


@pytest.fixture
def case_of_three_covers(known_case_of_three_covers: Case, tmp_path: Path) -> Case:
    (tmp_path / "claim").mkdir()
    return known_case_of_three_covers.in_folder(tmp_path / "claim")

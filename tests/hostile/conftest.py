"""A small claim that stolen models are asked about."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.verification_case import Case, make_claim


@pytest.fixture(scope="session")
def known_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(make_claim(), Path(tmp_path_factory.mktemp("claim")))

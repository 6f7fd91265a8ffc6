"""The claim that most tests here look at."""

from __future__ import annotations

import pytest

from ptynet_plugin.claims import Claim
from tests.support.small_claims import make_claim


@pytest.fixture
def claim() -> Claim:
    return make_claim()

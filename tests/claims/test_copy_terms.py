from __future__ import annotations

import numpy as np
import pytest

from ptynet_plugin.claims import read_claim, write_claim
from ptynet_plugin.claims.terms import CopyTerms
from ptynet_plugin.errors import ClaimError
from ptynet_plugin.images.probes import ProbeDesign
from ptynet_plugin.spec import InputSpec
from tests.support.small_claims import SECRET, make_claim

DESIGN = ProbeDesign(color="RGB", bits=64, symbols=128)
COPIES = CopyTerms(positions=80, quick=12, coalition=4)


def spec(classes: int) -> InputSpec:
    return InputSpec(color="RGB", output="logits", classes=classes, size=(8, 8))


def test_a_plain_claim_says_nothing_of_copies() -> None:
    claim = make_claim()
    assert not any(name.startswith("copies") for name in claim.openings)
    assert claim.terms.copies is None
    assert claim.terms.ownership == range(21)
    assert claim.terms.null_rate == 0.1


def test_symbols_are_shared_out_by_number(tmp_path) -> None:
    claim = make_claim(design=DESIGN, copies=COPIES)
    terms = claim.terms
    assert terms.copies == COPIES
    assert (terms.pairs, terms.quick) == (range(80), range(80, 92))
    assert (terms.singles, terms.sealed) == (range(92, 112), range(112, 128))
    write_claim(tmp_path / "claim", claim)
    assert read_claim(tmp_path / "claim") == claim


@pytest.mark.parametrize(("classes", "asked", "null_rate"), [(10, range(80), 0.2), (9, range(92, 112), 1 / 9)])
def test_ownership_is_shown_by_pairs_from_ten_classes(classes: int, asked: range, null_rate: float) -> None:
    claim = make_claim(design=DESIGN, copies=COPIES, spec=spec(classes))
    assert sorted(claim.order("a run")) == list(asked)
    assert sorted(claim.order("a run", reserve=True)) == list(range(112, 128))
    assert claim.terms.null_rate == pytest.approx(null_rate)


def test_pairs_are_two_different_classes_and_follow_the_salt() -> None:
    claim, other = make_claim(design=DESIGN, copies=COPIES), make_claim(design=DESIGN, copies=COPIES, tau=0.85)
    pairs = claim.pairs(SECRET)
    assert pairs.shape == (80, 2)
    assert np.all(pairs[:, 0] != pairs[:, 1])
    assert np.any(pairs != other.pairs(SECRET))


@pytest.mark.parametrize(
    ("copies", "classes", "message"),
    [
        (CopyTerms(positions=104, quick=12, coalition=4), 10, "104 positions and 12 quick symbols do not fit into 128"),
        (CopyTerms(positions=112, quick=0, coalition=4), 5, "with 5 classes ownership needs symbols of one label"),
    ],
)
def test_shares_that_cannot_be_are_refused(copies: CopyTerms, classes: int, message: str) -> None:
    with pytest.raises(ClaimError, match=message):
        make_claim(design=DESIGN, copies=copies, spec=spec(classes))

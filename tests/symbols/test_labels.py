"""Labels are uniform, bound to everything they were drawn from, and the same for ever."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from ptynet_plugin.symbols.encoding import encode, tagged_digest
from ptynet_plugin.symbols.labels import label_pairs, label_table

NONCES = [bytes([place % 256, place // 256]) * 16 for place in range(2048)]
SALT = bytes(range(32))

KEPT_LABELS = [2, 7, 7, 9, 0, 5, 5, 9]
KEPT_PAIRS = [[2, 5], [7, 1], [3, 7]]
KEPT_DIGEST = "d3fe26357a9bba193301e9aea0456145f520f3f02501662abc5a0814fc02a7d3"


def test_labels_are_kept_for_ever() -> None:
    assert label_table(NONCES[:8], salt=SALT, model_id="model", classes=10).tolist() == KEPT_LABELS
    assert label_pairs(NONCES[:3], salt=SALT, model_id="model", classes=10).tolist() == KEPT_PAIRS


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_labels_are_uniform(classes: int) -> None:
    drawn = label_table(NONCES * 4, salt=SALT, model_id="model", classes=classes)
    assert drawn.dtype == np.int64
    assert chisquare(np.bincount(drawn, minlength=classes)).pvalue > 1e-3


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_pairs_are_uniform_over_ordered_pairs_of_different_labels(classes: int) -> None:
    pairs = label_pairs(NONCES, salt=SALT, model_id="model", classes=classes)
    assert np.all(pairs[:, 0] != pairs[:, 1])
    counts = np.zeros((classes, classes))
    np.add.at(counts, (pairs[:, 0], pairs[:, 1]), 1)
    assert chisquare(counts[~np.eye(classes, dtype=bool)]).pvalue > 1e-3


def test_everything_a_label_depends_on_changes_it() -> None:
    base = label_table(NONCES, salt=SALT, model_id="model", classes=100)
    for other in (
        label_table(NONCES, salt=SALT[::-1], model_id="model", classes=100),
        label_table(NONCES, salt=SALT, model_id="other", classes=100),
        label_table(NONCES[1:] + NONCES[:1], salt=SALT, model_id="model", classes=100),
        label_pairs(NONCES, salt=SALT, model_id="model", classes=100)[:, 0],
    ):
        assert (base == other).mean() < 0.03


def test_fewer_than_two_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 classes"):
        label_table(NONCES, salt=SALT, model_id="model", classes=1)


parts = st.lists(st.one_of(st.integers(), st.text(max_size=6), st.binary(max_size=6)), max_size=4).map(tuple)


@given(one=parts, other=parts)
def test_encoding_is_injective(one: tuple[int | str | bytes, ...], other: tuple[int | str | bytes, ...]) -> None:
    same = len(one) == len(other) and all(type(a) is type(b) and a == b for a, b in zip(one, other, strict=True))
    assert (encode(*one) == encode(*other)) == same


def test_encoding_is_kept_for_ever() -> None:
    assert encode("a", -12, b"\0") == b"s" + bytes(7) + b"\1a" + b"i" + bytes(7) + b"\3-12" + b"b" + bytes(7) + b"\1\0"
    assert tagged_digest("leaf/v1", b"", 0).hex() == KEPT_DIGEST


@pytest.mark.parametrize("part", [True, 1.5, None])
def test_what_has_no_encoding_is_refused(part: object) -> None:
    with pytest.raises(TypeError):
        encode(part)

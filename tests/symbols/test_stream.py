"""The keyed stream: repeatable, independent by label, uniform, whatever the sizes of the pieces read."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pytest
from scipy import stats

from ptynet_plugin.errors import UsageError
from ptynet_plugin.keys import derive
from ptynet_plugin.symbols.stream import KeyStream

SECRET = bytes(range(32))


def test_is_hmac_sha256_of_a_counter() -> None:
    key = derive(SECRET, "thing/v1", 7)
    expected = b"".join(hmac.new(key, i.to_bytes(8, "big"), hashlib.sha256).digest() for i in range(3))
    assert KeyStream(SECRET, "thing/v1", 7).octets(96).tobytes() == expected


def test_pieces_make_no_difference() -> None:
    whole = KeyStream(SECRET, "a").octets(100).tobytes()
    stream = KeyStream(SECRET, "a")
    assert b"".join(stream.octets(size).tobytes() for size in (1, 0, 31, 33, 35)) == whole


def test_words_are_big_endian() -> None:
    octets = KeyStream(SECRET, "a").octets(16).tobytes()
    assert KeyStream(SECRET, "a").words(2).tolist() == [int.from_bytes(octets[i : i + 8], "big") for i in (0, 8)]


@pytest.mark.parametrize("other", [KeyStream(SECRET, "b"), KeyStream(SECRET, "a", 1), KeyStream(bytes(32), "a")])
def test_label_parts_and_secret_matter(other: KeyStream) -> None:
    assert not np.array_equal(KeyStream(SECRET, "a").octets(32), other.octets(32))


@pytest.mark.parametrize("bound", [1, 2, 3, 10, 1000])
def test_integers_are_uniform(bound: int) -> None:
    drawn = KeyStream(SECRET, "uniform", bound).integers(bound, 20_000)
    counts = np.bincount(drawn, minlength=bound)
    assert len(counts) == bound
    if bound > 1:
        assert stats.chisquare(counts).pvalue > 1e-4


def test_integers_reject_what_would_favour_some() -> None:
    # with a bound of 2**63 - 1 the words 2**64 - 2 and 2**64 - 1 are rejected, all others are taken modulo the bound
    stream = KeyStream(SECRET, "a")
    words = iter([2**64 - 1, 2**64 - 2, 2**63, 5])
    stream.words = lambda count: np.array([next(words) for _ in range(count)], np.uint64)
    assert stream.integers(2**63 - 1, 2).tolist() == [1, 5]


@pytest.mark.parametrize("bound", [0, -1, 2**63 + 1])
def test_impossible_bounds_are_refused(bound: int) -> None:
    with pytest.raises(UsageError, match=r"bound in 1\.\.2\*\*63"):
        KeyStream(SECRET, "a").integers(bound, 1)


def test_permutations_are_uniform() -> None:
    seen = [tuple(KeyStream(SECRET, "order", i).permutation(3)) for i in range(3000)]
    counts = [seen.count(order) for order in sorted(set(seen))]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-4

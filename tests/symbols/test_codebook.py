"""Code words: far apart, keyed, uniform one by one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ptynet_plugin.errors import UsageError
from ptynet_plugin.symbols.codebook import MAX_CORRELATION, code_words, least_distance

SECRET = bytes(range(32))


@pytest.mark.parametrize(
    ("symbols", "bits"), [(512, 94), (4096, 94), (512, 71), (4096, 71), (512, 64), (300, 80), (2, 20)]
)
def test_words_are_kept_apart(symbols: int, bits: int) -> None:
    words = code_words(SECRET, symbols=symbols, bits=bits)
    assert words.shape == (symbols, bits)
    assert words.dtype == np.int8
    assert set(np.unique(words).tolist()) <= {-1, 1}
    products = words.astype(np.float32) @ words.astype(np.float32).T
    np.fill_diagonal(products, -bits)
    assert products.max() <= MAX_CORRELATION * bits


@pytest.mark.parametrize("bits", range(8, 130))
def test_least_distance_never_falls_below_the_promise(bits: int) -> None:
    distance = least_distance(bits, symbols=4096)
    assert (bits - 2 * distance) * 100 <= 35 * bits


@pytest.mark.parametrize(("bits", "symbols", "wanted"), [(94, 512, 37), (94, 4096, 34), (71, 512, 27), (64, 512, 24)])
def test_least_distance_is_what_few_random_words_miss(bits: int, symbols: int, wanted: int) -> None:
    distance = least_distance(bits, symbols=symbols)
    assert distance == wanted
    close = [(symbols - 1) * stats.binom.cdf(d - 1, bits, 0.5) for d in (distance, distance + 1)]
    assert close[0] <= 12 < close[1]


def test_same_key_same_words_other_key_other_words() -> None:
    words = code_words(SECRET, symbols=64, bits=71)
    assert np.array_equal(words, code_words(SECRET, symbols=64, bits=71))
    other = code_words(bytes(32), symbols=64, bits=71)
    assert abs(float((words * other).mean())) < 0.1


def test_each_word_is_uniform_over_keys() -> None:
    words = np.stack([code_words(bytes([i]) * 32, symbols=8, bits=40) for i in range(200)])
    ones = (words[:, 3] == 1).mean(axis=0)
    assert np.abs(ones - 0.5).max() < 0.16  # 4.5 standard deviations of 200 fair coins


@pytest.mark.parametrize("symbols", [1, 0, 4097])
def test_numbers_of_symbols_out_of_range_are_refused(symbols: int) -> None:
    with pytest.raises(UsageError, match=r"symbols must be in 2\.\.4096"):
        code_words(SECRET, symbols=symbols, bits=94)


def test_words_too_short_for_so_many_are_refused() -> None:
    with pytest.raises(UsageError, match="ask for fewer symbols or more bits"):
        code_words(SECRET, symbols=512, bits=12)

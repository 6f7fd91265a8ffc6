from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ptynet_plugin.tracing.plot import evidence_of_copies
from ptynet_plugin.tracing.table import Constants, FoundTable, find_table
from ptynet_plugin.tracing.whitebox import log10_match_p, read_table
from tests.tracing.conftest import TraceCase

LIMITS = {"copies": 300, "trace": 1, "fwer": 1e-6, "coalition": 4}


@pytest.mark.parametrize("matches", [0, 1, 7, 20, 30])
def test_the_tail_is_the_binomial_where_all_chances_are_alike(matches: int) -> None:
    exact = stats.binom.logsf(matches - 1, 30, 0.2) / math.log(10)
    assert log10_match_p(matches, np.full(30, 0.2)) == pytest.approx(exact, abs=1e-9)


def test_the_tail_is_exact_for_unlike_chances_and_far_below_the_smallest_double() -> None:
    chances = np.array([0.1, 0.5, 0.9])
    two_or_more = 0.1 * 0.5 * 0.1 + 0.1 * 0.5 * 0.9 + 0.9 * 0.5 * 0.9 + 0.1 * 0.5 * 0.9
    assert 10 ** log10_match_p(2, chances) == pytest.approx(two_or_more)
    assert log10_match_p(4000, np.full(4000, 0.21)) == pytest.approx(4000 * math.log10(0.21))


def test_the_p_value_of_innocents_is_one(ten: TraceCase) -> None:
    """Over innocents' words the tail probability at their own number of matches is never too small."""
    words = np.unpackbits(ten.tables.code.words(1, 4000), axis=1)
    bits, ones = words[0], ten.tables.code.biases()[ten.tables.code.levels()]
    chances = np.where(bits == 1, ones, 1 - ones)
    matches = (words[1:] == bits).sum(axis=1)
    below = np.array([log10_match_p(count, chances) for count in range(len(bits) + 1)])[matches]
    for level in (0.1, 0.01, 0.001):
        assert (below <= math.log10(level)).mean() <= level + 3 * math.sqrt(level / 3999)


def test_a_table_with_a_third_of_its_labels_gone_is_still_named(ten: TraceCase) -> None:
    table = ten.tables.table(250)
    found = FoundTable({symbol: int(table[symbol]) for symbol in range(0, 330, 3)})
    reading = read_table(found, ten.tables, **LIMITS)
    assert reading.accused == (250,)
    assert reading.compared == 110


def test_a_table_mixed_from_two_copies_names_them_alone(ten: TraceCase) -> None:
    rng, tables = np.random.default_rng(4), [ten.tables.table(n) for n in (17, 99)]
    found = FoundTable({symbol: int(tables[rng.integers(2)][symbol]) for symbol in range(330)})
    reading = read_table(found, ten.tables, **LIMITS)
    assert reading.accused
    assert set(reading.accused) <= {17, 99}


def test_a_table_of_nobody_names_nobody(ten: TraceCase) -> None:
    rng = np.random.default_rng(1)
    found = FoundTable({symbol: int(rng.integers(10)) for symbol in range(330)})
    reading = read_table(found, ten.tables, **LIMITS)
    assert (reading.accused, reading.verdict) == ((), "inconclusive")
    assert reading.log10_p_adjusted > -3


def test_constants_of_another_key_hold_no_table() -> None:
    rng = np.random.default_rng(0)
    words = rng.choice([-1, 1], (64, 48)).astype(np.int8)
    others = rng.choice([-1, 1], (64, 48)).astype(np.int8)
    constants = Constants((others.T.copy(), np.arange(64)))
    assert find_table(constants, words) is None
    assert find_table(Constants((words.T.copy(),)), words) is None  # words without a table
    found = find_table(Constants((words, np.arange(64) % 10, np.full(64, 0.5))), words)
    assert found is not None
    assert found.labels == {symbol: symbol % 10 for symbol in range(64)}


@pytest.mark.parametrize("copies", [1, 2, 9, 137, 2500, 40_000])
def test_the_plot_shows_every_copy_and_marks_the_named(copies: int) -> None:
    rng = np.random.default_rng(copies)
    evidence, thresholds = rng.normal(-9, 3, copies), np.log(np.arange(1, copies + 1)) * 2 + 14
    evidence[copies // 2] = 60.0
    plot = evidence_of_copies(evidence, thresholds, [copies // 2 + 1])
    assert plot.startswith("<svg")
    assert plot.endswith("</svg>")
    assert f"copy {copies // 2 + 1}</text>" in plot
    assert "nan" not in plot and "inf" not in plot
    assert len(plot) < 400_000
    if copies <= 2500:
        assert plot.count("<circle") == copies

"""The evidence is a martingale under the null and may be looked at after every answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from ptynet_plugin.statistics.binomial import log10_binomial_p_value
from ptynet_plugin.statistics.eprocess import SHARES, WEIGHTS, EProcess, log10_e_path


def chance_of_ever_reaching(threshold: np.ndarray, null_rate: float) -> float:
    """Exact P(some n has threshold[n, k] true) for a Bernoulli walk, by walking over all (n, k).

    Args:
        threshold: bool, shape (trials + 1, trials + 1), true where the test rejects after n trials with k hits.
        null_rate: Probability of a hit.
    """
    alive = np.zeros(threshold.shape[0])
    alive[0], rejected = 1.0, 0.0
    for n in range(1, threshold.shape[0]):
        alive[1:] = alive[1:] * (1 - null_rate) + alive[:-1] * null_rate
        alive[0] *= 1 - null_rate
        rejected += alive[threshold[n]].sum()
        alive[threshold[n]] = 0.0
    return rejected


def log10_e_table(null_rate: float, trials: int) -> np.ndarray:
    """log10 E after n trials with k hits, -inf where k > n."""
    n, k = np.meshgrid(np.arange(trials + 1), np.arange(trials + 1), indexing="ij")
    values = EProcess(null_rate).after(k, np.maximum(n - k, 0))
    return np.where(k <= n, values, -np.inf)


def test_weights_are_a_distribution_with_half_on_an_endpoint_that_always_hits() -> None:
    assert math.isclose(WEIGHTS.sum(), 1.0)
    assert SHARES[0] == 1.0
    assert WEIGHTS[0] == 0.5
    assert np.all((SHARES > 0) & (SHARES <= 1))


@pytest.mark.parametrize("null_rate", [0.5, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("trials", [1, 7, 60])
def test_expectation_under_the_null_is_one_at_every_length(null_rate: float, trials: int) -> None:
    hits = np.arange(trials + 1)
    e_values = 10.0 ** EProcess(null_rate).after(hits, trials - hits)
    assert binom.pmf(hits, trials, null_rate) @ e_values == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("null_rate", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("alpha", [0.05, 1e-3, 1e-6])
def test_peeking_after_each_of_300_answers_stays_below_alpha_exactly(null_rate: float, alpha: float) -> None:
    shown = log10_e_table(null_rate, 300) >= -math.log10(alpha)
    assert 0 < chance_of_ever_reaching(shown, null_rate) <= alpha


def test_the_binomial_test_peeked_at_is_inflated_which_is_why_it_needs_a_registered_length() -> None:
    n, k = np.meshgrid(np.arange(101), np.arange(101), indexing="ij")
    shown = (binom.sf(k - 1, n, 0.1) <= 1e-3) & (k <= n) & (n > 0)
    assert chance_of_ever_reaching(shown, 0.1) == pytest.approx(0.0058, abs=3e-4)


def test_p_value_is_super_uniform_in_simulation_with_optional_stopping() -> None:
    rng = np.random.default_rng(1)
    path = log10_e_path(rng.random((20_000, 120)) < 0.1, 0.1)
    p_values = 10.0 ** -np.maximum(path.max(axis=1), 0.0)
    for level in (0.5, 0.2, 0.1, 0.05, 0.01):
        standard_error = math.sqrt(level * (1 - level) / len(p_values))
        assert (p_values <= level).mean() <= level + 3 * standard_error


@pytest.mark.parametrize(
    ("classes", "allowance", "most"),
    [(10, 0, 10), (10, 20, 16), (10, 40, 22), (10, 64, 29), (1000, 0, 4), (1000, 20, 6), (1000, 40, 8), (1000, 64, 10)],
)
def test_queries_to_one_in_a_thousand_million_when_every_probe_hits(classes: int, allowance: int, most: int) -> None:
    process, queries = EProcess(1 / classes), 0
    while process.log10_p > -9 - allowance * math.log10(2):
        process.update(True)
        queries += 1
    assert queries <= most
    fewest = math.ceil((9 + allowance * math.log10(2)) / math.log10(classes))
    assert queries >= fewest  # nobody can be quicker than the likelihood ratio of "always hits"


def test_one_miss_does_not_spoil_the_evidence_of_an_endpoint_that_nearly_always_hits() -> None:
    process = EProcess(0.1)
    for hit in [True] * 5 + [False] + [True] * 9:
        process.update(hit)
    assert process.log10_p <= -9


@settings(max_examples=60, deadline=None)
@given(stream=st.lists(st.booleans(), min_size=1, max_size=80), classes=st.integers(2, 2000))
def test_one_by_one_path_and_counts_agree(stream: list[bool], classes: int) -> None:
    process = EProcess(1 / classes)
    one_by_one = [process.update(hit).log10_e for hit in stream]
    assert one_by_one == pytest.approx(log10_e_path(stream, 1 / classes), abs=1e-9)
    fresh = EProcess(1 / classes).after(sum(stream), len(stream) - sum(stream))
    assert process.log10_e == pytest.approx(float(fresh), abs=1e-9)
    assert process.max_log10_e == pytest.approx(max(0.0, *one_by_one), abs=1e-9)
    assert (process.trials, process.hits) == (len(stream), sum(stream))


@settings(max_examples=60, deadline=None)
@given(stream=st.lists(st.booleans(), min_size=1, max_size=60), place=st.integers(0, 59))
def test_turning_a_miss_into_a_hit_never_weakens_the_evidence(stream: list[bool], place: int) -> None:
    better = list(stream)
    better[place % len(stream)] = True
    assert log10_e_path(better, 0.1)[-1] >= log10_e_path(stream, 0.1)[-1] - 1e-12


def test_p_value_never_rises_as_answers_come() -> None:
    rng = np.random.default_rng(3)
    process, seen = EProcess(0.1), []
    for hit in rng.random(200) < 0.4:
        seen.append(process.update(bool(hit)).log10_p)
    assert seen == sorted(seen, reverse=True)


def test_log10_p_stays_exact_where_the_p_value_underflows() -> None:
    process = EProcess(0.001)
    for _ in range(300):
        process.update(True)
    assert process.p_value == 0.0
    assert process.log10_p == pytest.approx(-900 + math.log10(2), abs=0.01)


def test_per_trial_nulls_keep_the_expectation_at_one() -> None:
    rates = [0.1, 0.4, 0.05, 0.9]
    total = 0.0
    for outcome in range(2 ** len(rates)):
        process, probability = EProcess(0.1), 1.0
        for place, rate in enumerate(rates):
            hit = bool(outcome >> place & 1)
            probability *= rate if hit else 1 - rate
            process.update(hit, rate)
        total += probability * 10.0**process.log10_e
    assert total == pytest.approx(1.0, rel=1e-12)


def test_a_certain_hit_is_no_evidence_and_an_impossible_one_is_a_defect() -> None:
    assert EProcess(0.1).update(True, 1.0).log10_e == pytest.approx(0.0)
    assert EProcess(0.1).update(False, 0.0).log10_e < 0
    with pytest.raises(ValueError, match="the class map and the answer disagree"):
        EProcess(0.1).update(True, 0.0)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_null_rates_outside_the_open_interval_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        EProcess(rate)


@pytest.mark.parametrize(
    ("hits", "trials", "rate"), [(0, 10, 0.1), (3, 10, 0.1), (10, 10, 0.1), (25, 200, 0.1), (7, 50, 0.001)]
)
def test_binomial_tail_agrees_with_scipy(hits: int, trials: int, rate: float) -> None:
    assert log10_binomial_p_value(hits, trials, rate) == pytest.approx(
        binom.logsf(hits - 1, trials, rate) / math.log(10), abs=1e-9
    )

"""Verdicts: early stop both ways, allowances, and what a used-up budget says."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from scipy.stats import beta, binom

from ptynet_plugin.statistics.binomial import binomial_p_value, lower_limit, upper_limit
from ptynet_plugin.statistics.class_map import ClassMap
from ptynet_plugin.statistics.decision import (
    FixedLengthTest,
    SequentialTest,
    adjust_log10_p,
    alpha_of_test,
    showable_rate,
)
from ptynet_plugin.statistics.eprocess import EProcess
from ptynet_plugin.statistics.evasion import evasion_test
from ptynet_plugin.statistics.exclusion import ExclusionProcess
from ptynet_plugin.statistics.watch_list import e_benjamini_hochberg


def run(test: SequentialTest, rate: float, rng: np.random.Generator) -> SequentialTest:
    while test.verdict is None:
        test.observe(bool(rng.random() < rate))
    return test


def test_an_endpoint_that_always_hits_is_shown_after_ten_answers() -> None:
    test = SequentialTest(0.1, alpha=1e-9)
    for _ in range(9):
        assert test.observe(True).verdict is None
    assert test.observe(True).verdict == "shown"
    assert test.p_value <= 1e-9
    assert test.log10_p_adjusted(20) == pytest.approx(test.log10_p + 20 * math.log10(2))


def test_half_diluted_endpoints_are_shown_within_the_budget() -> None:
    rng = np.random.default_rng(5)
    runs = [run(SequentialTest(0.1, alpha=1e-9, budget=200), 0.55, rng) for _ in range(200)]
    assert Counter(test.verdict for test in runs) == {"shown": 200}


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_bare_targets_are_not_shown_and_stop_early(classes: int) -> None:
    rng = np.random.default_rng(6)
    runs = [run(SequentialTest(1 / classes, alpha=1e-9, budget=200), 1 / classes, rng) for _ in range(100)]
    verdicts = Counter(test.verdict for test in runs)
    assert verdicts["shown"] == 0
    assert verdicts["not-shown"] >= 97  # the rest is inconclusive: p <= 1e-3 by chance, or a budget that ends too early
    assert np.median([test.asked for test in runs]) < 150
    for test in runs:
        assert test.excluded_rate is not None
        assert 1 / classes < test.excluded_rate < 0.999


def test_a_weak_mark_at_the_end_of_the_budget_is_inconclusive() -> None:
    test = SequentialTest(0.1, alpha=1e-9, budget=20)
    for hit in [True] * 6 + [False] * 14:
        test.observe(hit)
    assert test.verdict == "inconclusive"
    assert test.log10_p < -3


def test_a_budget_too_small_to_show_anything_is_inconclusive_whatever_is_answered() -> None:
    for hit in (True, False):
        test = SequentialTest(0.1, alpha=1e-9, budget=5).observe(hit)
        assert test.verdict == "inconclusive"


def test_nothing_is_said_before_the_first_answer_even_where_earlier_runs_showed_it() -> None:
    test = SequentialTest(0.1, alpha=1e-9, earlier=[True] * 30)
    assert test.verdict is None
    assert test.observe(True).verdict is None
    for _ in range(2):
        test.observe(True)
    assert test.verdict == "shown"
    assert (test.asked, test.hits, test.evidence.trials) == (3, 3, 33)


def test_earlier_misses_are_not_forgotten_by_asking_again() -> None:
    fresh = SequentialTest(0.1, alpha=1e-9)
    burdened = SequentialTest(0.1, alpha=1e-9, earlier=[False] * 60)
    for _ in range(10):
        fresh.observe(True)
        burdened.observe(True)
    assert fresh.verdict == "shown"
    assert burdened.verdict is None
    assert burdened.log10_p > fresh.log10_p


def test_a_marked_model_behind_an_address_that_missed_before_is_still_shown() -> None:
    test = run(SequentialTest(0.1, alpha=1e-9, earlier=[False] * 60), 1.0, np.random.default_rng(0))
    assert test.verdict == "shown"
    assert 10 < test.asked < 60


def test_a_bare_model_behind_an_address_that_was_shown_before_is_not_shown_again() -> None:
    test = run(SequentialTest(0.1, alpha=1e-9, earlier=[True] * 12), 0.0, np.random.default_rng(0))
    assert test.verdict == "inconclusive"
    assert test.excluded_rate is not None


def test_shown_stays_shown_when_more_answers_come() -> None:
    test = SequentialTest(0.1, alpha=1e-9)
    for hit in [True] * 10 + [False] * 20:
        test.observe(hit)
    assert test.verdict == "shown"


def test_repeated_tests_of_a_claim_share_its_alpha() -> None:
    assert alpha_of_test(1e-9, 1) == pytest.approx(6e-9 / math.pi**2)
    assert sum(alpha_of_test(0.05, i) for i in range(1, 20_000)) == pytest.approx(0.05, rel=1e-4)
    with pytest.raises(ValueError, match="numbered from 1"):
        alpha_of_test(0.05, 0)


def test_allowance_multiplies_p_by_the_number_of_keys_and_stops_at_one() -> None:
    assert adjust_log10_p(-9.0, 20) == pytest.approx(math.log10(2**20 * 1e-9))
    assert adjust_log10_p(-5.0, 64) == 0.0


@pytest.mark.parametrize(
    ("null_rate", "alpha", "budget"), [(0.1, 2.0, 10), (0.1, 0.0, 10), (0.1, 0.01, 0), (1.0, 0.01, 9)]
)
def test_impossible_settings_are_refused(null_rate: float, alpha: float, budget: int) -> None:
    with pytest.raises(ValueError, match=r"alpha|budget|null rate"):
        SequentialTest(null_rate, alpha=alpha, budget=budget)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.7])
def test_excluded_rates_cover_the_truth_at_any_time(rate: float) -> None:
    """At 90 % confidence the true rate is ever excluded in at most 10 % of the streams."""
    rng = np.random.default_rng(8)
    wrong = 0
    for _ in range(300):
        process = ExclusionProcess(confidence=0.9)
        for hit in rng.random(150) < rate:
            process.update(bool(hit), 0.05)
        excluded = process.excluded_rate(0.05)
        wrong += excluded is not None and excluded <= rate
    assert wrong / 300 <= 0.1 + 3 * math.sqrt(0.09 / 300)


def test_exclusion_is_a_martingale_at_every_point_of_its_grid() -> None:
    process = ExclusionProcess()
    null_rate = 0.1
    rates = null_rate + (1 - null_rate) * np.arange(1, 400) / 400
    after = {}
    for hit in (True, False):
        process = ExclusionProcess().update(hit, null_rate)
        after[hit] = np.exp(process._log_components).sum(axis=1)
    assert rates * after[True] + (1 - rates) * after[False] == pytest.approx(np.ones(399))


def test_nothing_is_excluded_before_the_first_answer_and_by_hits_alone() -> None:
    process = ExclusionProcess()
    assert process.excluded_share is None
    for _ in range(50):
        process.update(True, 0.1)
    assert process.excluded_share is None


def test_showable_rate_has_the_chance_it_promises() -> None:
    rate = showable_rate(EProcess(0.1), 1e-9, 200, chance=0.9)
    assert rate is not None
    hits = np.arange(201)
    enough = EProcess(0.1).after(hits, 200 - hits) >= 9
    assert binom.pmf(hits, 200, rate) @ enough == pytest.approx(0.9, abs=1e-6)
    assert showable_rate(EProcess(0.1), 1e-9, 9, chance=0.9) is None


def test_fixed_length_test_speaks_only_when_its_registered_length_is_completed() -> None:
    test = FixedLengthTest(0.1, alpha=1e-9, length=9)
    for _ in range(8):
        assert test.observe(True).verdict is None
    assert test.log10_p is None
    assert test.observe(True).verdict == "shown"
    assert test.log10_p == pytest.approx(-9)
    with pytest.raises(ValueError, match="would change the test"):
        test.observe(True)


def test_fixed_length_test_that_falls_short_is_not_shown() -> None:
    test = FixedLengthTest(0.1, alpha=1e-9, length=9)
    for place in range(9):
        test.observe(place > 0)
    assert test.verdict == "not-shown"


@pytest.mark.parametrize(("hits", "trials"), [(0, 20), (3, 20), (20, 20)])
def test_limits_are_clopper_pearson(hits: int, trials: int) -> None:
    expected_upper = 1.0 if hits == trials else beta.ppf(0.95, hits + 1, trials - hits)
    expected_lower = 0.0 if hits == 0 else beta.ppf(0.05, hits, trials - hits + 1)
    assert upper_limit(hits, trials, confidence=0.95) == pytest.approx(expected_upper)
    assert lower_limit(hits, trials, confidence=0.95) == pytest.approx(expected_lower)


@pytest.mark.parametrize(("hits", "trials"), [(-1, 5), (6, 5)])
def test_impossible_counts_are_refused(hits: int, trials: int) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        binomial_p_value(hits, trials, 0.1)


def test_class_map_gives_the_exact_null_of_merged_and_hidden_classes() -> None:
    merged = ClassMap(("pet", "pet", "car", None))
    assert merged.hit(1, "pet")
    assert not merged.hit(2, "pet")
    assert not merged.hit(3, None)
    assert [merged.null_rate(answer) for answer in ("pet", "car", "boat", None)] == [0.5, 0.25, 0.0, 0.0]


@pytest.mark.parametrize("answer", ["pet", "car", "boat"])
def test_class_map_keeps_the_expectation_at_one_for_every_answer(answer: str) -> None:
    """Averaged over the uniform label, and never above one where the endpoint answers what no class maps to."""
    merged = ClassMap(("pet", "pet", "car", None))
    values = [
        10.0 ** EProcess(0.25).update(merged.hit(label, answer), merged.null_rate(answer)).log10_e for label in range(4)
    ]
    assert np.mean(values) <= 1.0 + 1e-12
    if answer != "boat":
        assert np.mean(values) == pytest.approx(1.0)


def test_class_map_of_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        ClassMap((0,))


def test_evasion_counts_pairs_in_which_exactly_one_was_refused() -> None:
    result = evasion_test([(False, True)] + [(False, False)] * 50 + [(True, True)] * 7 + [(True, False)] * 12)
    assert (result.pairs, result.only_probe, result.only_control) == (70, 12, 1)
    assert result.p_value == pytest.approx(binom.sf(11, 13, 0.5))
    assert result.p_value < result.anytime_p_value < 0.1


def test_an_endpoint_that_refuses_everything_alike_is_not_suspected() -> None:
    assert evasion_test([(True, True)] * 40).p_value == 1.0
    assert evasion_test([]).p_value == 1.0


def test_evasion_p_value_is_valid_by_enumeration() -> None:
    """Among m discordant pairs the number of probes refused is Bin(m, 1/2) under the null."""
    for pairs in range(1, 9):
        for level in (0.5, 0.1, 0.02):
            total = sum(
                math.comb(pairs, k) / 2**pairs
                for k in range(pairs + 1)
                if evasion_test([(True, False)] * k + [(False, True)] * (pairs - k)).p_value <= level
            )
            assert total <= level + 1e-12


def test_watch_lists_name_the_strong_and_spare_the_rest() -> None:
    assert e_benjamini_hochberg([0.1, 3.0, -1.0, 1.5], alpha=0.05) == [1]
    assert e_benjamini_hochberg([2.0, 2.0, 2.0, 2.0], alpha=0.05) == [0, 1, 2, 3]
    assert e_benjamini_hochberg([], alpha=0.05) == []

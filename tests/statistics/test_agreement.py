"""Who answers benign pictures: the bar, the exact tests, and what they say of the target and of strangers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from ptynet_plugin.statistics.agreement import fewest_pictures, judge_agreement, panel_bar, target_stands_alone


def test_the_bar_lies_half_way_between_the_best_of_the_panel_and_certainty() -> None:
    target = np.array([0, 1, 2, 3])
    panel = np.array([[0, 1, 2, 9], [0, 9, 9, 9]])
    # without itself: the first agrees on 2 of the 3 pictures where the second differs, the second on 0 of 1
    assert panel_bar(target, panel) == pytest.approx((1 + 2 / 3) / 2)
    assert target_stands_alone(target, panel).tolist() == [False, False, False, True]


@pytest.mark.parametrize("panel", [[[0, 1, 2]], []])
def test_a_panel_that_tells_nothing_is_refused(panel: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="nothing tells the target from"):
        panel_bar(np.array([0, 1, 2]), np.array(panel).reshape(-1, 3))


def test_the_tests_are_exact_binomials() -> None:
    target, panel = [1] * 60, [[2] * 60]
    answers = [1] * 50 + [2] * 4 + [3] * 4 + [None] * 2
    found = judge_agreement(answers, target, panel, bar=0.9, level=1e-3)
    assert (found.asked, found.agreed, found.with_panel) == (60, 50, (4,))
    assert 10**found.log10_p == pytest.approx(binom.sf(49, 60, 0.9))
    assert 10**found.log10_p_other == pytest.approx(binom.cdf(50, 60, 0.9))
    assert 10**found.log10_p_sign == pytest.approx(binom.sf(49, 54, 0.5))
    assert found.answerer == "undecided"


def test_the_target_and_a_stranger_are_told_apart() -> None:
    target, panel = [1] * 80, [[2] * 80, [3] * 80]
    assert judge_agreement([1] * 80, target, panel, bar=0.9, level=1e-3).answerer == "target"
    assert judge_agreement([2] * 80, target, panel, bar=0.9, level=1e-3).answerer == "another"
    assert judge_agreement([1] * 72 + [5] * 8, target, panel, bar=0.9, level=1e-3).answerer == "undecided"
    assert judge_agreement([None] * 80, target, panel, bar=0.9, level=1e-3).answerer == "another"


@pytest.mark.parametrize(("bar", "level"), [(0.9, 1e-3), (0.5, 1e-6), (0.95, 0.01)])
def test_fewer_pictures_than_the_fewest_decide_nothing(bar: float, level: float) -> None:
    count = fewest_pictures(bar, level)
    for number, answerer in ((count, "target"), (count - 1, "undecided")):
        found = judge_agreement([1] * number, [1] * number, [[2] * number], bar=bar, level=level)
        assert found.answerer == answerer


def test_strangers_at_the_bar_are_taken_for_the_target_no_more_often_than_the_level() -> None:
    rng = np.random.default_rng(5)
    taken = 0
    for _ in range(2000):
        answers = np.where(rng.random(100) < 0.9, 1, 4)
        found = judge_agreement(answers.tolist(), [1] * 100, [[2] * 100], bar=0.9, level=0.05)
        taken += found.answerer == "target"
    assert taken / 2000 <= 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5

"""The area under the curve and its intervals, against scikit-learn, enumeration and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import roc_auc_score, roc_curve

from ptynet_plugin.privacy.roc import area, area_interval, clustered_interval, found_at


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rounded", [False, True], ids=["distinct", "ties"])
def test_area_is_scikit_learn_s(seed: int, rounded: bool) -> None:
    rng = np.random.default_rng(seed)
    members, others = rng.normal(0.4, 1, 83), rng.normal(0, 1, 120)
    if rounded:
        members, others = members.round(), others.round()
    truth = np.r_[np.ones(83), np.zeros(120)]
    assert area(members, others) == pytest.approx(roc_auc_score(truth, np.r_[members, others]), abs=1e-12)
    assert area_interval(members, others).estimate == pytest.approx(area(members, others), abs=1e-12)


def test_variance_is_that_of_delong_by_pairs() -> None:
    rng = np.random.default_rng(1)
    members, others = rng.normal(0.5, 1, 30).round(1), rng.normal(0, 1, 41).round(1)
    wins = (members[:, None] > others) + 0.5 * (members[:, None] == others)
    variance = wins.mean(axis=1).var(ddof=1) / 30 + wins.mean(axis=0).var(ddof=1) / 41
    found = area_interval(members, others, confidence=0.95)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * np.sqrt(variance), rel=1e-6)


def test_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    hit = 0
    for _ in range(400):
        found = area_interval(rng.normal(0.5, 1, 60), rng.normal(0, 1, 60))
        hit += found.low <= 0.638163 <= found.high  # P(N(0.5, 1) > N(0, 1)) = Phi(0.5 / sqrt 2)
    assert 0.92 <= hit / 400 <= 0.98


@pytest.mark.parametrize("alarms", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_rate_at_few_alarms_is_the_curve_s(alarms: float) -> None:
    rng = np.random.default_rng(3)
    members, others = rng.normal(1, 1, 500), rng.normal(0, 1, 700)
    false, true, _ = roc_curve(np.r_[np.ones(500), np.zeros(700)], np.r_[members, others], drop_intermediate=False)
    assert found_at(members, others, alarms=alarms) == pytest.approx(true[false <= alarms + 1e-12].max())


def test_nothing_is_found_in_equal_scores() -> None:
    same = np.zeros(200)
    assert area(same, same) == 0.5
    assert found_at(same, same, alarms=0.01) == 0.0


def test_clustered_interval_is_the_bootstrap_of_scipy_for_one_model() -> None:
    rng = np.random.default_rng(4)
    scores, member = rng.normal(size=(1, 150)), np.arange(150)[None] % 2 == 0
    scores[member] += 0.5
    ours = clustered_interval(area, scores, member, draws=2000, generator=np.random.default_rng(5))

    def drawn_area(drawn: np.ndarray, inside: np.ndarray) -> float:
        return area(drawn[inside > 0], drawn[inside <= 0])

    theirs = bootstrap(
        (scores[0], member[0].astype(float)),  # scipy puts both into one array: booleans become numbers
        drawn_area,
        paired=True,
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(6),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.015)


def test_repeating_a_model_does_not_narrow_the_clustered_interval() -> None:
    rng = np.random.default_rng(7)
    scores, member = rng.normal(size=(1, 80)), np.arange(80)[None] % 2 == 0
    once = clustered_interval(area, scores, member, draws=500, generator=np.random.default_rng(8))
    often = clustered_interval(
        area, np.repeat(scores, 9, axis=0), np.repeat(member, 9, axis=0), draws=500, generator=np.random.default_rng(8)
    )
    assert (often.low, often.high) == pytest.approx((once.low, once.high), abs=1e-12)


@pytest.mark.parametrize(
    ("members", "others", "message"),
    [([], [1.0], "0 and 1 scores cannot be compared"), ([np.nan], [1.0], "no finite number")],
)
def test_what_cannot_be_compared_is_refused(members: list[float], others: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        area(np.array(members), np.array(others))

"""Every number of deep fidelity, against what one can compute by hand or with scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import binom, entropy

from ptynet_plugin.errors import UsageError
from ptynet_plugin.fidelity import metrics

RNG = np.random.default_rng(4)
HOST = RNG.normal(size=(50, 7)).astype(np.float32)
MOVED = HOST + RNG.normal(scale=0.1, size=HOST.shape).astype(np.float32)


def test_rows_equal_compares_bytes() -> None:
    host = np.array([[0.0, 1.0], [np.nan, np.inf], [2.0, 3.0]], np.float32)
    other = np.array([[-0.0, 1.0], [np.nan, np.inf], [2.0, 3.0]], np.float32)
    assert metrics.rows_equal(host, other).tolist() == [False, True, True]


def test_max_difference_knows_nan_and_infinity() -> None:
    host = np.array([[1.0, np.nan, np.inf]])
    assert metrics.max_difference(host, host.copy()) == 0
    assert metrics.max_difference(host, np.array([[1.5, np.nan, np.inf]])) == 0.5
    assert metrics.max_difference(host, np.array([[1.0, 2.0, np.inf]])) == np.inf


@pytest.mark.parametrize("kind", ["logits", "probabilities", "log-probabilities"])
def test_softmax_loss_is_the_mean_kl_in_nats(kind: metrics.OutputKind) -> None:
    p, q = softmax(HOST.astype(np.float64), axis=1), softmax(MOVED.astype(np.float64), axis=1)
    expected = np.mean([entropy(a, b) for a, b in zip(p, q, strict=True)])
    left, right = {"logits": (HOST, MOVED), "probabilities": (p, q), "log-probabilities": (np.log(p), np.log(q))}[kind]
    assert metrics.softmax_loss(left, right, kind) == pytest.approx(expected, rel=1e-4)


def test_softmax_loss_ignores_equal_rows_even_of_nan_and_counts_broken_ones() -> None:
    host = HOST.copy()
    host[0] = np.nan
    assert metrics.softmax_loss(host, host.copy(), "logits") == 0
    broken = host.copy()
    broken[1] = np.nan
    assert metrics.softmax_loss(host, broken, "logits") == np.inf


def test_softmax_loss_is_finite_for_one_hot_probabilities() -> None:
    host, other = np.eye(3), np.eye(3)[[1, 0, 2]]
    assert 100 < metrics.softmax_loss(host, other, "probabilities") < np.inf


def test_feature_loss_is_the_mean_squared_distance() -> None:
    z_h, z_w = np.zeros((4, 2, 3)), np.full((4, 2, 3), 0.5)
    assert metrics.feature_loss(z_h, z_w) == pytest.approx(6 * 0.25)
    assert metrics.last_layer_difference(z_h[0], z_w[0]) == pytest.approx(6 * 0.25)


def test_weight_loss_is_infinite_for_missing_or_reshaped_tensors() -> None:
    weights = {"a": np.zeros((2, 2)), "b": np.ones(3)}
    assert metrics.total_weight_loss(weights, {**weights, "extra": np.ones(1)}) == 0
    assert metrics.total_weight_loss(weights, {**weights, "b": np.zeros(3)}) == 3
    assert metrics.total_weight_loss(weights, {"a": weights["a"]}) == np.inf
    assert metrics.total_weight_loss(weights, {**weights, "b": np.ones((3, 1))}) == np.inf


def test_top1_puts_nan_last() -> None:
    assert metrics.top1(np.array([[np.nan, 1.0, 2.0], [3.0, np.nan, 3.0]])).tolist() == [2, 0]


def test_a_calibrated_model_has_a_small_calibration_error() -> None:
    scores = RNG.normal(scale=2, size=(40_000, 5))
    p = softmax(scores, axis=1)
    labels = (p.cumsum(axis=1) < RNG.random((len(p), 1))).sum(axis=1)
    assert metrics.calibration_error(scores, labels, "logits") < 0.02
    assert metrics.calibration_error(5 * scores, labels, "logits") > 0.1


def test_calibration_error_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2]])
    assert metrics.calibration_error(p, np.array([0, 1]), "probabilities", bins=2) == pytest.approx(0.35)


def test_clopper_pearson_bound() -> None:
    assert metrics.clopper_pearson_upper(0, 60_000) == pytest.approx(5e-5, rel=0.01)
    assert metrics.clopper_pearson_upper(3, 3) == 1


@given(st.integers(1, 400), st.data())
def test_clopper_pearson_is_exact(trials: int, data: st.DataObject) -> None:
    events = data.draw(st.integers(0, trials - 1))
    assert binom.cdf(events, trials, metrics.clopper_pearson_upper(events, trials)) == pytest.approx(0.05, rel=1e-6)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UsageError, match="only like can be compared"):
        metrics.rows_equal(HOST, HOST[:3])
    with pytest.raises(UsageError, match=r"float32 .* float64"):
        metrics.max_difference(HOST, HOST.astype(np.float64))
    with pytest.raises(UsageError, match="3 labels for 50 pictures"):
        metrics.calibration_error(HOST, np.zeros(3, np.int64), "logits")
    with pytest.raises(UsageError, match=r"labels run 7..7, the model has 7 classes"):
        metrics.calibration_error(HOST, np.full(50, 7), "logits")
    with pytest.raises(UsageError, match="2 events in 0 trials"):
        metrics.clopper_pearson_upper(2, 0)

"""256 bits in a layer: exact null, small change, and alive after what happens to weights."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import hadamard
from scipy.stats import binomtest, kstest

from ptynet_plugin.errors import UsageError
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.whitebox.mark import BITS, embed, embedding_cost, read, weight_mark
from ptynet_plugin.whitebox.projection import ROWS, Projection, _scalar_products, walsh_hadamard

KEY, OTHER = OwnerKey(bytes(range(32))), OwnerKey(bytes(range(1, 33)))
MARK = weight_mark(KEY, model=b"model hash")


def layer(*, seed: int = 0, shape: tuple[int, ...] = (128, 128, 3, 3)) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, shape).astype(np.float32)


MARKED = embed(layer(), MARK)


def pruned(weights: np.ndarray, share: float) -> np.ndarray:
    return np.where(np.abs(weights) < np.quantile(np.abs(weights), share), 0, weights)


def quantised(weights: np.ndarray, bits: int) -> np.ndarray:
    step = np.abs(weights).max() / (2 ** (bits - 1) - 1)
    return np.round(weights / step) * step


@pytest.mark.parametrize("length", [1, 8, 512, 1 << 17])
def test_walsh_hadamard_transform(length: int) -> None:
    values = np.random.default_rng(1).normal(size=length)
    transformed = walsh_hadamard(values)
    np.testing.assert_allclose(walsh_hadamard(transformed) / length, values, atol=1e-10)
    if length <= 512:
        np.testing.assert_allclose(transformed, hadamard(length) @ values, atol=1e-10)


@pytest.mark.parametrize("size", [2048, 2050, 2304, 3000, 4608])
def test_no_direction_is_nearly_a_sum_of_others(size: int) -> None:
    """Rows cut to the number of weights lose their independence: at 2,304 a fifth of all keys met a singular system."""
    for number in range(4):
        projection = Projection(bytes([number]) * 32, size)
        products = np.array([projection.forward(projection.adjoint(each)) for each in np.eye(ROWS)])
        assert np.linalg.eigvalsh(products)[0] > 0.009


@pytest.mark.parametrize("size", [2048, 2050, 2304, 3001])
def test_products_of_cut_rows_are_those_of_the_matrix(size: int) -> None:
    rows = np.random.default_rng(size).choice(1 << (size - 1).bit_length(), 256, replace=False)
    signs = hadamard(1 << (size - 1).bit_length())[rows, :size].astype(float)
    np.testing.assert_allclose(_scalar_products(rows, size), signs @ signs.T / size, atol=1e-12)


@pytest.mark.parametrize("number", [0, 8])
def test_a_layer_of_2304_weights_reads_back_under_every_key(number: int) -> None:
    weights = np.random.default_rng(0).normal(size=(16, 16, 3, 3)).astype(np.float32)
    mark = weight_mark(OwnerKey(bytes([number]) * 32))
    assert read(embed(weights, mark), mark).right == ROWS


@pytest.mark.parametrize("size", [2048, 5000, 36_864])
def test_projection_rows_are_unit_and_nearly_orthogonal(size: int) -> None:
    projection = Projection(bytes(32), size)
    rows = np.stack([projection.adjoint(unit) for unit in np.eye(256)[:40]])
    gram = rows @ rows.T
    np.testing.assert_allclose(np.diag(gram), 1, atol=1e-9)
    assert np.abs(gram - np.eye(40)).max() < 6 / np.sqrt(size)
    weights = np.random.default_rng(2).normal(size=size)
    np.testing.assert_allclose(rows @ weights, projection.forward(weights)[:40], atol=1e-9)


def test_lifting_moves_the_projection_as_asked_by_the_shortest_way() -> None:
    projection, wanted = Projection(bytes(32), 5000), np.random.default_rng(3).normal(size=256)
    change = projection.lift(wanted)
    np.testing.assert_allclose(projection.forward(change), wanted, atol=1e-6)
    rows = np.stack([projection.adjoint(unit) for unit in np.eye(256)])
    shortest = rows.T @ np.linalg.solve(rows @ rows.T, wanted)
    np.testing.assert_allclose(change, shortest, atol=1e-6)
    assert np.abs(projection.forward(projection.without(change + 1))).max() < 1e-6


def test_every_bit_is_right_by_the_margin_and_little_changed() -> None:
    reading = read(MARKED, MARK)
    assert reading.right == BITS
    assert reading.strength > 2.9
    assert MARKED.dtype == np.float32
    change = np.linalg.norm(MARKED - layer()) / np.linalg.norm(layer())
    assert change == pytest.approx(embedding_cost(MARKED), rel=0.1)
    assert change < 0.14


def test_a_wide_layer_costs_about_six_percent() -> None:
    assert embedding_cost(np.empty((256, 256, 3, 3))) == pytest.approx(0.065, abs=0.003)


@pytest.mark.parametrize(
    "damage",
    [
        lambda w: pruned(w, 0.65), lambda w: pruned(w, 0.8), lambda w: quantised(w, 4), lambda w: w.astype(np.float16),
        lambda w: w.reshape(128, -1), lambda w: 7 * w, lambda w: embed(w, weight_mark(OTHER, model=b"model hash")),
    ],
    ids=["prune 65 %", "prune 80 %", "4 bits", "float16", "reshaped", "scaled", "overwritten"],
)  # fmt: skip
def test_survives_without_one_wrong_bit(damage) -> None:
    assert read(damage(MARKED), MARK).right == BITS


@pytest.mark.parametrize(
    "damage",
    [
        lambda w: pruned(w, 0.9), lambda w: quantised(w, 3),
        lambda w: w + np.random.default_rng(4).normal(0, w.std(), w.shape),
        lambda w: embed(w, weight_mark(OTHER, model=b"model hash"), margin=30),
    ],
    ids=["prune 90 %", "3 bits", "100 % noise", "overwritten 10 times as strongly"],
)  # fmt: skip
def test_survives_beyond_doubt(damage) -> None:
    assert read(damage(MARKED), MARK).log10_p < -9


def test_unrelated_weights_and_keys_are_binomial() -> None:
    right = [read(layer(seed=seed, shape=(4000,)), MARK).right for seed in range(200)]
    wrong_keys = [read(MARKED, weight_mark(OwnerKey(bytes([n] * 32)), model=b"model hash")).right for n in range(60)]
    for found in (right, wrong_keys):
        assert binomtest(sum(found), BITS * len(found)).pvalue > 1e-4
        assert max(found) < 176
    assert kstest((np.array(right) - 128) / 8, "norm").pvalue > 1e-4


def test_heavy_tails_and_sparse_weights_do_not_bias_the_reading() -> None:
    heavy = np.random.default_rng(5).standard_t(1.2, size=(100, 5000)).astype(np.float32)
    one = np.zeros((100, 5000), np.float32)
    one[np.arange(100), np.arange(100)] = 1
    for weights in (heavy, one):
        marks = [weight_mark(OwnerKey(bytes([n] * 32)), model=b"x") for n in range(100)]
        right = sum(read(row, mark).right for row, mark in zip(weights, marks, strict=True))
        assert abs(right - 100 * 128) < 5 * np.sqrt(100 * 64)


def test_mark_bits_depend_on_owner_model_and_salt() -> None:
    variants = [
        MARK, weight_mark(OTHER, model=b"model hash"), weight_mark(KEY, model=b"other"),
        weight_mark(KEY, model=b"model hash", salt=b"1"),
    ]  # fmt: skip
    bits = np.stack([mark.bits() for mark in variants]).astype(int)
    assert (np.abs(bits @ bits.T - 256 * np.eye(4)) < 90).all()
    assert read(MARKED, variants[3]).right < 176


def test_p_value_of_the_threshold() -> None:
    from ptynet_plugin.whitebox.mark import Reading

    assert Reading(176, 0).log10_p < -9 < Reading(175, 0).log10_p
    assert Reading(256, 0).log10_p == pytest.approx(-256 * np.log10(2))
    assert Reading(192, 0).error_rate == 0.25


def test_the_secret_is_not_shown() -> None:
    assert MARK.secret.hex() not in repr(MARK)
    assert repr(MARK.secret) not in repr(MARK)


def test_what_cannot_carry_a_mark_is_refused() -> None:
    with pytest.raises(UsageError, match="a tensor of 100 weights cannot carry 256 bits"):
        read(layer(shape=(100,)), MARK)
    with pytest.raises(UsageError, match="multiply quantised weights by their scales"):
        read(np.zeros(5000, np.int8), MARK)
    with pytest.raises(UsageError, match="all zero or not finite"):
        embed(np.zeros(5000, np.float32), MARK)


def test_zero_weights_read_as_nothing() -> None:
    assert read(np.zeros(5000, np.float32), MARK).right == 0


def test_every_filter_changes_by_about_the_same_share() -> None:
    scale = np.geomspace(0.2, 5, 128)[:, None, None, None]
    uneven = (layer() * scale).astype(np.float32)
    marked = embed(uneven, MARK)
    assert read(marked, MARK).right == BITS
    share = np.linalg.norm((marked - uneven).reshape(128, -1), axis=1) / np.linalg.norm(uneven.reshape(128, -1), axis=1)
    assert share[64:].mean() < 8 * share[:64].mean()
    assert (share[:32] < share[96:].mean()).all()


def test_important_weights_are_spared() -> None:
    importance = np.ones((1, 128, 1, 1))
    importance[:, :32] = 50
    marked = embed(layer(), MARK, importance=importance)
    assert read(marked, MARK).right == BITS
    change = np.abs(marked - layer())
    assert change[:, :32].mean() < 0.1 * change[:, 32:].mean()


def test_an_importance_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match=r"importance of shape \(3,\) does not fit"):
        embed(layer(shape=(64, 64)), MARK, importance=np.ones(3))
    with pytest.raises(UsageError, match="below 0 or NaN"):
        embed(layer(shape=(64, 64)), MARK, importance=np.full((64, 64), np.nan))

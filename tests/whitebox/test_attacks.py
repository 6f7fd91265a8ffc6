"""Who knows the algorithm but not the key: attempts to hide the mark, to forge one, to choose a key afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from ptynet_plugin.errors import UsageError
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.statistics.binomial import log10_binomial_p_value
from ptynet_plugin.whitebox.decoys import decoy_rank
from ptynet_plugin.whitebox.freedom import by_inputs
from ptynet_plugin.whitebox.mark import BITS, embed, read, weight_mark
from ptynet_plugin.whitebox.model import mark_model, scan
from ptynet_plugin.whitebox.several import embed_jointly, read_jointly

KEY, THIEF = OwnerKey(bytes(range(32))), OwnerKey(bytes(range(1, 33)))
MARK = weight_mark(KEY, model=b"model hash")
ROWS, INPUTS = 64, 288


def layer(*, seed: int = 0, shape: tuple[int, ...] = (ROWS, 32, 3, 3)) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, shape).astype(np.float32)


def inputs_of_pictures() -> np.ndarray:
    """Second moments of inputs that are alike, as neighbouring pixels are: a few directions hold most."""
    mixing = np.random.default_rng(9).normal(size=(INPUTS, INPUTS)) * np.geomspace(1, 0.03, INPUTS)
    return mixing @ mixing.T / INPUTS


def changes() -> dict[str, np.ndarray]:
    return {f"layer{n}": layer(seed=n, shape=(32, 16, 3, 3)) for n in range(6)} | {"wide": layer(seed=9)}


MARKED = embed(layer(), MARK)


def test_one_huge_weight_behind_a_dead_channel_hides_nothing() -> None:
    for huge in (1e6, 1e30, np.inf, -np.inf, np.nan):
        attacked = MARKED.copy()
        attacked[5, 7, 1, 1] = huge
        assert read(attacked, MARK).right == BITS, huge
    dead = MARKED.astype(np.float64)
    dead[3] = 1e200 * np.sign(dead[3])
    assert read(dead, MARK).right >= 250


def test_weights_of_nothing_but_nan_or_zeros_read_as_nothing() -> None:
    for value in (np.nan, np.inf, 0.0):
        assert read(np.full((64, 64), value, np.float32), MARK).right == 0


@pytest.mark.parametrize("rounds", [10])
def test_many_strange_keys_embedded_one_after_another_do_not_erase_it(rounds: int) -> None:
    attacked = MARKED
    for n in range(rounds):
        attacked = embed(attacked, weight_mark(OwnerKey(bytes([n] * 32)), model=b"model hash"))
    assert read(attacked, MARK).log10_p < -9


def test_with_the_inputs_known_outputs_change_less_and_the_mark_stays() -> None:
    moments, before = inputs_of_pictures(), layer().reshape(ROWS, -1).astype(np.float64)

    def moved(marked: np.ndarray) -> float:
        change = marked.reshape(ROWS, -1) - before
        return float(np.sqrt(np.trace(change @ moments @ change.T) / np.trace(before @ moments @ before.T)))

    quiet = embed(layer(), MARK, moments=moments)
    assert read(quiet, MARK).right == BITS
    assert moved(quiet) < 0.6 * moved(MARKED)
    turned = embed(layer().reshape(ROWS, -1).T.copy(), MARK, moments=moments, transposed=True)
    assert read(turned, MARK).right == BITS
    assert moved(turned.T.reshape(layer().shape)) < 0.6 * moved(MARKED)


def test_wiping_off_what_the_data_never_reach_leaves_the_mark() -> None:
    moments = inputs_of_pictures()
    quiet = embed(layer(), MARK, moments=moments).reshape(ROWS, -1)
    values, directions = np.linalg.eigh(moments)
    kept = directions[:, np.cumsum(values) / values.sum() > 0.01]
    assert kept.shape[1] < 0.9 * INPUTS
    assert read(quiet @ kept @ kept.T, MARK).log10_p < -9


def test_moments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match=r"moments of shape \(3, 3\) do not fit filters of 288 weights"):
        by_inputs(layer().astype(np.float64), np.eye(3))
    with pytest.raises(UsageError, match="NaN, infinity or nothing but zeros"):
        by_inputs(layer().astype(np.float64), np.zeros((INPUTS, INPUTS)))


def test_a_kept_histogram_shows_no_test_anything() -> None:
    marked = embed(layer(), MARK, keep_histogram=True)
    reading = read(marked, MARK)
    assert (reading.right, reading.strength > 2.8) == (BITS, True)
    np.testing.assert_array_equal(np.sort(marked, axis=None), np.sort(layer(), axis=None))
    assert ks_2samp(marked.reshape(-1), layer().reshape(-1)).pvalue == 1
    assert ks_2samp(MARKED.reshape(-1), layer().reshape(-1)).pvalue < 1


def test_a_mark_spread_over_all_layers_moves_each_little_and_reads_in_any_order() -> None:
    marked = embed_jointly(changes(), MARK)
    shares = [np.linalg.norm(marked[name] - value) / np.linalg.norm(value) for name, value in changes().items()]
    assert max(shares) < 1.3 * min(shares)
    assert max(shares) < 0.8 * np.linalg.norm(embed(layer(seed=9), MARK) - layer(seed=9)) / np.linalg.norm(layer())
    assert read_jointly(list(marked.values())[::-1], MARK).right == BITS
    assert max(read(value, MARK).right for value in marked.values()) < BITS
    assert read_jointly(list(changes().values()), MARK).log10_p > -5
    with pytest.raises(UsageError, match="layer 'wide' is all zero"):
        embed_jointly(changes() | {"wide": np.zeros((64, 64), np.float32)}, MARK)


def test_a_scan_reads_a_spread_mark_and_decoys_do_not() -> None:
    marked, mark = mark_model(changes(), KEY, every=True)
    found = scan({f"onnx::{n}": value for n, value in enumerate(marked.values())}, mark)
    assert (found.layer, found.reading.right, len(found.members)) == ("all 7 layers together", BITS, 7)
    rank = decoy_rank(list(marked.values()), BITS, decoys=300)
    assert rank.p_value == 1 / 301
    assert 140 < rank.best < 176
    with pytest.raises(UsageError, match="names no layers and keeps no histogram"):
        mark_model(changes(), KEY, every=True, layers=["wide"])


def test_decoys_are_binomial_like_true_keys() -> None:
    rank = decoy_rank(layer(), 144, decoys=4000)
    assert rank.p_value == pytest.approx(10 ** log10_binomial_p_value(144, BITS, 0.5), rel=0.35)


def test_choosing_a_key_after_seeing_strange_weights_gains_what_the_allowance_pays_for() -> None:
    best = max(read(layer(seed=50), weight_mark(OwnerKey(n.to_bytes(32, "big")))).right for n in range(400))
    assert log10_binomial_p_value(best, BITS, 0.5) > -np.log10(400) - 3
    fewest = next(right for right in range(BITS) if log10_binomial_p_value(right, BITS, 0.5) < -9 - 64 * np.log10(2))
    assert fewest < 220, "a whole mark passes with 2^64 keys paid for"
    assert log10_binomial_p_value(176, BITS, 0.5) > -9 - 64 * np.log10(2)


def test_a_thief_who_marks_the_stolen_model_does_not_take_the_owners_mark_out_of_his_reference() -> None:
    owned, owners = mark_model(changes(), KEY)
    resold, thiefs = mark_model(owned, THIEF)
    assert scan(resold, thiefs).log10_p < -9, "his mark is in what he sells"
    assert scan(resold, owners).log10_p < -9, "so is the owner's"
    assert scan(owned, owners).log10_p < -9, "his reference carries the owner's mark"
    assert scan(changes(), thiefs).log10_p > -5, "the owner's reference does not carry his"


def test_a_reference_cannot_be_made_to_fit_its_own_mark() -> None:
    forged, mark = mark_model({"w": layer(seed=4)}, THIEF)
    _, named_by_forged = mark_model(forged, THIEF)
    assert scan(forged, mark).log10_p < -9
    assert scan(forged, named_by_forged).log10_p > -5, "changing the reference changes the bits it would need"


def test_thousands_of_tiny_tensors_are_paid_for() -> None:
    many = {f"w{n}": layer(seed=n, shape=(2048,)) for n in range(1500)}
    found = scan(many, MARK)
    assert found.attempts >= 1500
    assert found.reading.right > 145, "among so many one looks good"
    assert found.log10_p > -2

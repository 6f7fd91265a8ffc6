"""The audit sees a null that holds, and one that is broken."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from typer.testing import CliRunner

from model_store_tools.cli.main import app
from ptynet_plugin.evidence.null_study import NULL_ANSWER, _tail, answered, ask_keys, clustered, grind, inflation, study


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_a_null_that_holds_is_seen_to_hold(classes: int) -> None:
    rng = np.random.default_rng(3)
    found = study(rng.random((2000, 20)) < 1 / classes, classes, rng=rng)
    assert found.mean_e <= 1 + 4 * found.mean_e_error
    assert found.uniform_p > 0.01
    assert all(share <= level + 4 * (level / 2000) ** 0.5 for level, share in found.below.items())
    assert abs(found.hits - found.expected) < 5 * found.expected**0.5 + 1


def test_a_null_that_is_broken_is_seen_to_be_broken() -> None:
    rng = np.random.default_rng(3)
    found = study(rng.random((2000, 20)) < 0.25, 10, rng=rng)
    assert found.mean_e > 10
    assert found.below[0.05] > 0.1
    assert found.uniform_p < 1e-6


def test_peeking_at_the_binomial_claims_more_than_it_may() -> None:
    rng = np.random.default_rng(4)
    found = study(rng.random((4000, 60)) < 0.1, 10, rng=rng)
    assert found.peeked[0.05] > 0.1
    assert found.below[0.05] <= 0.05


def test_tails_are_binomial() -> None:
    hits = np.array([-1, 0, 1, 5, 20, 21])
    assert _tail(hits, 20, 0.1) == pytest.approx(binom.sf(hits - 1, 20, 0.1))


def test_keys_are_random_independent_and_the_same_again() -> None:
    one, two = (list(ask_keys(keys=2, probes=4, size=(8, 8), color="GRAY", seed=5)) for _ in range(2))
    assert np.array_equal(one[0].pictures, two[0].pictures)
    assert one[0].pictures.shape == (4, 8, 8, 1)
    assert not np.array_equal(one[0].pictures, one[1].pictures)
    assert one[0].salt != one[1].salt
    assert one[0].labels("a", 1000).tolist() != one[0].labels("b", 1000).tolist()


def test_an_answer_shared_by_two_classes_is_none() -> None:
    assert answered(np.array([[0.0, 1.0, 0.5], [1.0, 1.0, 0.0]])).tolist() == [1, NULL_ANSWER]


def test_grinding_gains_no_more_than_its_allowance() -> None:
    """Over many keys, the best of 64 salts after the allowance is at most 0.05 in at most 5 % of them."""
    rng = np.random.default_rng(6)
    question = next(ask_keys(keys=1, probes=12, size=(8, 8), color="GRAY", seed=7))
    adjusted = [grind(question, rng.integers(0, 10, 12), "model", 10, attempts=64)[1] for _ in range(150)]
    assert np.mean(np.array(adjusted) <= np.log10(0.05)) <= 0.05 + 3 * (0.05 * 0.95 / 150) ** 0.5


def test_the_audit_needs_something_to_attack() -> None:
    result = CliRunner().invoke(app, ["claim", "audit"])
    assert (result.exit_code, "nothing to attack" in result.output) == (2, True)


def test_rules_keep_peeking_resuming_and_repeating_at_the_level() -> None:
    """Without the rules the same looks claim more than the level; with them they stay below it."""
    rng = np.random.default_rng(8)
    hits = [rng.random((1500, 60)) < 0.1 for _ in range(4)]
    found = inflation(hits, [10] * 4, alpha=0.05, rng=rng)
    for kept, broken in vars(found).values():
        assert kept <= 0.05
        assert broken > 0.05


def test_p_values_over_models_are_judged_as_clusters() -> None:
    rng = np.random.default_rng(9)
    fair = [study(rng.random((400, 12)) < 0.1, 10, rng=rng) for _ in range(6)]
    found = clustered(fair)
    assert (found.models, found.claims) == (6, 0)
    assert found.mean_p > 0.01
    assert found.worst_uniform_p > 0.01
    bent = [study(rng.random((400, 12)) < 0.14, 10, rng=rng) for _ in range(6)]
    assert clustered(bent).mean_p < 1e-3

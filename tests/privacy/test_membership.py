"""The attacks find planted membership, find none where there is none, and never use the answer they look for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from ptynet_plugin.privacy.membership import likelihood_ratios, plain_scores
from ptynet_plugin.privacy.roc import area, area_interval


def drawn(effect: float, *, models: int = 24, pictures: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Statistics with a hardness per picture that swamps membership, and a loudness per model."""
    rng = np.random.default_rng(11)
    member = np.stack([rng.permutation(pictures) < pictures // 2 for _ in range(models)])
    hardness, loudness = 3 * rng.normal(size=pictures), 5 * rng.normal(size=(models, 1))
    return hardness + loudness + effect * member + 0.5 * rng.normal(size=(models, pictures)), member


def test_nothing_is_found_where_nothing_is() -> None:
    statistics, member = drawn(0.0)
    for scores in (plain_scores(statistics), likelihood_ratios(statistics, member)):
        found = area_interval(scores[member], scores[~member], confidence=0.999)
        assert found.low <= 0.5 <= found.high


def test_shadows_find_what_the_hardness_of_pictures_hides_from_the_plain_attack() -> None:
    statistics, member = drawn(0.8)
    plain, ratio = plain_scores(statistics), likelihood_ratios(statistics, member)
    assert area(plain[member], plain[~member]) < 0.62
    assert area(ratio[member], ratio[~member]) > 0.8


def test_ratio_is_that_of_two_gaussians() -> None:
    statistics, member = drawn(0.8, models=16, pictures=12)
    level = plain_scores(statistics)
    shadows, inside = level[1:], member[1:]
    means = [np.array([shadows[kind[:, i], i].mean() for i in range(12)]) for kind in (inside, ~inside)]
    spread = [
        np.sqrt(((shadows - mean)[kind] ** 2).sum() / (kind.sum() - 12))
        for mean, kind in zip(means, (inside, ~inside), strict=True)
    ]
    wanted = norm.logpdf(level[0], means[0], spread[0]) - norm.logpdf(level[0], means[1], spread[1])
    assert likelihood_ratios(statistics, member)[0] == pytest.approx(wanted)


def test_a_target_s_own_membership_never_enters_its_scores() -> None:
    statistics, member = drawn(0.8)
    turned = member.copy()
    turned[3] = ~turned[3]
    assert np.array_equal(likelihood_ratios(statistics, member)[3], likelihood_ratios(statistics, turned)[3])


def test_too_few_shadows_are_refused() -> None:
    member = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1], [0, 0, 0]], bool)
    with pytest.raises(ValueError, match=r"has [01] shadows of one kind, at least 2"):
        likelihood_ratios(np.random.default_rng(0).normal(size=(4, 3)), member)
    with pytest.raises(ValueError, match="shape"):
        likelihood_ratios(np.zeros((4, 3)), np.zeros((4, 2), bool))

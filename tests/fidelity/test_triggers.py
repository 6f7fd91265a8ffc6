"""Trigger chains are the key's: nobody else's continue, and neither pictures nor labels can be exchanged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from ptynet_plugin.errors import UsageError
from ptynet_plugin.fidelity.triggers import chain_labels, follows, key_chains

SECRET, OTHER = bytes(range(32)), bytes(32)


def chains(secret: bytes = SECRET, **more):
    return key_chains(secret, **{"size": (28, 28), "channels": 1, "classes": 10, **more})


def test_the_same_key_makes_the_same_triggers_and_another_key_others() -> None:
    assert np.array_equal(chains().pictures, chains().pictures)
    assert not np.array_equal(chains().pictures, chains(OTHER).pictures)
    assert chains().pictures.shape == (100, 28, 28, 1)
    colored = chains(size=(16, 32), channels=3).pictures
    assert colored.shape == (100, 16, 32, 3)
    assert (colored[..., 0] == colored[..., 2]).all()


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (32, 32), (64, 96)])
def test_a_chain_follows_its_own_key_alone(size: tuple[int, int]) -> None:
    made = chains(size=size)
    assert follows(made, SECRET, classes=10)
    assert not follows(made, OTHER, classes=10)


def test_an_exchanged_picture_or_label_is_found_out() -> None:
    made = chains(chains=2, length=5)
    pictures = made.pictures.copy()
    pictures[3] = 255 - pictures[3]
    assert not follows(replace(made, pictures=pictures), SECRET, classes=10)
    rehashed = replace(made, pictures=pictures, labels=chain_labels(pictures, classes=10))
    assert not follows(rehashed, SECRET, classes=10), "right labels, but no chain of this key"
    wrong = made.labels.copy()
    wrong[0] = (wrong[0] + 1) % 10
    assert not follows(replace(made, labels=wrong), SECRET, classes=10)


def test_a_label_depends_on_every_picture_before_it() -> None:
    made = chains(chains=4, length=10, classes=1000)
    pictures = made.pictures.copy()
    pictures[0, 0, 0] ^= 1
    moved = chain_labels(pictures, classes=1000)
    assert (moved != made.labels).mean() > 0.9
    assert np.array_equal(chain_labels(made.pictures[:7], classes=1000), made.labels[:7])


def test_labels_are_spread_evenly() -> None:
    labels = chains(size=(8, 8), chains=200, length=10).labels
    assert chisquare(np.bincount(labels, minlength=10)).pvalue > 1e-4


@pytest.mark.parametrize("knobs", [{"chains": 0}, {"length": 0}, {"classes": 1}])
def test_nothing_to_make_is_refused(knobs: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1, 1 and 2 are needed"):
        chains(**knobs)

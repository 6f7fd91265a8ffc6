"""Pictures between pictures, and pictures at the decision boundary."""

from __future__ import annotations

import numpy as np

from ptynet_plugin.fidelity import boundary

PICTURES = np.random.default_rng(5).integers(0, 256, (12, 6, 6, 3), np.uint8)


def by_brightness(pictures: np.ndarray) -> np.ndarray:
    mean = pictures.reshape(len(pictures), -1).mean(axis=1)
    return np.stack([mean, np.full(len(mean), 127.5)], axis=1)


def test_blends_end_in_the_pictures_themselves() -> None:
    first, second = PICTURES[:6], PICTURES[6:]
    assert (boundary.blend(first, second, np.zeros(6, np.int64)) == first).all()
    assert (boundary.blend(first, second, np.full(6, 256)) == second).all()
    half = boundary.blend(first, second, np.full(6, 128)).astype(float)
    assert np.abs(half - (first.astype(float) + second) / 2).max() <= 0.5


def test_pairs_hold_two_different_pictures() -> None:
    pairs = boundary.pair_up(12, 500, seed=1)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert pairs.min() == 0
    assert pairs.max() == 11


def test_segments_run_between_their_ends() -> None:
    pairs = np.array([[0, 1], [2, 3]])
    points = boundary.segment_pictures(PICTURES, pairs, points=3)
    assert points.shape == (6, 6, 6, 3)
    assert (points[1] == boundary.blend(PICTURES[:1], PICTURES[1:2], np.array([128]))[0]).all()


def test_boundary_pictures_lie_on_both_sides_one_step_apart() -> None:
    pairs = boundary.pair_up(12, 40, seed=2)
    low, high = boundary.boundary_pictures(PICTURES, pairs, by_brightness)
    assert 5 < len(low) < 40
    assert (by_brightness(low).argmax(1) != by_brightness(high).argmax(1)).all()
    assert np.abs(low.astype(int) - high.astype(int)).max() <= 1


def test_a_host_that_never_changes_its_mind_has_no_boundary() -> None:
    low, high = boundary.boundary_pictures(PICTURES, boundary.pair_up(12, 5), lambda p: np.ones((len(p), 3)))
    assert len(low) == len(high) == 0
    assert boundary.agreement(np.ones((0, 3)), np.ones((0, 3))) == 1


def test_a_moved_boundary_shows_at_the_boundary_and_hardly_along_segments() -> None:
    def moved(pictures: np.ndarray) -> np.ndarray:
        return by_brightness(pictures) + np.array([[0.2, 0.0]])

    pairs = boundary.pair_up(12, 200, seed=3)
    low, high = boundary.boundary_pictures(PICTURES, pairs, by_brightness)
    points = boundary.segment_pictures(PICTURES, pairs, points=9)
    near = boundary.agreement(by_brightness(np.concatenate([low, high])), moved(np.concatenate([low, high])))
    assert near < 0.8
    assert near < boundary.agreement(by_brightness(points), moved(points)) < 1

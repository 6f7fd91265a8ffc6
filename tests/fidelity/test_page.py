"""The page and its plots: everything in one file, everything escaped."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from ptynet_plugin.fidelity.boundary import plane_pictures
from ptynet_plugin.fidelity.page import render_fidelity
from ptynet_plugin.fidelity.plots import confidence_plot, feature_plot, slice_plot
from ptynet_plugin.fidelity.report import FidelityReport, Row

RNG = np.random.default_rng(1)


INK = "#1b1e23"


def drawn(plot: str) -> ElementTree.Element:
    """Parse what a plot gives: an SVG with a legend behind it."""
    return ElementTree.fromstring(f"<div>{plot}</div>")


def test_a_feature_that_moved_is_black_with_a_line_from_where_it_was() -> None:
    features, classes = RNG.normal(size=(30, 12)), RNG.integers(0, 25, 30)
    same = feature_plot(features, features, classes)
    assert len(drawn(same).findall(".//{*}circle")) == 60
    assert INK not in same
    moved = features.copy()
    moved[4] += 1
    assert feature_plot(features, moved, classes).count(INK) == 2
    assert "and " in same
    assert "class 10" in feature_plot(features, features, np.full(30, 10))


def test_a_bin_that_differs_is_black() -> None:
    confidence = RNG.random(50)
    equal = confidence_plot(confidence, confidence).count(INK)
    other = confidence.copy()
    other[0] = 1 - other[0] if abs(other[0] - 0.5) > 0.06 else 0.99
    drawn(confidence_plot(confidence, other))
    assert confidence_plot(confidence, other).count(INK) == equal + 4


def test_a_point_of_the_plane_that_differs_is_black_and_the_corners_are_shown() -> None:
    host = RNG.integers(0, 3, (12, 12))
    moved = host.copy()
    moved[3, 4] += 1
    assert slice_plot(host, moved).count(INK) == 1
    assert slice_plot(host, host).count(INK) == 0
    for channels in (1, 3):
        corners = RNG.integers(0, 256, (3, 300, 200, channels), np.uint8)
        shown = slice_plot(host, moved, corners)
        assert shown.count("data:image/png;base64,") == 3
        assert len(shown) < 200_000


def test_odd_numbers_do_not_break_plots() -> None:
    drawn(feature_plot(np.zeros((3, 1)), np.full((3, 1), np.nan), np.zeros(3, np.int64)))
    drawn(confidence_plot(np.array([np.nan]), np.array([1.0])))


def test_the_plane_holds_its_corners() -> None:
    corners = RNG.integers(0, 256, (3, 4, 4, 3), np.uint8)
    plane = plane_pictures(corners, side=7).reshape(7, 7, 4, 4, 3)
    assert (plane[1, 1] == corners[0]).all()
    assert np.abs(plane[1, 5].astype(int) - corners[1]).max() <= 1
    assert np.abs(plane[5, 1].astype(int) - corners[2]).max() <= 1


def test_the_page_names_failures_and_escapes() -> None:
    rows = (Row("a", "first <measure>", 3, 0, note="of 9 & more"), Row("b", "second", None), Row("c", "third", np.inf))
    classes = np.zeros(9, np.int64)
    series = {"confidence": (RNG.random(9), RNG.random(9)), "features": (RNG.random((9, 3)),) * 2, "classes": classes}
    page = render_fidelity(FidelityReport(rows, 9, "engine", series=series), name="<m>.mar")
    assert "1 limits are not kept" in page
    assert "first &lt;measure&gt;" in page
    assert "&lt;m&gt;.mar" in page
    assert page.count("<svg") == 2
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")

"""The page and its plots: everything in one file, everything escaped."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from ptynet_plugin.fidelity.boundary import plane_pictures
from ptynet_plugin.fidelity.page import render_fidelity
from ptynet_plugin.fidelity.plots import confidence_plot, feature_plot, slice_plot
from ptynet_plugin.fidelity.report import FidelityReport, Row

RNG = np.random.default_rng(1)


def test_plots_are_well_formed_and_show_every_difference() -> None:
    features, classes = RNG.normal(size=(30, 12)), RNG.integers(0, 25, 30)
    assert len(ElementTree.fromstring(feature_plot(features, features, classes)).findall(".//{*}circle")) == 60
    ElementTree.fromstring(confidence_plot(RNG.random(50), RNG.random(50)))
    host = RNG.integers(0, 3, (12, 12))
    moved = host.copy()
    moved[3, 4] += 1
    assert slice_plot(host, moved).count("#1b1e23") == 1
    assert slice_plot(host, host).count("#1b1e23") == 0
    ElementTree.fromstring(slice_plot(host, moved))


def test_odd_numbers_do_not_break_plots() -> None:
    ElementTree.fromstring(feature_plot(np.zeros((3, 1)), np.full((3, 1), np.nan), np.zeros(3, np.int64)))
    ElementTree.fromstring(confidence_plot(np.array([np.nan]), np.array([1.0])))


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

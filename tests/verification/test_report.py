"""The HTML page: complete in itself, escaped, with the words that its verdict needs."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

import numpy as np
import pytest

from ptynet_plugin.errors import BadAnswer
from ptynet_plugin.verification.curve import evidence_curve
from ptynet_plugin.verification.report import MOST_PICTURES, power, render_report
from tests.support.standins import FakeEndpoint
from tests.support.verification_case import Case

VOID = {"meta", "img", "br"}


class Balanced(HTMLParser):
    """Fails on tags that do not close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page_of(case: Case, answer: Callable[[np.ndarray], int | None] | FakeEndpoint) -> str:
    return render_report(case.verify(answer), case.questions)


def refused(case: Case) -> Callable[[np.ndarray], int]:
    def answer(picture: np.ndarray) -> int:
        if case.symbol(picture) is not None:
            raise BadAnswer("<script>alert('x')</script> & more")
        return 3

    return answer


def test_the_page_is_well_formed_and_loads_nothing(case: Case) -> None:
    for answer in (case.marked, lambda picture: 7, refused(case), lambda picture: None):
        page = page_of(case, answer)
        parser = Balanced()
        parser.feed(page)
        assert parser.open == []
        assert not re.findall(r"""(?:src|href)=["'](?!data:image/png;base64,)""", page)
        assert "<script" not in page
        assert "url(" not in page


def test_what_came_from_the_endpoint_is_escaped(case: Case) -> None:
    name = 'fake://<img src=x onerror="alert(1)">/m'
    page = page_of(case, FakeEndpoint(refused(case), name=name))
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; more" in page


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (
            "marked",
            ("The mark is shown.", "What this does not prove", "proxy to the owner", "party evidence, unstamped"),
        ),
        ("independent", ("The mark is not shown.", "no proof of innocence", "are excluded at 99 %")),
        ("refusing", ("Evasion suspected.", "no evidence of ownership", "Benign controls")),
    ],
)
def test_each_verdict_says_what_it_means(case: Case, answers: str, words: tuple[str, ...]) -> None:
    suspect = {"marked": case.marked, "independent": lambda picture: 7, "refusing": refused(case)}[answers]
    page = page_of(case, suspect)
    assert [word for word in words if word not in page] == []


def test_only_a_few_asked_pictures_are_disclosed(case: Case) -> None:
    result = case.verify(case.marked)
    page = render_report(result, case.questions)
    assert page.count("data:image/png;base64,") == MOST_PICTURES
    shown = {int(symbol) for symbol in re.findall(r"probe of symbol (\d+)", page)}
    assert shown <= {query.symbol for query in result.run.probes}
    assert (
        "gives away a little of the key&#39;s carriers" in page or "gives away a little of the key's carriers" in page
    )


@pytest.mark.parametrize(
    ("log10", "text"),
    [(0.0, "1"), (-1.0, "0.1"), (2.0, "100"), (-9.7, "2.0·10⁻¹⁰"), (12.3, "2.0·10¹²"), (-400, "1.0·10⁻⁴⁰⁰")],
)
def test_numbers_by_their_logarithm(log10: float, text: str) -> None:
    assert power(log10) == text


@pytest.mark.parametrize("evidence", [[], [0.0], [1.0, 2.0, 3.0], [-0.1] * 200, [-5000.0], [300.0] * 448])
def test_the_curve_stays_inside_its_frame(evidence: list[float]) -> None:
    curve = evidence_curve(evidence, 9.2)
    points = re.search(r'points="([^"]*)"', curve)[1].split()
    xs, ys = zip(*(map(float, point.split(",")) for point in points), strict=True)
    assert len(points) == len(evidence) + 1
    assert 0 <= min(xs) <= max(xs) <= 720
    assert 0 <= min(ys) <= max(ys) <= 260

"""The demo's HTML report: one summary page with pictures of probes, and one full report per verification beside it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from markupsafe import Markup

from model_store_tools.demo.story import Chapter, Story, Suspicion
from ptynet_plugin import __version__
from ptynet_plugin.images.probes import ProbeMaker
from ptynet_plugin.images.resize import resize
from ptynet_plugin.pages import page_template
from ptynet_plugin.verification.curve import evidence_curve
from ptynet_plugin.verification.endpoint import Picture
from ptynet_plugin.verification.pictures import compress
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.report import power, render_report
from ptynet_plugin.verification.result import VerificationResult

__all__ = ["write_page"]

PICTURED = 8


def write_page(story: Story, path: Path) -> Path:
    """Write the report; the full reports go into the folder `reports` beside it.

    Args:
        story: What happened.
        path: HTML file to write.

    Returns:
        `path`.
    """
    for chapter in story.chapters:
        for number, suspicion in enumerate(chapter.suspicions, start=1):
            detail = path.parent / _link(chapter, number)
            detail.parent.mkdir(exist_ok=True)
            detail.write_text(render_report(suspicion.result, Questions(story.claim, suspicion.key)), encoding="utf-8")
    path.write_text(page_template("model_store_tools.demo", "report.html").render(_content(story)), encoding="utf-8")
    return path


def _content(story: Story) -> dict[str, Any]:
    return {
        "version": __version__,
        "as_expected": story.as_expected,
        "accuracy": story.accuracy,
        "servers": " and ".join(f"a real {chapter.title}" for chapter in story.chapters),
        "left_out": story.left_out,
        "chapters": story.chapters,
        "power": power,
        "link": _link,
        "curve": _curve,
        "probes": _probes(story, story.chapters[0].suspicions[0]),
    }


def _link(chapter: Chapter, number: int) -> str:
    return f"reports/{chapter.server}-{number}.html"


def _curve(result: VerificationResult) -> Markup:
    return Markup(evidence_curve(result.evidence, result.needed))  # numbers and fixed words only


def _probes(story: Story, first: Suspicion) -> list[dict[str, Any]]:
    """Picture the first symbols that were asked: cover, trigger, probe."""
    maker = ProbeMaker(story.key.probe_secret(), story.claim.design)
    labels = story.claim.labels(story.key.epoch_secret(story.claim.terms.epoch))
    size = story.claim.terms.spec.size
    assert size is not None  # the demo's spec says it
    asked = [query.symbol for query in first.result.run.probes][:PICTURED]
    return [
        {
            "symbol": symbol,
            "label": int(labels[symbol]),
            "cover": _data_url(maker.cover(symbol, 0, size)),
            "trigger": _data_url(resize(maker.trigger(symbol), size)),
            "probe": _data_url(maker.probe(symbol, 0, size)),
        }
        for symbol in asked
    ]


def _data_url(picture: Picture) -> str:
    return "data:image/png;base64," + base64.b64encode(compress(picture, "png")).decode()

"""The fidelity report as one HTML page that needs nothing else: verdict, table, plots."""

from __future__ import annotations

import math

from jinja2 import Environment

from ptynet_plugin.fidelity.plots import confidence_plot, feature_plot, slice_plot
from ptynet_plugin.fidelity.report import FidelityReport, Row

__all__ = ["render_fidelity"]

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Fidelity of {{ name }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1e23; max-width: 64rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .25rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #e6e8eb; vertical-align: top }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap } .note, figcaption { color: #6a717b; font-size: .87rem }
.failed { color: #b3261e; font-weight: 600 } .kept { color: #1d7d3f }
.verdict { font-size: 1.15rem; margin: .25rem 0 }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; margin: 1rem 0 }
.facts div { background: #f6f7f8; border-radius: 6px; padding: .6rem .8rem } .facts b { display: block; font-size: 1.3rem }
.plots { display: flex; flex-wrap: wrap; gap: 1rem 2rem } figure { margin: 0 } svg { max-width: 100%; height: auto }
.legend, .thumbnails { display: flex; flex-wrap: wrap; gap: .2rem .9rem; margin: .3rem 0; font-size: .87rem; color: #6a717b }
.legend i { display: inline-block; width: .7rem; height: .7rem; border-radius: 50%; margin-right: .3rem }
.thumbnails img { image-rendering: pixelated; vertical-align: middle; border-radius: 4px }
</style></head><body>
<h1>Fidelity of {{ name }}</h1>
<p class="verdict {{ 'kept' if report.ok else 'failed' }}">{{ verdict }}</p>
<p class="note">{{ report.pictures }} benign pictures ({{ report.source }}), both models on {{ report.engine }};
{{ '%.1f' | format(report.seconds) }} s. Measures after Hua &amp; Teoh, arXiv 2208.00563.</p>
<div class="facts">{% for fact in facts %}
<div><b class="{{ fact.style }}">{{ fact.value }}</b>{{ fact.title }}</div>{% endfor %}
</div>
{% if plots %}<h2>Before and after</h2>
<div class="plots">{% for plot in plots %}
<figure>{{ plot.svg | safe }}<figcaption>{{ plot.caption }}</figcaption></figure>
{% endfor %}</div>{% endif %}
<h2>Every measure</h2>
<table><thead><tr><th>measure</th><th>value</th><th>limit</th><th></th><th>compared</th></tr></thead><tbody>
{% for row in rows %}<tr><td>{{ row.title }}</td><td class="number">{{ row.value }}</td><td class="number">{{ row.limit }}</td>
<td class="{{ row.style }}">{{ row.mark }}</td><td class="note">{{ row.note }}</td></tr>
{% endfor %}</tbody></table></body></html>
"""

FACTS = {
    "rows_differing": "answers changed",
    "feature_loss": "feature loss PFL",
    "softmax_loss": "softmax loss SPL",
    "tensors_changed": "tensors changed (TWL)",
    "boundary_agreement": "same side of the boundary",
    "false_fires": "fires on benign pictures",
}
"""The measures shown large, by name, and what they are called there."""


def render_fidelity(report: FidelityReport, *, name: str) -> str:
    """Render a report; what plots need is taken from its `series`.

    Args:
        report: Of `compare` or of the gate.
        name: What was compared.
    """
    failed = len(report.failures())
    verdict = "Every limit is kept." if not failed else f"{failed} limits are not kept."
    page = Environment(autoescape=True).from_string(PAGE)
    return page.render(
        report=report,
        name=name,
        verdict=verdict,
        rows=map(_shown, report.rows),
        facts=[_fact(row) for row in report.rows if row.name in FACTS],
        plots=_plots(report),
    )


def _fact(row: Row) -> dict[str, str]:
    return {**_shown(row), "title": FACTS[row.name]}


def _shown(row: Row) -> dict[str, str]:
    limit = "" if row.limit is None else f"{row.bound} {_number(row.limit)}"
    judged = row.value is not None and row.limit is not None
    return {
        "title": row.title,
        "value": "not measured" if row.value is None else _number(row.value),
        "limit": limit,
        "mark": ("kept" if row.ok else "failed") if judged else "",
        "style": "note" if row.value is None else "kept" if row.ok else "failed",
        "note": row.note,
    }


def _number(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    return f"{int(value)}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def _plots(report: FidelityReport) -> list[dict[str, str]]:
    series, plots = report.series, []
    if series.get("features") is not None:
        caption = "Penultimate features along the bare model's two main directions. What moved is black."
        host, marked = series["features"]
        plots.append({"svg": feature_plot(host, marked, series["classes"]), "caption": caption})
    if series.get("confidence") is not None:
        caption = "Probability of the top class; heights are square roots of counts. Bins that differ are black."
        plots.append({"svg": confidence_plot(*series["confidence"]), "caption": caption})
    if series.get("slice") is not None:
        caption = (
            "Classes in the plane through three benign pictures A, B, C, and a little beyond. What differs is black."
        )
        plots.append({"svg": slice_plot(*series["slice"]), "caption": caption})
    return plots

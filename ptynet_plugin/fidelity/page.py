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
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1e23; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #d8dbe0 }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap } .note { color: #6a717b }
.failed { color: #b3261e; font-weight: 600 } .kept { color: #1d7d3f } figure { margin: 1.5rem 0 }
svg { max-width: 100%; height: auto }
.pair { display: flex; flex-wrap: wrap; gap: 1.5rem }
</style></head><body>
<h1>Fidelity of {{ name }}</h1>
<p class="{{ 'kept' if report.ok else 'failed' }}">{{ verdict }}</p>
<p>{{ report.pictures }} benign pictures ({{ report.source }}), both models on {{ report.engine }};
{{ '%.1f' | format(report.seconds) }} s. Measures after Hua &amp; Teoh, arXiv 2208.00563.</p>
<table><thead><tr><th>measure</th><th>value</th><th>limit</th><th></th></tr></thead><tbody>
{% for row in rows %}<tr><td>{{ row.title }}</td><td class="number">{{ row.value }}</td><td class="number">{{ row.limit }}</td>
<td class="{{ row.style }}">{{ row.mark }}</td></tr>{% if row.note %}
<tr><td class="note" colspan="4">{{ row.note }}</td></tr>{% endif %}
{% endfor %}</tbody></table>
<div class="pair">{% for plot in plots %}
<figure>{{ plot.svg | safe }}<figcaption class="note">{{ plot.caption }}</figcaption></figure>
{% endfor %}</div></body></html>
"""


def render_fidelity(report: FidelityReport, *, name: str) -> str:
    """Render a report; what plots need is taken from its `series`.

    Args:
        report: Of `compare` or of the gate.
        name: What was compared.
    """
    failed = len(report.failures())
    verdict = "Every limit is kept." if not failed else f"{failed} limits are not kept."
    page = Environment(autoescape=True).from_string(PAGE)
    return page.render(report=report, name=name, verdict=verdict, rows=map(_shown, report.rows), plots=_plots(report))


def _shown(row: Row) -> dict[str, str]:
    limit = "" if row.limit is None else f"{row.bound} {_number(row.limit)}"
    judged = row.value is not None and row.limit is not None
    return {
        "title": row.title,
        "value": "not measured" if row.value is None else _number(row.value),
        "limit": limit,
        "mark": ("kept" if row.ok else "failed") if judged else "",
        "style": "kept" if row.ok else "failed",
        "note": row.note,
    }


def _number(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    return f"{int(value)}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def _plots(report: FidelityReport) -> list[dict[str, str]]:
    series, plots = report.series, []
    if series.get("features") is not None:
        host, marked = series["features"]
        svg = feature_plot(host, marked, series["classes"])
        plots.append(
            {
                "svg": svg,
                "caption": "Penultimate features along their two main directions. Rings: bare. Dots: packaged.",
            }
        )
    if series.get("confidence") is not None:
        svg = confidence_plot(*series["confidence"])
        plots.append({"svg": svg, "caption": "Probability of the top class. Bars: bare. Line: packaged."})
    if series.get("slice") is not None:
        svg = slice_plot(*series["slice"])
        caption = (
            "Classes in the plane through three benign pictures. Left: bare. Right: packaged, differences in black."
        )
        plots.append({"svg": svg, "caption": caption})
    return plots

"""An audit as one self-contained HTML page: two plots, the three headings, and what to do about each attack that wins."""

from __future__ import annotations

import math
from itertools import groupby

from markupsafe import Markup

from model_store_tools.audit.audit import Audit
from model_store_tools.audit.contract import Heading
from model_store_tools.audit.plots import survival_plot, time_plot
from model_store_tools.audit.suite import Row
from ptynet_plugin import __version__
from ptynet_plugin.pages import page_template

__all__ = ["HEADING_TITLES", "RESULT_WORDS", "render_audit"]

HEADING_TITLES: dict[Heading, str] = {
    "input": "Input side: a filter before the model",
    "weights": "Weights: training, pruning, lower precision",
    "extraction": "Extraction: a clone from answers",
    "structure": "Structure: the graph taken apart",
    "inversion": "Inversion: searching for the trigger or the key",
}
RESULT_WORDS = {
    "survived": "survived",
    "mark-lost": "mark lost",
    "model-lost": "mark and model lost",
    "attack-failed": "attack failed",
    "refused": "does not apply",
}


def render_audit(audit: Audit) -> str:
    """Render."""
    groups = [
        (HEADING_TITLES[heading], [_shown(row) for row in rows])
        for heading, rows in groupby(audit.rows, key=lambda row: row.heading)
    ]
    won = [row for row in audit.rows if row.result == "mark-lost"]
    return page_template("model_store_tools.audit", "audit.html").render(
        audit=audit,
        price=_price(audit),
        groups=groups,
        counts=_counts(audit),
        won=[(row.attack, row.answer or "nothing yet") for row in won],
        survival=Markup(survival_plot(audit.rows)),
        times=Markup(time_plot(audit.rows)),
        measure="accuracy" if audit.true_labels else "agreement with the archive",
        version=__version__,
    )


def _counts(audit: Audit) -> list[tuple[str, int]]:
    return [(word, sum(row.result == result for row in audit.rows)) for result, word in RESULT_WORDS.items()]


def _price(audit: Audit) -> dict[str, list[tuple[str, str]]]:
    price, unknown = audit.price, "not measured for torch archives; ptynet fidelity compares with the target"
    changed = unknown if price.changed is None else f"{price.changed} of {price.pictures} held-out pictures"
    latency = unknown
    if price.microseconds is not None and price.ratio is not None:
        latency = f"{price.microseconds:+.0f} us, ratio {price.ratio:.3f} (batch 1, one thread)"
    return {
        "Imperceptibility": [
            ("target tensors unchanged", f"{price.tensors} of {price.tensors}, by SHA-256"),
            ("answers with other bytes than the bare target's", changed),
            ("accuracy" if audit.true_labels else "agreement with itself", f"{audit.accuracy:.1%}"),
        ],
        "Cost": [
            ("parameters added", f"{price.parameters:,}"),
            ("operations added to a picture", f"{price.flops / 1e6:.2f} MFLOP"),
            ("file grown by", unknown if price.octets is None else f"{price.octets / 1024:.0f} KiB"),
            ("latency added", latency),
            ("queries to the verdict, unattacked", f"{audit.baseline.queries} ({audit.baseline.verdict})"),
        ],
    }


def _shown(row: Row) -> dict[str, str | bool]:
    evidence = row.evidence
    return {
        "name": row.attack,
        "source": row.source,
        "promised": row.promised,
        "kept": "" if row.kept is None else f"{row.kept:.1%}",
        "verdict": evidence.verdict if evidence else "",
        "p": f"{evidence.log10_p:.1f}" if evidence and math.isfinite(evidence.log10_p) else "",
        "queries": str(evidence.queries) if evidence else "",
        "seconds": f"{row.seconds:.1f}",
        "pictures": str(row.pictures or ""),
        "result": row.result,
        "word": RESULT_WORDS[row.result],
        "note": row.note,
    }

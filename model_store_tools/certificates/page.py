"""A certificate as one self-contained HTML page, to print and to file. The signed JSON is the record."""

from __future__ import annotations

from model_store_tools.certificates.certificate import Certificate
from model_store_tools.certificates.countersignature import Countersignature
from model_store_tools.certificates.power import power_rows
from ptynet_plugin import __version__
from ptynet_plugin.pages import page_template

__all__ = ["render_certificate"]


def render_certificate(certificate: Certificate, countersignature: Countersignature | None = None) -> str:
    """Write the page; complete in itself, everything in it escaped.

    Args:
        certificate: What to show.
        countersignature: The customer's, where there is one.
    """
    facts = certificate.facts
    return page_template("model_store_tools.certificates", "certificate.html").render(
        version=__version__,
        certificate=certificate,
        facts=facts,
        code=facts.code,
        rows=power_rows(facts.code.positions, coalition=facts.code.coalition),
        eps=f"{certificate.eps:.0e}",
        own=f"{certificate.own_bound:.1e}",
        countersignature=countersignature,
    )

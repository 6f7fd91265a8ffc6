"""What a customer gets beside a copy: a certificate that the owner signed, and what the customer signs in return.

    certificate = make_certificate(copy, archive=..., ...)          # the owner's, signed with the claim's key
    countersignature = countersign(certificate, customer_key)       # the customer's, over archive and certificate
    countersignature.require_fits(certificate)

Neither needs a registry; countersigning needs no key of the owner's.
"""

from model_store_tools.certificates.certificate import Certificate, CodeFacts, make_certificate, read_certificate
from model_store_tools.certificates.countersignature import (
    Countersignature,
    countersign,
    read_countersignature,
    read_customer_key,
)
from model_store_tools.certificates.page import render_certificate

__all__ = [
    "Certificate",
    "CodeFacts",
    "Countersignature",
    "countersign",
    "make_certificate",
    "read_certificate",
    "read_countersignature",
    "read_customer_key",
    "render_certificate",
]

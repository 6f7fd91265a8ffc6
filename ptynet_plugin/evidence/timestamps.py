"""Time stamps by RFC 3161: asking an authority for one, and verifying it against a pinned certificate.

The authority's root certificate is kept beside the stamp; from then on only that root counts. Verifying needs
`rfc3161-client` (extra `evidence`); anybody else uses `openssl ts -verify`.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate

from ptynet_plugin.claims.files import read_file
from ptynet_plugin.errors import ClaimError, UsageError
from ptynet_plugin.evidence.der import Stamp, read_stamp
from ptynet_plugin.evidence.fetching import fetch

__all__ = ["Authority", "certificates_expire", "openssl_command", "read_roots", "request_stamp", "verify_stamp"]

_MOST_OCTETS = 1 << 20
_MEDIA_TYPE = "application/timestamp-query"


@dataclass(frozen=True)
class Authority:
    """A time-stamping authority, and the roots trusted to vouch for it.

    Attributes:
        url: HTTP address.
        roots: PEM certificates.
        timeout: Seconds per request.
    """

    url: str
    roots: bytes
    timeout: float = 30.0

    def stamp(self, message: bytes) -> tuple[bytes, bytes]:
        """Have a message stamped, and verify the stamp.

        Returns:
            The `TimeStampResp`, and the PEM of the root that vouches for it.

        Raises:
            ClaimError: No stamp, or none that verifies.
        """
        response = request_stamp(message, self.url, timeout=self.timeout)
        return response, verify_stamp(response, message, roots=self.roots)[1]


def request_stamp(message: bytes, url: str, *, timeout: float = 30.0) -> bytes:
    """Ask an authority to stamp SHA-256 of a message.

    Args:
        message: What is stamped; the authority sees its hash alone.
        url: HTTP address of the authority.
        timeout: Seconds.

    Returns:
        The `TimeStampResp` as it came; verify it before use.

    Raises:
        ClaimError: No answer, or no time stamp in it.
    """
    client = _library()
    query = client.TimestampRequestBuilder().data(message).hash_algorithm(client.HashAlgorithm.SHA256).build()
    try:
        answer = fetch("POST", url, most=_MOST_OCTETS, timeout=timeout, body=query.as_bytes(), kind=_MEDIA_TYPE)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ClaimError(
            f"{url}: the time-stamping authority gave no stamp ({error}); try again or use another"
        ) from None
    if query.nonce is not None and _decoded(answer).tst_info.nonce != query.nonce:
        raise ClaimError(f"{url}: the answer belongs to another question (its nonce differs)")
    return answer


def verify_stamp(response: bytes, message: bytes, *, roots: bytes) -> tuple[Stamp, bytes]:
    """Make sure that an authority under one of these roots stamped this message.

    Args:
        response: `TimeStampResp` bytes.
        message: What was stamped.
        roots: PEM certificates that are trusted.

    Returns:
        The stamp, and the PEM of the one root that vouches for it.

    Raises:
        ClaimError: It stamps something else, or no root vouches for it.
    """
    client = _library()
    stamp, decoded = read_stamp(response), _decoded(response)
    problem: object = "no certificate was given"
    for root in _certificates(roots):
        builder = client.VerifierBuilder().add_root_certificate(root)
        for octets in decoded.signed_data.certificates:
            certificate = _certificate(octets)
            if certificate != root:
                builder = builder.add_intermediate_certificate(certificate)
        try:
            builder.build().verify_message(decoded, message)
        except (client.VerificationError, ValueError) as error:
            problem = error
            continue
        return stamp, _pem(root)
    raise ClaimError(f"the time stamp does not verify ({problem}); give the authority's root certificate (--tsa-ca)")


def read_roots(path: Path | None) -> bytes:
    """Give trusted PEM certificates: the file's, or the system's where none is named.

    Raises:
        UsageError: The file holds no certificate, or the system has none.
    """
    place = path or ssl.get_default_verify_paths().cafile
    if place is None:
        raise UsageError("this system has no certificate store; name the authority's root with --tsa-ca FILE")
    octets = read_file(Path(place).resolve())
    if b"-----BEGIN CERTIFICATE-----" not in octets:
        raise UsageError(f"{place}: holds no PEM certificate")
    return octets


def openssl_command(stamp: str, message: str, roots: str) -> str:
    """Give the command with which anybody verifies a stamp without this project."""
    return f"openssl ts -verify -in {stamp} -data {message} -CAfile {roots}"


def certificates_expire(response: bytes) -> datetime:
    """Tell when the first certificate in a stamp expires: before then it should be stamped again.

    Raises:
        ClaimError: The stamp carries no certificate.
    """
    found = [_certificate(octets) for octets in _decoded(response).signed_data.certificates]
    if not found:
        raise ClaimError("the time stamp carries no certificate; ask an authority that includes its own")
    return min(certificate.not_valid_after_utc for certificate in found)


def _library() -> Any:
    try:
        import rfc3161_client  # noqa: PLC0415 -- only who stamps or checks stamps needs it
    except ImportError:
        raise UsageError("time stamps need rfc3161-client; install ptynet-plugin[evidence]") from None
    return rfc3161_client


def _decoded(response: bytes) -> Any:
    try:
        return _library().decode_timestamp_response(response)
    except ValueError as error:
        raise ClaimError(f"the time stamp cannot be read ({error})") from None


def _certificates(pem: bytes) -> list[Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise UsageError(f"the trusted certificates cannot be read ({error})") from None


def _certificate(der: bytes) -> Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion) as error:
        raise ClaimError(f"a certificate in the time stamp cannot be read ({error})") from None


def _pem(certificate: Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)

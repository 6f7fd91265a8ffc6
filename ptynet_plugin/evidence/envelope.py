"""The signed statement over a bundle: in-toto statement v1 in a DSSE envelope, Ed25519.

An envelope has one byte form for its content, so that no byte of it can change unnoticed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from ptynet_plugin.claims.canonical import canonical_json, parse_json
from ptynet_plugin.claims.signing import is_signed_by, sign, signer
from ptynet_plugin.errors import ClaimError, IntegrityError

__all__ = ["EVIDENCE", "HANDOVER", "open_envelope", "seal_envelope", "statement"]

EVIDENCE = "urn:ptynet:evidence:v1"
HANDOVER = "urn:ptynet:handover:v1"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"


def statement(digests: Mapping[str, str], predicate: Mapping[str, Any], *, kind: str = EVIDENCE) -> dict[str, Any]:
    """Give the statement that these files (name to SHA-256 in hex) go with this predicate."""
    subject = [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(digests.items())]
    return {"_type": _STATEMENT, "subject": subject, "predicateType": kind, "predicate": dict(predicate)}


def seal_envelope(content: Mapping[str, Any], *, secret: bytes) -> bytes:
    """Sign a statement with the epoch's signing key.

    Args:
        content: The statement, with a canonical form.
        secret: The epoch's secret.
    """
    payload = canonical_json(dict(content))
    return _envelope(payload, sign(secret, _signed(payload)), signer(secret))


def open_envelope(octets: bytes, *, kind: str = EVIDENCE, where: str = "envelope.json") -> tuple[dict[str, Any], str]:
    """Check an envelope's signature.

    Args:
        octets: The envelope.
        kind: What its statement must be about, `EVIDENCE` or `HANDOVER`.
        where: Its file, for messages.

    Returns:
        The statement, and the public key that signed it: whether that is the right one is the caller's question.

    Raises:
        IntegrityError: Not an envelope of ours, altered, or signed by nobody.
    """
    try:
        envelope = parse_json(octets, where=where)
        payload = base64.b64decode(envelope["payload"], validate=True)
        entry = envelope["signatures"][0]
        signature, public = base64.b64decode(entry["sig"], validate=True), str(entry["keyid"])
        content = parse_json(payload, where="the signed statement")
    except (ClaimError, KeyError, TypeError, IndexError, binascii.Error, ValueError) as error:
        raise IntegrityError(f"{where}: not an envelope of ours ({error})") from None
    if _envelope(payload, signature, public) != octets:
        raise IntegrityError(f"{where}: not the one form of its content; it was altered")
    if not is_signed_by(public, signature, _signed(payload)):
        raise IntegrityError(f"{where}: the signature does not hold")
    if canonical_json(content) != payload:
        raise IntegrityError(f"{where}: the signed statement is not in its canonical form")
    if not isinstance(content, dict) or (content.get("_type"), content.get("predicateType")) != (_STATEMENT, kind):
        raise IntegrityError(f"{where}: a statement of another kind than {kind}")
    return content, public


def _envelope(payload: bytes, signature: bytes, public: str) -> bytes:
    signed = {"keyid": public, "sig": base64.b64encode(signature).decode()}
    return canonical_json(
        {"payload": base64.b64encode(payload).decode(), "payloadType": _PAYLOAD, "signatures": [signed]}
    )


def _signed(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)

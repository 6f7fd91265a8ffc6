"""What a bundle says its claim was bound to: the opened fields of C2."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from ptynet_plugin.claims.canonical import parse_json
from ptynet_plugin.claims.commitment import Opening, field_digest
from ptynet_plugin.errors import IntegrityError

__all__ = ["bound_archives"]


def bound_archives(files: Mapping[str, bytes], claim: str) -> list[str]:
    """Give the digests of the archives that a claim is bound to.

    Args:
        files: The bundle's signed files.
        claim: The claim's digest, in hex.

    Raises:
        IntegrityError: Not bound, bound to something else, or the opening does not open the binding.
    """
    if "binding.json" not in files:
        raise IntegrityError("binding.json: missing; the claim is bound to no archive")
    if "binding-opened.json" not in files:
        raise IntegrityError("binding-opened.json: missing")
    committed = parse_json(files["binding.json"], where="binding.json")["fields"]
    opened = parse_json(files["binding-opened.json"], where="binding-opened.json")["fields"]
    for name, field in opened.items():
        if field_digest(name, Opening(field["value"], bytes.fromhex(field["nonce"]))).hex() != committed.get(name):
            raise IntegrityError(f"binding-opened.json: {name} does not open the binding")
    if opened["claim"]["value"] != claim:
        raise IntegrityError("binding.json: binds another claim")
    stamp = files.get("stamp.tsr")
    if opened["stamp"]["value"] != (None if stamp is None else hashlib.sha256(stamp).hexdigest()):
        raise IntegrityError("binding.json: binds another stamp than stamp.tsr")
    return [str(digest) for digest in opened["archives"]["value"]]

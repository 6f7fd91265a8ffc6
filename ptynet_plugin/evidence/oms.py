"""OMS signatures of archives: the OpenSSF Model Signing format, written and verified by its own library.

The signature lies beside the archive, never in it, and the stock `model_signing` commands read and write the same file. It
needs `model-signing` (extra `oms`) and no network: an elliptic-curve key in PEM signs, its public half verifies.

Source: OpenSSF Model Signing specification 1.0, https://github.com/ossf/model-signing-spec.
"""

from __future__ import annotations

import base64
import json
import os
import stat
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ptynet_plugin.errors import IntegrityError, KeyFileError, UsageError
from ptynet_plugin.keyfile import read_private

__all__ = ["MOST_OCTETS", "require_library", "sign_archive", "verify_archive"]

MOST_OCTETS = 16 * 1024 * 1024
"""Longest signature that is read; one names every file of the archive, in some 200 bytes each."""

_BUNDLE = {"mediaType", "verificationMaterial", "dsseEnvelope"}
_ENVELOPE = {"payload", "payloadType", "signatures"}
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_WHOLE = "."  # what the format calls a model that is a single file


def require_library() -> None:
    """Make sure, before other work is done, that the library is installed.

    Raises:
        UsageError: It is not; the message names the command that brings it.
    """
    _library()


def sign_archive(archive: Path, *, private_key: Path) -> str:
    """Sign an archive as it lies there.

    Args:
        archive: A `.mar` or a Triton model directory, checked before.
        private_key: PEM of an unencrypted key on P-256, P-384 or P-521, readable by its owner alone.

    Returns:
        The signature, to be written beside the archive: a Sigstore bundle, JSON.

    Raises:
        UsageError: The library is absent, or refuses this archive.
        KeyFileError: No usable key.
    """
    library = _library()
    octets = read_private(private_key)
    try:
        _require_curve(serialization.load_pem_private_key(octets, password=None), private_key)
    except TypeError:
        raise KeyFileError(f"{private_key}: is encrypted; sign with `model_signing sign key --password`") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(_no_key(private_key, "private")) from None
    with tempfile.TemporaryDirectory(prefix="ptynet-") as scratch:
        written = Path(scratch) / "signature"
        try:
            library.signing.Config().use_elliptic_key_signer(private_key=private_key).sign(archive, written)
        except (ValueError, OSError) as error:
            raise UsageError(f"{archive}: cannot be signed ({error})") from None
        return written.read_text(encoding="utf-8")


def verify_archive(archive: Path, signature: Path, *, public_key: Path, members: Collection[str] | None) -> None:
    """Make sure that this key signed this archive, and all of it.

    Args:
        archive: A `.mar` or a Triton model directory.
        signature: The signature's file.
        public_key: PEM on P-256, P-384 or P-521.
        members: Every file of a directory; None for a `.mar`. A signature may leave files out, and says so: such
            a one is refused here, where the stock tool accepts it.

    Raises:
        UsageError: The library is absent, or a file cannot be read.
        KeyFileError: No usable key.
        IntegrityError: The signature is another key's, of another archive, not of all of it, or no signature.
    """
    library = _library()
    try:
        _require_curve(serialization.load_pem_public_key(_read(public_key)), public_key)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(_no_key(public_key, "public")) from None
    octets = _read(signature)
    with tempfile.TemporaryDirectory(prefix="ptynet-") as scratch:
        kept = Path(scratch) / "signature"
        kept.write_bytes(octets)  # both look at the same bytes, whoever exchanges the file meanwhile
        verifier = library.verifying.Config().use_elliptic_key_verifier(public_key=public_key)
        try:
            verifier.verify(archive, kept)
            missing = _left_out(octets, members)
        except InvalidSignature:
            raise IntegrityError(f"{signature}: is no signature by {public_key}") from None
        except Exception as error:  # noqa: BLE001 -- whatever the library trips over in a hostile file, it is not shown
            raise IntegrityError(f"{signature}: does not verify for {archive} ({error})") from None
    if missing:
        raise IntegrityError(f"{signature}: leaves out {', '.join(missing)} of {archive}; sign all of it")


def _left_out(octets: bytes, members: Collection[str] | None) -> list[str]:
    """List what a verified signature does not cover.

    Raises:
        ValueError, KeyError, TypeError: It says something twice, or is of the format before 1.0.
    """
    bundle = json.loads(octets)
    _require_fields(bundle, _BUNDLE)
    envelope = bundle["dsseEnvelope"]
    _require_fields(envelope, _ENVELOPE)
    statement = json.loads(base64.b64decode(envelope["payload"], validate=True))
    # A file in pieces is named NAME:FROM:TO; no member of an archive has a colon in its name.
    signed = {resource["name"].partition(":")[0] for resource in statement["predicate"]["resources"]}
    return sorted(({_WHOLE} if members is None else set(members)) - signed)


def _require_fields(found: dict[str, Any], expected: set[str]) -> None:
    if set(found) != expected:  # the library knows second names for the same fields
        raise ValueError(f"it has the fields {', '.join(sorted(found))}, expected {', '.join(sorted(expected))}")


def _library() -> Any:
    try:
        import model_signing.signing  # noqa: PLC0415 -- only who signs or checks such signatures needs it
        import model_signing.verifying  # noqa: PLC0415 -- the extra `oms`
    except ImportError as error:
        raise UsageError(
            f"OMS signatures need model-signing ({error}); run: pip install 'ptynet-plugin[oms]'"
        ) from None
    return model_signing


def _require_curve(key: object, path: Path) -> None:
    if not isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise KeyFileError(
            f"{path}: OMS takes keys on P-256, P-384 or P-521; make one: "
            "openssl ecparam -name prime256v1 -genkey -noout -out KEY.pem"
        )


def _no_key(path: Path, half: str) -> str:
    return f"{path}: holds no {half} key in PEM"


def _read(path: Path) -> bytes:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            octets = file.read(MOST_OCTETS + 1) if regular else b""
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    if not regular or len(octets) > MOST_OCTETS:
        raise UsageError(f"{path}: no regular file of at most {MOST_OCTETS} bytes")
    return octets

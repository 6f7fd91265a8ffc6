"""The mark: a trained PTYNet with what is needed to package and to verify it, as a folder.

    MARK/
    ├── mark.json             schema, probe design, decision rule, key fingerprint, how it was trained, digests of the files
    ├── ptynet.safetensors    the network's numbers and the code book
    ├── ptynet.onnx           the same network as a model of its own, to look at
    ├── secrets.json          mode 0600: the secrets of probes, nonces and labels (never copied into an archive)
    └── claims/NAME/          what `package-model` committed to, one folder per packaged model

Reading needs neither torch nor onnx. Every digest is checked on reading.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ptynet_plugin import __version__
from ptynet_plugin.errors import MarkError, PtynetError
from ptynet_plugin.images.probes import ProbeDesign
from ptynet_plugin.keyfile import read_private, write_private
from ptynet_plugin.keys import KEY_BYTES, OwnerKey
from ptynet_plugin.network.weights import Convolution, Network
from ptynet_plugin.staging import staged_folder

__all__ = [
    "CLAIMS",
    "METADATA",
    "NETWORK",
    "SCHEMA",
    "SECRETS",
    "MarkMetadata",
    "MarkSecrets",
    "read_metadata",
    "read_network",
    "read_secrets",
    "require_room",
    "write_mark",
]

SCHEMA = "ptynet-mark/v1"
METADATA = "mark.json"
NETWORK = "ptynet.safetensors"
ONNX = "ptynet.onnx"
SECRETS = "secrets.json"
CLAIMS = "claims"

LONGEST_METADATA = 1 << 20
LONGEST_NETWORK = 64 << 20
RETRAIN = "copy the mark again, or train it again with `ptynet train`"


@dataclass(frozen=True)
class MarkMetadata:
    """What `mark.json` says.

    Attributes:
        design: How the probes are made.
        tau: Lowest score that fires.
        margin: Lowest lead over the second best score that fires.
        key_fingerprint: `OwnerKey.fingerprint` of the key it was trained for.
        architecture: Stride and padding of each convolution, and the pooling before the linear layer.
        training: How it was trained and how well it reads; for people, nothing depends on it.
        files: SHA-256 of every other file, by name.
        version: Version of this package that wrote it.
    """

    design: ProbeDesign
    tau: float
    margin: float
    key_fingerprint: str
    architecture: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    version: str = __version__


@dataclass(frozen=True)
class MarkSecrets:
    """What packaging needs of the owner key.

    Attributes:
        probe: `OwnerKey.probe_secret`, for the probes.
        epoch: `OwnerKey.epoch_secret`, for nonces and labels.
    """

    probe: bytes = field(repr=False)
    epoch: bytes = field(repr=False)


def read_metadata(folder: Path) -> MarkMetadata:
    """Read `mark.json`.

    Raises:
        MarkError: No such folder or file, no JSON, another schema, a field missing or of the wrong kind.
    """
    where = folder / METADATA
    value = _json(where, _octets(where, LONGEST_METADATA))
    if value.get("schema") != SCHEMA:
        raise MarkError(f"{where}: schema is {value.get('schema')!r}, this version reads {SCHEMA!r}")
    try:
        return MarkMetadata(
            design=ProbeDesign(**value["design"]),
            tau=float(value["tau"]),
            margin=float(value["margin"]),
            key_fingerprint=str(value["key_fingerprint"]),
            architecture=dict(value["architecture"]),
            training=dict(value["training"]),
            files={str(name): str(digest) for name, digest in value["files"].items()},
            version=str(value["version"]),
        )
    except KeyError as error:
        raise MarkError(f"{where}: field {error} is missing; {RETRAIN}") from None
    except (TypeError, ValueError, AttributeError, PtynetError) as error:
        raise MarkError(f"{where}: {error}; {RETRAIN}") from None


def read_network(folder: Path) -> Network:
    """Read the trained network.

    Raises:
        MarkError: As `read_metadata`; a file is missing or altered, or its tensors are not those of the metadata.
    """
    metadata, where = read_metadata(folder), folder / NETWORK
    octets = _verified(folder, NETWORK, metadata, LONGEST_NETWORK)
    try:
        tensors = load(octets)
        strides, paddings = metadata.architecture["strides"], metadata.architecture["paddings"]
        network = Network(
            convolutions=tuple(
                Convolution(
                    weight=tensors[f"convolutions.{i}.weight"],
                    bias=tensors[f"convolutions.{i}.bias"],
                    stride=int(stride),
                    padding=int(padding),
                )
                for i, (stride, padding) in enumerate(zip(strides, paddings, strict=True))
            ),
            pool=int(metadata.architecture["pool"]),
            linear_weight=tensors["linear.weight"],
            linear_bias=tensors["linear.bias"],
            codebook=tensors["codebook"],
            tau=metadata.tau,
            margin=metadata.margin,
        )
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise MarkError(f"{where}: no network as mark.json describes it ({error}); {RETRAIN}") from None
    _check_shapes(network, metadata.design, where)
    return network


def read_secrets(folder: Path) -> MarkSecrets:
    """Read the secrets of the mark.

    Raises:
        MarkError: As `read_metadata`, or the file is missing, altered or holds no secrets.
        KeyFileError: Group or others may access the file.
    """
    where = folder / SECRETS
    if not where.is_file():
        raise MarkError(f"{where}: missing; {RETRAIN}")
    octets = read_private(where)
    _check_digest(where, octets, read_metadata(folder).files.get(SECRETS))
    value = _json(where, octets)
    try:
        secrets = MarkSecrets(bytes.fromhex(value["probe"]), bytes.fromhex(value["epoch"]))
    except (KeyError, TypeError, ValueError):
        raise MarkError(f"{where}: holds no secrets; {RETRAIN}") from None
    if {len(secrets.probe), len(secrets.epoch)} != {KEY_BYTES}:
        raise MarkError(f"{where}: secrets must have {KEY_BYTES} bytes each; {RETRAIN}")
    return secrets


def require_room(folder: Path, *, key: OwnerKey, design: ProbeDesign, replace: bool) -> None:
    """Make sure, before minutes of training, that a mark can be written to a folder; arguments as for `write_mark`.

    Raises:
        MarkError: The folder exists and is not to be replaced, or holds claims that the new mark would orphan.
    """
    if folder.exists() and not replace and (not folder.is_dir() or any(folder.iterdir())):
        raise MarkError(f"{folder}: exists already; add --force to replace it, or choose another folder")
    claims = folder / CLAIMS
    if not claims.is_dir() or not any(claims.iterdir()):
        return
    old = read_metadata(folder)
    if old.key_fingerprint != key.fingerprint() or old.design != design:
        raise MarkError(
            f"{claims}: holds claims of another key or probe design, which the new mark could not serve; "
            "choose another folder, or move the claims away first"
        )


def write_mark(
    folder: Path,
    network: Network,
    *,
    key: OwnerKey,
    design: ProbeDesign,
    training: Mapping[str, Any],
    as_onnx: Callable[[Network], bytes] | None = None,
    replace: bool = False,
) -> MarkMetadata:
    """Write a mark; the folder appears complete or not at all.

    Claims in a mark that is replaced are kept: they are evidence, and stay valid for the same key and design.

    Args:
        folder: Where; must not exist unless `replace`.
        network: What was trained.
        key: The key it was trained for.
        design: How its probes are made.
        training: What to remember of the training.
        as_onnx: Makes the ONNX file; None leaves it out.
        replace: Whether a mark that lies there is replaced.

    Returns:
        What was written to `mark.json`.

    Raises:
        MarkError: The folder exists, holds claims that the new mark would orphan, or cannot be written.
    """
    _check_shapes(network, design, folder)
    require_room(folder, key=key, design=design, replace=replace)
    try:
        with staged_folder(folder, replace=replace, mode=0o700) as staged:
            files = {NETWORK: _serialised(network)} | ({ONNX: as_onnx(network)} if as_onnx else {})
            for name, octets in files.items():
                (staged / name).write_bytes(octets)
            files[SECRETS] = _secret_octets(key)
            write_private(staged / SECRETS, files[SECRETS])
            metadata = MarkMetadata(
                design=design,
                tau=network.tau,
                margin=network.margin,
                key_fingerprint=key.fingerprint(),
                architecture=_architecture(network),
                training=dict(training),
                files={name: hashlib.sha256(octets).hexdigest() for name, octets in sorted(files.items())},
            )
            text = json.dumps({"schema": SCHEMA} | asdict(metadata), indent=2, ensure_ascii=False)
            (staged / METADATA).write_text(text + "\n", encoding="utf-8")
            if (folder / CLAIMS).is_dir():
                shutil.copytree(folder / CLAIMS, staged / CLAIMS, symlinks=True)
    except FileExistsError as error:
        raise MarkError(f"{error}; choose another folder") from None
    except OSError as error:
        raise MarkError(f"{folder}: cannot be written ({error.strerror or error})") from error
    return metadata


def _architecture(network: Network) -> dict[str, Any]:
    return {
        "strides": [convolution.stride for convolution in network.convolutions],
        "paddings": [convolution.padding for convolution in network.convolutions],
        "pool": network.pool,
    }


def _serialised(network: Network) -> bytes:
    tensors = {f"convolutions.{i}.weight": one.weight for i, one in enumerate(network.convolutions)}
    tensors |= {f"convolutions.{i}.bias": one.bias for i, one in enumerate(network.convolutions)}
    tensors |= {"linear.weight": network.linear_weight, "linear.bias": network.linear_bias}
    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    return bytes(save(contiguous | {"codebook": np.ascontiguousarray(network.codebook)}))


def _secret_octets(key: OwnerKey) -> bytes:
    secrets = {"probe": key.probe_secret().hex(), "epoch": key.epoch_secret().hex()}
    return (json.dumps(secrets, indent=2) + "\n").encode()


def _check_shapes(network: Network, design: ProbeDesign, where: Path) -> None:
    found = (network.symbols, network.bits, network.channels, len(network.linear_weight))
    wanted = (design.symbols, design.bits, design.channels, design.bits)
    if found != wanted:
        raise MarkError(
            f"{where}: the network has (symbols, bits, channels, outputs) {found}, its probe design says {wanted}"
        )


def _verified(folder: Path, name: str, metadata: MarkMetadata, longest: int) -> bytes:
    octets = _octets(folder / name, longest)
    _check_digest(folder / name, octets, metadata.files.get(name))
    return octets


def _check_digest(where: Path, octets: bytes, wanted: str | None) -> None:
    found = hashlib.sha256(octets).hexdigest()
    if found != wanted:
        said = "does not list it" if wanted is None else f"says {wanted[:16]}..."
        raise MarkError(f"{where}: has sha256 {found[:16]}..., {METADATA} {said}; {RETRAIN}")


def _octets(where: Path, longest: int) -> bytes:
    try:
        size = where.stat().st_size
        if size > longest:
            raise MarkError(f"{where}: {size} bytes, more than the {longest} a mark needs; this is no mark")
        return where.read_bytes()
    except FileNotFoundError:
        _missing(where)
    except OSError as error:
        raise MarkError(f"{where}: cannot be read ({error.strerror or error})") from error


def _missing(where: Path) -> NoReturn:
    if not where.parent.exists():
        raise MarkError(
            f"{where.parent}: no such folder; make the mark with `ptynet train --key K --out {where.parent}`"
        )
    raise MarkError(f"{where}: missing, so {where.parent} is no complete mark; {RETRAIN}")


def _json(where: Path, octets: bytes) -> dict[str, Any]:
    try:
        value = json.loads(octets)
    except (ValueError, RecursionError):
        raise MarkError(f"{where}: not JSON; {RETRAIN}") from None
    if not isinstance(value, dict):
        raise MarkError(f"{where}: a JSON object was expected; {RETRAIN}")
    return value

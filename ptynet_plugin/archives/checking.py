"""`check`: is this archive, byte for byte and tensor for tensor, what its manifest says?

Layer by layer, and the first broken thing is named: container, manifest, files, server's settings, the target's tensors found
again inside the fused model, companions beside it, and last the digest somebody expects. Nothing is executed or unpickled.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ptynet_plugin.archives.archive import Archive
from ptynet_plugin.archives.directory_archive import DirectoryArchive
from ptynet_plugin.archives.fused import TargetSums, onnx_sums_in_zip, target_sums
from ptynet_plugin.archives.manifest import (
    MANIFEST_LIMIT,
    MANIFEST_NAME,
    Companion,
    FileRecord,
    Manifest,
    TargetRecord,
    TensorSum,
    parse_companion,
)
from ptynet_plugin.archives.mar import parse_yaml, read_mar_settings
from ptynet_plugin.archives.pbtxt import CONFIG_LIMIT, parse_config
from ptynet_plugin.archives.reading import open_archive
from ptynet_plugin.archives.tensors import TensorRecord, differences
from ptynet_plugin.archives.zip_archive import ZipArchive
from ptynet_plugin.errors import ArchiveError, IntegrityError, TargetError

__all__ = ["Checked", "check_archive", "model_on_disk", "require_target", "target_record", "unpack_member"]

CONFIG = "config.pbtxt"


@dataclass(frozen=True)
class Checked:
    """What a passed check found.

    Attributes:
        digest: SHA-256 that names the archive.
        manifest: Its manifest.
        tensors: Number of target tensors found unchanged.
        companions: Names of the models beside it, checked as well.
    """

    digest: str
    manifest: Manifest
    tensors: int
    companions: tuple[str, ...]


def check_archive(path: Path, *, expect: str | None = None) -> Checked:
    """Check an archive.

    Args:
        path: A `.mar` or a Triton model directory.
        expect: Digest it should have, 64 hex digits.

    Raises:
        ArchiveError: It cannot be read safely.
        IntegrityError: It can be, and something in it is not what the manifest says; names the first such thing.
    """
    with open_archive(path) as archive:
        manifest = archive.manifest()
        archive.require_canonical()
        _require_files(archive, manifest.files)
        _require_settings(archive, manifest)
        require_target(manifest.target, _sums(archive, manifest), where=f"{path}: {manifest.model}")
        for name, digest in sorted(manifest.companions.items()):
            _require_companion(path, name, digest)
        found = archive.digest()
    if expect is not None and found != expect.strip().lower():
        raise IntegrityError(
            f"{path}: archive digest is {found}, expected {expect}; it is another archive than you were told"
        )
    return Checked(found, manifest, len(manifest.target.tensors), tuple(sorted(manifest.companions)))


def target_record(tensors: Iterable[TensorRecord], *, digest: str, kind: str) -> TargetRecord:
    """Make the manifest's record of a target."""
    sums = {each.name: TensorSum(dtype=each.dtype, shape=each.shape, sha256=each.sha256) for each in tensors}
    return TargetRecord(kind=kind, digest=digest, tensors=sums)


def require_target(expected: TargetRecord, found: TargetSums, *, where: str) -> None:
    """Compare the target's tensors and digest with the record.

    Raises:
        IntegrityError: Names the first tensor that differs, or the graph.
    """
    before = {
        name: TensorRecord(name, each.dtype, tuple(each.shape), each.sha256) for name, each in expected.tensors.items()
    }
    problems = differences(before, {record.name: record for record in found.tensors})
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise IntegrityError(f"{where}: {problems[0]}{more}; the target was touched, package it again")
    if found.digest not in (None, expected.digest):
        raise IntegrityError(
            f"{where}: target digest is {found.digest}, the manifest says {expected.digest}; "
            "its graph was touched, package it again"
        )


@contextmanager
def model_on_disk(archive: Archive, manifest: Manifest) -> Iterator[Path]:
    """Give the model as a file with its external data beside it; a zip's members go to a private folder that is removed."""
    if isinstance(archive, DirectoryArchive):
        yield archive.path / manifest.model
        return
    with tempfile.TemporaryDirectory(prefix="ptynet-check-") as folder:
        for name in archive.names():
            if name.endswith((".py", ".yaml")) or name.startswith("MAR-INF/"):
                continue
            unpack_member(archive, name, Path(folder))
        yield Path(folder) / manifest.model


def unpack_member(archive: Archive, name: str, folder: Path) -> Path:
    """Write one member below `folder`; its name was checked when the archive was opened.

    Raises:
        ArchiveError: Something lies there already, or the disk is full.
    """
    target = folder / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(name) as stream, target.open("xb") as out:
            shutil.copyfileobj(stream, out, 1 << 20)
    except OSError as error:
        raise ArchiveError(f"{archive.path}: {name} cannot be unpacked to {folder} ({error.strerror})") from error
    return target


def _sums(archive: Archive, manifest: Manifest) -> TargetSums:
    """Find the target again; a zip gives only the model's own file away for that, external data is read in place."""
    with ExitStack() as stack:
        if isinstance(archive, ZipArchive):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ptynet-check-")))
            model = unpack_member(archive, manifest.model, folder)
        else:
            model = archive.path / manifest.model
        try:
            if isinstance(archive, ZipArchive) and manifest.engine == "onnx":
                return onnx_sums_in_zip(model, archive, manifest.model)
            return target_sums(model, manifest.engine)
        except (TargetError, ArchiveError) as error:
            reason = str(error).replace(str(model), manifest.model).replace(str(model.parent), str(archive.path))
            raise IntegrityError(
                f"{archive.path}: the target inside {manifest.model} cannot be read: {reason}"
            ) from error


def _require_files(archive: Archive, files: Mapping[str, FileRecord]) -> None:
    expected, found = {*files, MANIFEST_NAME}, set(archive.names())
    for name in sorted(expected - found):
        raise IntegrityError(
            f"{archive.path}: {name} is missing, the manifest lists it; fetch or package the archive again"
        )
    for name in sorted(found - expected):
        raise IntegrityError(f"{archive.path}: {name} is not in the manifest; {_advice(name)}")
    for name in sorted(files):
        if archive.size(name) != files[name].size:
            raise IntegrityError(
                f"{archive.path}: {name} has {archive.size(name)} bytes, the manifest says {files[name].size}; "
                "fetch or package it again"
            )
        summed = archive.sha256(name)
        if summed != files[name].sha256:
            raise IntegrityError(
                f"{archive.path}: {name} has sha256 {summed}, the manifest says {files[name].sha256}; fetch or package it again"
            )


def _advice(name: str) -> str:
    if "__pycache__" in name:
        return "Python wrote it when a server ran here; remove the folder __pycache__"
    return "it was added after packaging; remove it"


def _require_settings(archive: Archive, manifest: Manifest) -> None:
    if isinstance(archive, ZipArchive) != (manifest.format == "torchserve"):
        raise IntegrityError(f"{archive.path}: the manifest says format {manifest.format}, which this is not")
    if manifest.format == "torchserve":
        settings = read_mar_settings(archive)
        if settings.config is not None:
            text = archive.read(settings.config, limit=CONFIG_LIMIT).decode("utf-8", errors="replace")
            parse_yaml(text, where=f"{archive.path}: {settings.config}")
        named, version = settings.name, settings.version
    else:
        text = archive.read(CONFIG, limit=CONFIG_LIMIT).decode("utf-8", errors="replace")
        named, version = parse_config(text, where=f"{archive.path}: {CONFIG}").name, manifest.model.partition("/")[0]
    if (named, version) != (manifest.name, manifest.version):
        raise IntegrityError(
            f"{archive.path}: the server is told {named} version {version}, "
            f"the manifest says {manifest.name} version {manifest.version}; fetch or package it again"
        )


def _require_companion(path: Path, name: str, digest: str) -> None:
    beside = path.resolve().parent / name
    if not beside.is_dir() or beside.is_symlink():
        raise IntegrityError(
            f"{path}: its companion {name} is missing beside it; copy it too or package the model again"
        )
    with DirectoryArchive(beside) as archive:
        companion = _companion(archive)
        _require_files(archive, companion.files)
        found = archive.digest()
    if found != digest:
        raise IntegrityError(
            f"{beside}: archive digest is {found}, the manifest of {path.name} says {digest}; package it again"
        )


def _companion(archive: Archive) -> Companion:
    octets = archive.read(MANIFEST_NAME, limit=MANIFEST_LIMIT)
    return parse_companion(octets, where=f"{archive.path}: {MANIFEST_NAME}")

"""A target that is packaged already, without a mark: a Triton model directory or somebody's `.mar`. Its settings are kept.

Both are hostile input, read by `ptynet_plugin.archives`; what is kept is copied into a scratch folder first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_store_tools.packaging.assembly import Existing
from ptynet_plugin.archives.archive import Archive
from ptynet_plugin.archives.checking import unpack_member
from ptynet_plugin.archives.manifest import MANIFEST_NAME
from ptynet_plugin.archives.mar import MAR_MANIFEST, parse_yaml, read_mar_settings
from ptynet_plugin.archives.pbtxt import CONFIG_LIMIT, ModelConfig, parse_config
from ptynet_plugin.archives.reading import open_archive
from ptynet_plugin.archives.sources import Source
from ptynet_plugin.archives.zip_archive import ZipArchive
from ptynet_plugin.errors import TargetError

__all__ = ["Container", "is_container", "open_container"]

CONFIG = "config.pbtxt"
_MODELS = (".onnx", ".pt2", ".pt", ".pth", ".ts")


@dataclass(frozen=True)
class Container:
    """What was found in one.

    Attributes:
        model: The model's file, unpacked, external data beside it.
        existing: What is kept.
        name: The model's name in it.
        version: Its version.
        format: "triton" or "torchserve".
        backend: The Triton backend it asks for, None for a `.mar`.
    """

    model: Path
    existing: Existing
    name: str
    version: str
    format: str
    backend: str | None


def is_container(target: Path) -> bool:
    """Tell whether a path is a model directory or a `.mar` rather than a model."""
    return (target / CONFIG).is_file() or (target.suffix == ".mar" and target.is_file())


def open_container(target: Path, scratch: Path) -> Container:
    """Unpack the model and read the settings.

    Raises:
        ArchiveError: Not safe to read.
        TargetError: It is marked already, or has no model this project can mark.
    """
    with open_archive(target) as archive:
        if MANIFEST_NAME in archive.names():
            raise TargetError(f"{target}: carries a PTYNet already ({MANIFEST_NAME}); package the original model")
        for name in archive.names():
            unpack_member(archive, name, scratch)
        return _mar(archive, scratch) if isinstance(archive, ZipArchive) else _directory(archive, scratch)


def _mar(archive: Archive, scratch: Path) -> Container:
    settings = read_mar_settings(archive)
    if settings.model_file is not None or not settings.model:
        raise TargetError(
            f"{archive.path}: holds an eager model ({settings.model_file or 'no serializedFile'}), "
            "whose code cannot carry a mark; give the module as package.module:factory with --weights"
        )
    config: Mapping[str, Any] = {}
    if settings.config is not None:
        text = archive.read(settings.config, limit=CONFIG_LIMIT).decode("utf-8", errors="replace")
        config = parse_yaml(text, where=f"{archive.path}: {settings.config}")
    data = _data_files(scratch / settings.model)
    dropped = {settings.model, settings.config, MAR_MANIFEST, *data}
    files: dict[str, Source] = {name: scratch / name for name in archive.names() if name not in dropped}
    existing = Existing(files=files, model_file=settings.model, settings=settings, mar_config=config)
    return Container(scratch / settings.model, existing, settings.name, settings.version, "torchserve", None)


def _directory(archive: Archive, scratch: Path) -> Container:
    config = parse_config(
        archive.read(CONFIG, limit=CONFIG_LIMIT).decode("utf-8", errors="replace"), where=f"{archive.path}: {CONFIG}"
    )
    version = _newest(archive)
    inside = [name.removeprefix(f"{version}/") for name in archive.names() if name.startswith(f"{version}/")]
    model = _model_name(archive, config, inside)
    data = {f"{version}/{name}" for name in _data_files(scratch / version / model)}
    dropped = {CONFIG, f"{version}/{model}", *data}
    files: dict[str, Source] = {}
    for name in archive.names():
        first = name.partition("/")[0]
        if name in dropped or (first.isdigit() and first != version):
            continue
        kept = f"version/{name.removeprefix(f'{version}/')}" if first == version else name
        files[kept] = scratch / name
    backend = "python" if "model.py" in inside else "onnxruntime"
    existing = Existing(files=files, model_file=model, config=config)
    return Container(scratch / version / model, existing, config.name or archive.path.name, version, "triton", backend)


def _newest(archive: Archive) -> str:
    versions = {name.partition("/")[0] for name in archive.names() if "/" in name}
    numbers = sorted((int(each) for each in versions if each.isdigit()), reverse=True)
    if not numbers:
        raise TargetError(f"{archive.path}: has no version folder (1/, 2/, ...); it is no Triton model directory")
    return str(numbers[0])


def _model_name(archive: Archive, config: ModelConfig, inside: list[str]) -> str:
    named = str(config.default_model_filename)
    if named in inside and named.endswith(_MODELS):
        return named
    found = [name for name in inside if name.endswith(_MODELS)]
    if len(found) != 1:
        listed = ", ".join(found) or "none"
        raise TargetError(
            f"{archive.path}: needs exactly one model file in its version folder ({', '.join(_MODELS)}); it has {listed}"
        )
    return found[0]


def _data_files(model: Path) -> list[str]:
    """Name an ONNX model's external data, which the fused model brings along itself."""
    if model.suffix != ".onnx":
        return []
    from model_store_tools.targets.onnx import OnnxTarget  # noqa: PLC0415 -- onnx only for ONNX targets
    from ptynet_plugin.archives.onnx_tensors import read_model  # noqa: PLC0415 -- onnx only for ONNX targets

    return list(OnnxTarget(read_model(model), model).data_files())

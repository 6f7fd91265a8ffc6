"""Turns an archive for Triton's own onnxruntime backend into the same archive for the python backend.

The wheel's Triton has the python backend alone. The model file is the same, and so are its answers; the manifest is
written anew over the changed settings, so that the handler's integrity check holds as ever.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from model_store_tools.packaging.assembly import file_records
from model_store_tools.packaging.handlers import handler_source
from ptynet_plugin.archives.manifest import MANIFEST_NAME, Manifest
from ptynet_plugin.archives.pbtxt import parse_config, print_config
from ptynet_plugin.archives.sources import measure

__all__ = ["for_python_backend", "link_files"]

CONFIG = "config.pbtxt"


def for_python_backend(archive: Path, manifest: Manifest, folder: Path) -> None:
    """Write the python backend's form of `archive` to `folder`.

    Args:
        archive: A checked model directory whose manifest says "onnxruntime".
        manifest: Its manifest.
        folder: Where to write; must not exist.
    """
    version = Path(manifest.model).parent.as_posix()
    ours = {
        CONFIG: _translated(archive / CONFIG),
        f"{version}/model.py": handler_source("triton_model.py"),
        f"{version}/ptynet_runtime.py": handler_source("ptynet_runtime.py"),
    }
    kept = {name: record for name, record in manifest.files.items() if name not in ours}
    link_files(archive, kept, folder)
    files = {**kept, **file_records({name: measure(source) for name, source in ours.items()})}
    sealed = manifest.model_copy(update={"backend": "python", "files": files}).to_json()
    for name, content in {**ours, MANIFEST_NAME: sealed}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def link_files(archive: Path, names: Iterable[str], folder: Path) -> None:
    """Give `folder` the archive's files: hard links where the file system allows, else copies.

    Symbolic links would make onnxruntime refuse external data as lying outside the model's folder.
    """
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(archive / name, folder / name)
        except OSError:
            shutil.copyfile(archive / name, folder / name)


def _translated(path: Path) -> bytes:
    config = parse_config(path.read_text(encoding="utf-8"), where=str(path))
    config.ClearField("platform")
    config.backend = "python"
    config.default_model_filename = "model.py"
    return print_config(config)

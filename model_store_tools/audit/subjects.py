"""The user's archive as a thief holds it: the served model and its input spec, without handler and without manifest."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from model_store_tools.audit.contract import Artefact
from ptynet_plugin.archives.checking import check_archive, model_on_disk
from ptynet_plugin.archives.manifest import Manifest
from ptynet_plugin.archives.reading import open_archive

__all__ = ["Stolen", "open_stolen"]

NAMES_LIMIT = 16 << 20


@dataclass(frozen=True)
class Stolen:
    """A stolen archive.

    Attributes:
        artefact: Its model, in a private folder.
        manifest: What the archive says of itself.
        digest: The archive's digest.
        class_names: In order, or empty.
    """

    artefact: Artefact
    manifest: Manifest
    digest: str
    class_names: tuple[str, ...]


def open_stolen(archive: Path, folder: Path) -> Stolen:
    """Check an archive and give what a thief takes from it.

    Args:
        archive: A `.mar` or a Triton model directory.
        folder: Private folder; the model and its external data are copied there.

    Raises:
        ArchiveError: It cannot be read.
        IntegrityError: It is not what its manifest says; an audit of it would be of something else.
    """
    checked = check_archive(archive)
    manifest = checked.manifest
    with open_archive(archive) as opened:
        names: tuple[str, ...] = ()
        if manifest.labels is not None:
            names = tuple(opened.read(manifest.labels, limit=NAMES_LIMIT).decode("utf-8", "replace").splitlines())
        with model_on_disk(opened, manifest) as model:
            taken = folder / "stolen"
            taken.mkdir()
            for file in sorted(model.parent.iterdir()):
                if file.is_file() and not file.name.endswith((".py", ".json", ".yaml", ".pbtxt", ".txt")):
                    shutil.copyfile(file, taken / file.name)
            artefact = Artefact(taken / model.name, manifest.spec, manifest.engine)
    return Stolen(artefact, manifest, checked.digest, names)

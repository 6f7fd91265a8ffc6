"""Containers of bytes: what package-model writes, and how anybody reads it without trusting it.

    from ptynet_plugin.archives import check_archive, open_archive

    with open_archive(Path("models/resnet18.mar")) as archive:      # a .mar, or a Triton model directory
        print(archive.manifest().target.digest)
    print(check_archive(Path("models/resnet18.mar")).digest)         # raises IntegrityError, naming the first broken thing

An archive has one byte form; `Manifest` says what is in it. Reading writes, unpickles and executes nothing.
"""

from ptynet_plugin.archives.archive import Archive
from ptynet_plugin.archives.checking import Checked, check_archive
from ptynet_plugin.archives.manifest import MANIFEST_NAME, Manifest
from ptynet_plugin.archives.reading import archive_digest, open_archive, read_manifest

__all__ = [
    "MANIFEST_NAME",
    "Archive",
    "Checked",
    "Manifest",
    "archive_digest",
    "check_archive",
    "open_archive",
    "read_manifest",
]

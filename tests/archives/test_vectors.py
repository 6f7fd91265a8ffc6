"""Archives kept for ever: the good ones pass, each bad one is refused with the words that fit its defect."""

from __future__ import annotations

import re
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from ptynet_plugin.archives import check_archive, read_manifest
from ptynet_plugin.archives.zip_archive import ZipArchive
from ptynet_plugin.errors import ArchiveError, IntegrityError

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
MEMORY = 32 << 20

UNREADABLE = {
    "absolute-name.mar": "an absolute or empty name",
    "appended.mar": "something was appended",
    "backslash-name.mar": "control, invisible or reserved character",
    "bomb.mar": "zeros unpacks 8157 bytes to 8388608; refused as a bomb",
    "broken-config.triton": "config.pbtxt: not a Triton model configuration",
    "bzip2-entry.mar": "packed is packed by method 12",
    "case-collision.mar": "'MODEL.onnx' and 'model.onnx' would be one file",
    "commented.mar": "does not end as a zip does",
    "companion-outside.mar": "field 'companions",
    "config-outside.mar": "configFile is '../../x.yaml', which is no member",
    "decomposed-name.mar": "not in Unicode normal form",
    "deep-name.mar": "too long or too deep",
    "device.mar": "device is a link or a special file",
    "dot-dot-inside.mar": "a name that leaves its folder",
    "drive-name.mar": "control, invisible or reserved character",
    "duplicate-entry.mar": "refused as duplicate entries",
    "empty-name.mar": "member '' has an absolute or empty name",
    "empty-part.mar": "has an empty part",
    "empty.mar": "does not end as a zip does",
    "encrypted-entry.mar": "MANIFEST.json is encrypted",
    "file-and-folder.mar": "is a file and also the folder of 'model.onnx/inner'",
    "folder-with-content.mar": "'folder/' is no plain folder",
    "fullwidth-dots.mar": "not in Unicode normal form",
    "handler-outside.mar": "handler is '../../handler.py', which is no member",
    "huge-directory.mar": "2147483648 bytes of directory",
    "huge-member-count.mar": "declares 60000 members",
    "line-feed-name.mar": "control, invisible or reserved character",
    "local-name-not-utf8.mar": "ptynet-manifest.json cannot be read ('utf-8' codec",
    "long-name.mar": "too long or too deep",
    "manifest-deep.mar": "ptynet-manifest.json: not clean JSON",
    "manifest-infinite.mar": "holds a value that no manifest has",
    "manifest-key-twice.mar": "a key stands twice",
    "manifest-labels-outside.mar": "labels is '../../../etc/passwd', which is not among its files",
    "manifest-lists-outside.mar": "lists '../x', a name that leaves its folder",
    "manifest-model-outside.mar": "model is '../../model.onnx', which is not among its files",
    "manifest-name-outside.mar": "field 'name'",
    "manifest-long-number.mar": "Exceeds the limit",
    "manifest-no-object.mar": "not a manifest",
    "manifest-not-utf8.mar": "can't decode byte 0xff",
    "manifest-other-schema.mar": "schema is 'ptynet-archive/v9'",
    "manifest-unknown-field.mar": "field 'colour'",
    "missing-manifest.mar": "has no ptynet-manifest.json",
    "missing-server-manifest.mar": "has no MAR-INF/MANIFEST.json",
    "no-zip.mar": "does not end as a zip does",
    "nul-in-name.mar": "control, invisible or reserved character",
    "overlapping-entries.mar": "two overlaps another member",
    "prefixed.mar": "bytes stand before or between its zip records",
    "right-to-left-name.mar": "control, invisible or reserved character",
    "symlink-file.triton": "labels.txt is a link or a special file",
    "symlink-folder.triton": "2 is a link or a special file",
    "symlink.mar": "link is a link or a special file",
    "truncated.mar": "does not end as a zip does",
    "yaml-bomb.mar": "YAML anchors, aliases or tags",
    "zip-slip.mar": "a name that leaves its folder",
    "zip64-lies.mar": "says it has ZIP64 records and has none",
}

ALTERED = {
    "altered-manifest.mar": "ptynet-manifest.json: content has sha256",
    "bomb-lying-size.mar": "its members need",
    "cyclic-onnx.mar": "its graph was touched",
    "external-data-outside.mar": "'../../../../etc/passwd', which is not inside the archive",
    "extra-file.triton": "1/sitecustomize.py is not in the manifest",
    "extra-member.mar": "sitecustomize.py is not in the manifest",
    "huge-dims.mar": "holds 1728 bytes, its type and shape ask for",
    "manifest-not-canonical.mar": "not in canonical form",
    "missing-file.triton": "1/ptynet_runtime.py is missing",
    "missing-handler.mar": "torchserve_handler.py is missing",
    "nested-onnx.mar": "cannot be read as ONNX",
    "no-fusion-record.mar": "carries 0 fusion records",
    "no-onnx.mar": "cannot be read as ONNX",
    "other-name.mar": "told other version 1, the manifest says tiny",
    "other-name.triton": "told other version 1, the manifest says tiny",
    "pickle-in-model.mar": "tensor 'weight' is missing",
    "redated.mar": "zip header of MAR-INF/MANIFEST.json is not in canonical form",
    "repacked.mar": "its members need",
    "swapped-mark.mar": "model.onnx has 2048 bytes, the manifest says 2053",
    "swapped-model.mar": "model.onnx has sha256",
    "swapped-model.triton": "1/model.onnx has sha256",
    "touched-graph.mar": "target digest is",
    "touched-tensor.mar": "tensor 'weight' has sha256",
}


@pytest.mark.parametrize("name", sorted(UNREADABLE | ALTERED))
def test_a_bad_archive_is_refused_by_its_defect(name: str) -> None:
    path = VECTORS / "invalid" / name
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match=re.escape((UNREADABLE | ALTERED)[name])) as caught:
            check_archive(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(caught.value, IntegrityError) == (name in ALTERED)
    assert str(caught.value).startswith(str(path.parent)), "the message begins with the archive"
    assert "\n" not in str(caught.value)
    assert peak < MEMORY


@pytest.mark.parametrize("name", sorted(UNREADABLE | ALTERED))
def test_reading_the_manifest_of_a_bad_archive_raises_nothing_else(name: str) -> None:
    with suppress(ArchiveError):
        read_manifest(VECTORS / "invalid" / name)


def test_every_vector_is_held_to_its_words() -> None:
    found = {path.name for kind in ("*.mar", "*.triton") for path in (VECTORS / "invalid").glob(kind)}
    assert found == set(UNREADABLE) | set(ALTERED)


def test_a_member_that_unpacks_to_more_than_it_says_gives_no_more() -> None:
    path = VECTORS / "invalid" / "bomb-lying-size.mar"
    with ZipArchive(path) as archive, archive.open("zeros") as stream, pytest.raises(zipfile.BadZipFile, match="CRC"):
        stream.read(1 << 24)


@pytest.mark.parametrize("line", (VECTORS / "valid" / "DIGESTS").read_text().splitlines())
def test_good_archives_of_all_releases_pass(line: str) -> None:
    digest, name = line.split()
    assert check_archive(VECTORS / "valid" / name, expect=digest).digest == digest


def test_nothing_was_unpickled() -> None:
    assert not Path("/tmp/ptynet-unpickled").exists()
    assert not Path("/tmp/ptynet-evil.py").exists()

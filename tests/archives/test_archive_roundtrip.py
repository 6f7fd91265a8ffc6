"""What is written is read back, passes the check, and has the same bytes twice."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ptynet_plugin.archives import MANIFEST_NAME, archive_digest, check_archive, open_archive, read_manifest
from ptynet_plugin.archives.manifest import parse_manifest
from ptynet_plugin.archives.zipform import plan_layout, write_zip
from ptynet_plugin.errors import IntegrityError

Make = Callable[..., Path]


def test_a_fresh_archive_passes(either_archive: Path) -> None:
    checked = check_archive(either_archive)
    assert checked.tensors == 1
    assert checked.manifest.name == "tiny"
    assert checked.digest == archive_digest(either_archive)
    assert check_archive(either_archive, expect=checked.digest.upper()).digest == checked.digest


def test_another_digest_than_expected_is_refused(either_archive: Path) -> None:
    with pytest.raises(IntegrityError, match=r"archive digest is [0-9a-f]{64}, expected 00"):
        check_archive(either_archive, expect="00" * 32)


@pytest.mark.parametrize("format", ["torchserve", "triton"])
def test_the_same_parts_give_the_same_bytes(make_archive: Make, tmp_path: Path, format: str) -> None:
    one, two = (make_archive(out=tmp_path / each, format=format) for each in ("one", "two"))
    assert archive_digest(one) == archive_digest(two)
    if format == "torchserve":
        assert one.read_bytes() == two.read_bytes()


def test_manifest_round_trip(either_archive: Path) -> None:
    manifest = read_manifest(either_archive)
    assert parse_manifest(manifest.to_json(), where="it") == manifest


def test_a_mar_is_an_ordinary_zip(make_archive: Make) -> None:
    with zipfile.ZipFile(make_archive()) as stock:
        assert stock.testzip() is None
        assert stock.namelist() == sorted(stock.namelist())
        assert {"MAR-INF/MANIFEST.json", "model.onnx", MANIFEST_NAME, "torchserve_handler.py"} <= set(stock.namelist())
        assert {info.date_time for info in stock.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_directory_digest_is_what_coreutils_say(make_archive: Make) -> None:
    path = make_archive(format="triton")
    line = r"find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum"
    said = subprocess.run(["bash", "-c", line], cwd=path, capture_output=True, text=True, check=True)
    assert said.stdout.split()[0] == archive_digest(path)


def test_a_mar_digest_is_what_sha256sum_says(make_archive: Make) -> None:
    path = make_archive()
    said = subprocess.run(["sha256sum", str(path)], capture_output=True, text=True, check=True)
    assert said.stdout.split()[0] == archive_digest(path)


def test_companions_are_checked_with_their_archive(make_archive: Make) -> None:
    path = make_archive(format="triton", ensemble=True)
    assert check_archive(path).companions == ("tiny_decode", "tiny_image", "tiny_label")
    (path.parent / "tiny_decode" / "1" / "model.py").write_text("print('other')\n")
    with pytest.raises(IntegrityError, match=r"tiny_decode: 1/model.py has"):
        check_archive(path)
    shutil.rmtree(path.parent / "tiny_decode")
    with pytest.raises(IntegrityError, match="companion tiny_decode is missing beside it"):
        check_archive(path)


def test_a_swapped_companion_is_noticed(make_archive: Make, tmp_path: Path) -> None:
    path = make_archive(format="triton", ensemble=True)
    other = make_archive(out=tmp_path / "other", format="triton", ensemble=True, class_names=("a", "b", "c", "d"))
    shutil.rmtree(path.parent / "tiny_label")
    shutil.copytree(other.parent / "tiny_label", path.parent / "tiny_label")
    with pytest.raises(IntegrityError, match=r"tiny_label: archive digest is"):
        check_archive(path)


def test_what_python_leaves_behind_is_named(make_archive: Make) -> None:
    path = make_archive(format="triton")
    (path / "1" / "__pycache__").mkdir()
    (path / "1" / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"x")
    with pytest.raises(IntegrityError, match="remove the folder __pycache__"):
        check_archive(path)


def test_members_are_sought_in_without_unpacking(make_archive: Make) -> None:
    with open_archive(make_archive()) as archive, archive.open("model.onnx") as stream:
        whole = stream.read()
        stream.seek(-5, os.SEEK_END)
        assert stream.read(100) == whole[-5:]
        stream.seek(3)
        assert stream.read(4) == whole[3:7]
        assert len(whole) == archive.size("model.onnx")


def test_checking_needs_no_torch(either_archive: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path; from ptynet_plugin.archives import check_archive\n"
        f"print(check_archive(Path({str(either_archive)!r})).digest)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == archive_digest(either_archive)


def test_large_members_get_zip64_records_that_the_standard_library_reads(tmp_path: Path) -> None:
    layout = plan_layout({"a.bin": (5 << 30, 1), "b.txt": (3, 2)})
    path = tmp_path / "sparse.zip"
    with path.open("wb") as out:
        for piece in layout.pieces:
            out.seek(piece.offset)
            out.write(piece.header)
        out.seek(layout.directory_offset)
        out.write(layout.directory)
    assert path.stat().st_size == layout.size
    with zipfile.ZipFile(path) as stock:
        sizes = {info.filename: (info.file_size, info.header_offset, info.CRC) for info in stock.infolist()}
        with stock.open("b.txt") as stream:
            assert stream.name == "b.txt"
    assert sizes == {"a.bin": (5 << 30, 0, 1), "b.txt": (3, layout.pieces[1].offset, 2)}
    with open_archive(path) as archive:
        archive.require_canonical()
        assert archive.size("a.bin") == 5 << 30


def test_many_members(tmp_path: Path) -> None:
    with (tmp_path / "many.mar").open("wb") as out:
        write_zip(out, {f"f{index:04}": bytes([index % 256]) for index in range(3000)})
    with open_archive(tmp_path / "many.mar") as archive:
        archive.require_canonical()
        assert archive.read("f2999", limit=1) == bytes([2999 % 256])


def test_a_source_that_changes_while_packed_is_noticed(tmp_path: Path) -> None:
    source = tmp_path / "model.bin"
    source.write_bytes(b"12345")

    class Growing(io.BytesIO):
        def write(self, octets: object) -> int:
            source.write_bytes(b"123456789")
            return super().write(octets)

    with pytest.raises(OSError, match=r"had 5 bytes when measured and 9 when packed"):
        write_zip(Growing(), {"model.bin": source})

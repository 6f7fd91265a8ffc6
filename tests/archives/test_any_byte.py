"""Property: an archive of which any byte was changed, added or cut off does not pass."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ptynet_plugin.archives import check_archive
from ptynet_plugin.errors import ArchiveError
from tests.support.tiny_archives import tiny_parts, write_archive

VALID = Path(__file__).resolve().parents[1] / "vectors" / "valid"
RELAXED = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def mar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mar")
    return write_archive(folder, tiny_parts(folder))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton")
    return write_archive(folder, tiny_parts(folder, format="triton", ensemble=True))


def refused(path: Path) -> bool:
    try:
        check_archive(path)
    except ArchiveError:
        return True
    return False


@RELAXED
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@example(place=0.0, flip=1)
@example(place=0.9999999, flip=1)
def test_no_byte_of_a_mar_can_change(mar: Path, place: float, flip: int) -> None:
    octets = bytearray(mar.read_bytes())
    octets[int(place * len(octets))] ^= flip
    spoiled = mar.with_name("spoiled.mar")
    spoiled.write_bytes(octets)
    assert refused(spoiled)


def test_no_byte_of_the_zip_structure_can_change(mar: Path) -> None:
    """Every byte of the zip's directory and end record, one after the other."""
    octets = mar.read_bytes()
    spoiled = mar.with_name("spoiled.mar")
    for place in range(octets.index(b"PK\1\2"), len(octets)):
        spoiled.write_bytes(octets[:place] + bytes([octets[place] ^ 0x20]) + octets[place + 1 :])
        assert refused(spoiled), place


@RELAXED
@given(cut=st.integers(1, 2000), more=st.binary(min_size=1, max_size=30), where=st.floats(0, 1))
def test_nothing_can_be_cut_off_or_put_in(mar: Path, cut: int, more: bytes, where: float) -> None:
    octets, spoiled = mar.read_bytes(), mar.with_name("spoiled.mar")
    spoiled.write_bytes(octets[:-cut])
    assert refused(spoiled)
    place = int(where * len(octets))
    spoiled.write_bytes(octets[:place] + more + octets[place:])
    assert refused(spoiled)


@RELAXED
@given(data=st.data())
def test_no_byte_of_a_directory_can_change(directory: Path, data: st.DataObject) -> None:
    folder = directory.parent
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "scratch-model.onnx")
    path = data.draw(st.sampled_from(files))
    octets = path.read_bytes()
    place, flip = data.draw(st.integers(0, len(octets) - 1)), data.draw(st.integers(1, 255))
    path.write_bytes(octets[:place] + bytes([octets[place] ^ flip]) + octets[place + 1 :])
    try:
        assert refused(directory)
    finally:
        path.write_bytes(octets)


def test_no_file_of_a_directory_can_go_or_come(directory: Path, tmp_path: Path) -> None:
    names = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
    for name in names:
        copy = tmp_path / "tiny"
        shutil.copytree(directory.parent, tmp_path, dirs_exist_ok=True)
        (copy / name).unlink()
        assert refused(copy), name
        (copy / name).write_bytes((directory / name).read_bytes())
    assert not refused(tmp_path / "tiny")
    (tmp_path / "tiny" / "new").touch()
    assert refused(tmp_path / "tiny")


@pytest.mark.parametrize("name", ["external-data.mar", "torchscript.mar", "pt2.mar"])
@settings(RELAXED, max_examples=40)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_no_byte_of_the_other_kinds_can_change(tmp_path: Path, name: str, place: float, flip: int) -> None:
    octets = bytearray((VALID / name).read_bytes())
    octets[int(place * len(octets))] ^= flip
    spoiled = tmp_path / name
    spoiled.write_bytes(octets)
    assert refused(spoiled)

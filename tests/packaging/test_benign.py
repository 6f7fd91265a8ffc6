"""Benign pictures: where they come from, and what is wrong with a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model_store_tools.packaging.benign import benign_covers, benign_folder, class_names
from ptynet_plugin.errors import UsageError
from ptynet_plugin.spec import InputSpec


def spec(**fields: Any) -> InputSpec:
    return InputSpec.model_validate({"color": "RGB", "output": "logits", "size": (20, 24), "classes": 3, **fields})


def write(path: Path, *, mode: str = "RGB", value: int = 9) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (30, 40), value if mode == "L" else (value, 0, 0)).save(path)


def test_covers_are_the_same_every_time_and_differ_among_themselves() -> None:
    first, again = benign_covers(spec(), count=3), benign_covers(spec(), count=4)
    assert first.pictures.shape == (3, 20, 24, 3)
    assert (first.pictures == again.pictures[:3]).all()
    assert len({picture.tobytes() for picture in again.pictures}) == 4


def test_grey_and_dynamic_covers() -> None:
    assert benign_covers(spec(color="GRAY", size=(0, 32)), count=2).pictures.shape == (2, 224, 32, 1)


def test_a_folder_of_classes_gives_labels(tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/1.jpg", "dog/2.png"):
        write(tmp_path / name)
    benign = benign_folder(tmp_path, spec(), classes=("bird", "cat", "dog"))
    assert benign.pictures.shape == (3, 20, 24, 3)
    assert benign.labels is not None
    assert benign.labels.tolist() == [1, 2, 2]


def test_numbered_folders_give_labels_and_unknown_names_none(tmp_path: Path) -> None:
    write(tmp_path / "a/0/1.png")
    write(tmp_path / "a/2/1.png")
    benign = benign_folder(tmp_path / "a", spec(), limit=10)
    assert benign.labels is not None
    assert benign.labels.tolist() == [0, 2]
    write(tmp_path / "a/7/1.png")
    assert benign_folder(tmp_path / "a", spec()).labels is None


def test_other_modes_are_converted(tmp_path: Path) -> None:
    write(tmp_path / "1.png", mode="L", value=77)
    write(tmp_path / "2.png", value=77)
    assert (benign_folder(tmp_path, spec()).pictures[0] == 77).all()
    assert benign_folder(tmp_path, spec(color="GRAY")).pictures.shape == (2, 20, 24, 1)


def test_the_choice_among_many_is_fixed(tmp_path: Path) -> None:
    for index in range(9):
        write(tmp_path / f"{index}.png", value=index)
    first, second = (benign_folder(tmp_path, spec(), limit=4).pictures for _ in range(2))
    assert len(first) == 4
    assert (first == second).all()


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        benign_folder(tmp_path / "absent", spec())
    with pytest.raises(UsageError, match="holds 0 pictures"):
        benign_folder(tmp_path, spec())
    write(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"GIF89a, or so it says")
    with pytest.raises(UsageError, match=r"2\.png: is no readable picture"):
        benign_folder(tmp_path, spec())


def test_class_names_lie_beside_the_spec(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("bird\ncat\n\ndog\n")
    assert class_names(spec(labels="classes.txt"), tmp_path) == ("bird", "cat", "dog")
    assert class_names(spec(), tmp_path) == ()
    with pytest.raises(UsageError, match=r"none\.txt: class names cannot be read"):
        class_names(spec(labels="none.txt"), tmp_path)

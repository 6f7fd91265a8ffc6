"""Folders of pictures that the owner gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from model_store_tools.pictures import read_pictures


def test_pictures_given_as_covers_are_read_in_order(tmp_path: Path) -> None:
    for name, level in (("b.png", 2), ("a.png", 1)):
        Image.fromarray(np.full((4, 5, 3), level, np.uint8)).save(tmp_path / name)
    Image.fromarray(np.full((4, 5), 9, np.uint8)).save(tmp_path / "c.png")
    pictures = read_pictures(tmp_path, color="RGB")
    assert [(picture.shape, int(picture[0, 0, 0])) for picture in pictures] == [
        ((4, 5, 3), 1),
        ((4, 5, 3), 2),
        ((4, 5, 3), 9),
    ]

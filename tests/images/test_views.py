"""Views: what they undo, what they are called, and what is none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ptynet_plugin.errors import UsageError
from ptynet_plugin.images.resize import resize
from ptynet_plugin.images.views import View

SMOOTH = resize(np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8), (40, 56))


def turned(picture: np.ndarray, degrees: int) -> np.ndarray:
    """Pillow's turn: counter-clockwise about the centre, with its own interpolation."""
    return np.asarray(Image.fromarray(picture).rotate(degrees, Image.Resampling.BILINEAR))


def cropped(picture: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """Pillow's crop, enlarged again."""
    height, width = picture.shape[:2]
    box = (left * width / 100, top * height / 100, right * width / 100, bottom * height / 100)
    made = Image.fromarray(picture).transform((width, height), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    return np.asarray(made)


def test_plain_gives_the_picture_itself() -> None:
    assert View.named("plain").undo(SMOOTH) is SMOOTH


@pytest.mark.parametrize("channels", [1, 3])
def test_mirroring_moves_no_grey_level(channels: int) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (7, 10, channels), np.uint8)
    np.testing.assert_array_equal(View.named("mirrored").undo(picture), picture[:, ::-1])
    np.testing.assert_array_equal(View.named("mirrored+mirrored").undo(picture), picture)


def test_a_quarter_turn_of_a_square_and_a_half_turn_are_exact() -> None:
    square = np.random.default_rng(2).integers(0, 256, (9, 9, 3), np.uint8)
    np.testing.assert_array_equal(View.named("turned:90").undo(square), np.rot90(square, -1))
    np.testing.assert_array_equal(View.named("turned:180").undo(SMOOTH), SMOOTH[::-1, ::-1])


@pytest.mark.parametrize(
    ("view", "suspect"),
    [
        ("turned:10", lambda picture: turned(picture, 10)),
        ("turned:-25", lambda picture: turned(picture, -25)),
        ("cropped:0,0,90,90", lambda picture: cropped(picture, 0, 0, 90, 90)),
        ("cropped:20,5,100,75", lambda picture: cropped(picture, 20, 5, 100, 75)),
        ("mirrored+turned:10", lambda picture: turned(picture[:, ::-1], 10)),
        ("turned:10+mirrored", lambda picture: turned(picture, 10)[:, ::-1]),
        ("cropped:0,0,80,80+turned:15+mirrored", lambda picture: turned(cropped(picture, 0, 0, 80, 80), 15)[:, ::-1]),
    ],
)
def test_the_suspects_model_sees_the_picture(view: str, suspect: object) -> None:
    """Against an image library of others; far from the edges, where a turn brings in what is not the picture's."""
    seen = suspect(View.named(view).undo(SMOOTH))
    middle = (slice(12, 28), slice(16, 40))
    apart = np.abs(seen[middle].astype(int) - SMOOTH[middle])
    unhelped = np.abs(suspect(SMOOTH)[middle].astype(int) - SMOOTH[middle])
    assert apart.mean() < 2
    assert apart.max() < 20
    assert unhelped.mean() > 8


@pytest.mark.parametrize("name", ["plain", "mirrored", "turned:-7", "cropped:0,10,90,100", "mirrored+turned:10"])
def test_names_read_back(name: str) -> None:
    assert View.named(name).name == name
    assert View.named("turned:010").name == "turned:10"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "upside-down",
            "--view upside-down: 'upside-down' is nothing that can be undone; expected mirrored, turned:DEG",
        ),
        ("", "'' is nothing that can be undone"),
        ("mirrored:1", "'mirrored:1' is nothing that can be undone"),
        ("turned", "'turned' is nothing that can be undone"),
        ("turned:1.5", "'turned:1.5' is nothing that can be undone"),
        ("mirrored+plain", "'plain' is nothing that can be undone"),
        ("turned:0", "'turned:0' is out of range; expected -180 to 180 degrees, not 0"),
        ("turned:181", "'turned:181' is out of range"),
        ("cropped:0,0,101,90", "'cropped:0,0,101,90' is out of range; expected a part inside 0 to 100"),
        ("cropped:50,0,55,90", "at least 10 wide and high"),
        ("+".join(["mirrored"] * 5), "has 5 steps, expected 4 at most"),
    ],
)
def test_what_is_no_view(name: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        View.named(name)
    assert said in str(caught.value)

"""The one place where pixels become a model's numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ptynet_plugin.errors import SpecError, UsageError
from ptynet_plugin.images.encode import encode, pixel_table
from ptynet_plugin.spec import InputSpec

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def spec(**fields: Any) -> InputSpec:
    return InputSpec.model_validate({"color": "RGB", "output": "logits", **fields})


def pictures(*, count: int = 3, channels: int = 3, height: int = 5, width: int = 7) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, height, width, channels), np.uint8)


def test_normalises_per_channel_and_puts_channels_first() -> None:
    images = pictures()
    tensor = encode(images, spec(mean=MEAN, std=STD, layout="NCHW", size=(5, 7)))
    expected = ((images / 255.0 - MEAN) / STD).transpose(0, 3, 1, 2)
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor, expected, atol=1e-6)


def test_bgr_swaps_channels_before_normalising() -> None:
    images = pictures()
    tensor = encode(images, spec(color="BGR", mean=MEAN, std=STD, layout="NHWC"))
    np.testing.assert_allclose(tensor, (images[..., ::-1] / 255.0 - MEAN) / STD, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 200 / 255),
        ({"scale": 1.0}, 200.0),
        ({"scale": 1 / 128}, 200 / 128),
        ({"dtype": "float16"}, np.float16(200 / 255)),
        ({"dtype": "uint8"}, 200),
        ({"dtype": "int8", "mean": (128 / 255,) * 3, "std": (1 / 255,) * 3}, 72),
    ],
)
def test_every_way_to_say_the_scale(fields: dict[str, Any], expected: float) -> None:
    tensor = encode(np.full((1, 4, 4, 3), 200, np.uint8), spec(**fields))
    assert tensor.dtype == np.dtype(fields.get("dtype", "float32"))
    np.testing.assert_allclose(tensor, expected, rtol=1e-6)


def test_grey_pictures_keep_one_channel() -> None:
    assert encode(pictures(channels=1), spec(color="GRAY")).shape == (3, 1, 5, 7)


def test_a_dynamic_side_takes_any_length() -> None:
    assert encode(pictures(), spec(size=(0, 7))).shape == (3, 3, 5, 7)


def test_a_value_outside_the_integer_type_is_an_error() -> None:
    with pytest.raises(SpecError, match=r"become 0..255, dtype int8 holds -128..127"):
        pixel_table(spec(dtype="int8"))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 4, 4, 3), np.float32), "expected uint8"),
        (np.zeros((4, 4, 3), np.uint8), "expected uint8"),
        (np.zeros((1, 4, 4, 1), np.uint8), "1 channels, the spec's color RGB has 3"),
        (np.zeros((1, 4, 7, 3), np.uint8), "height 4, the spec's size says 5"),
    ],
)
def test_wrong_pictures_are_named(images: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        encode(images, spec(size=(5, 7)))

"""Probes: a pure function of secret, symbol, cover and size, in integers, with bytes that are kept for ever."""

from __future__ import annotations

import ast
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

import ptynet_plugin
from ptynet_plugin.errors import UsageError
from ptynet_plugin.images.carriers import FREQUENCIES, UNIT, carriers, most_bits, trigger_picture
from ptynet_plugin.images.probes import ProbeDesign, ProbeMaker, blended
from ptynet_plugin.images.tables import MASTER, TABLE_SCALE, cosine_table

VECTORS = Path(__file__).parents[1] / "vectors" / "probes.json"
PACKAGE = Path(ptynet_plugin.__file__).parent
SECRET = bytes(range(32))
INTEGER_MODULES = [
    "symbols/stream.py",
    "symbols/codebook.py",
    "images/tables.py",
    "images/resize.py",
    "images/carriers.py",
    "images/covers.py",
    "images/probes.py",
]
FLOATING = {"float", "float16", "float32", "float64", "sin", "cos", "sqrt", "mean", "std", "norm", "linalg", "random"}


@pytest.fixture(scope="module")
def rgb() -> ProbeMaker:
    return ProbeMaker(SECRET, ProbeDesign("RGB", 94, 32))


@pytest.mark.parametrize("vector", json.loads(VECTORS.read_text()), ids=lambda v: f"{v['design']['color']}-{v['size']}")
def test_bytes_are_those_of_the_vectors(vector: dict) -> None:
    maker = ProbeMaker(bytes.fromhex(vector["secret"]), ProbeDesign(**vector["design"]))
    probe = maker.probe(vector["symbol"], vector["cover"], tuple(vector["size"]))
    assert hashlib.sha256(probe.tobytes()).hexdigest() == vector["sha256"]


@pytest.mark.parametrize("module", INTEGER_MODULES)
def test_no_floating_point_on_the_way_to_a_probe(module: str) -> None:
    """Floats differ between machines in the last digit: true division, float literals and float functions are banned."""
    tree = ast.parse((PACKAGE / module).read_text())
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Div), f"{module}: true division"
        literal = node.value if isinstance(node, ast.Constant) else None
        if isinstance(literal, float):
            # the one float is a limit of the code, turned into an integer number of thousandths
            assert (module, literal) == ("symbols/codebook.py", 0.35), f"{module}: {literal}"
        if isinstance(node, ast.Attribute):
            assert node.attr not in FLOATING, f"{module}: .{node.attr}"


def test_cosine_table_is_rounded_cosines() -> None:
    table = cosine_table(12)
    for k in range(12):
        scale = TABLE_SCALE * (math.sqrt(2) if k else 1)
        expected = [scale * math.cos(math.pi * k * (2 * x + 1) / (2 * MASTER)) for x in range(MASTER)]
        assert np.abs(table[k] - expected).max() <= 0.5 + 1e-6
    gram = table @ table.T / (MASTER * TABLE_SCALE**2)
    assert np.abs(gram - np.eye(12)).max() < 1e-4


@pytest.mark.parametrize(("color", "overlap"), [("RGB", 0.3), ("GRAY", 1e-4)])
def test_carriers_are_nearly_orthogonal(color: str, overlap: float) -> None:
    made = carriers(SECRET, color=color, bits=most_bits(color)).reshape(most_bits(color), -1) / UNIT
    gram = made @ made.T
    assert np.abs(np.diag(gram) - 1).max() < 1e-4
    np.fill_diagonal(gram, 0)
    assert np.abs(gram).max() < overlap


@pytest.mark.parametrize("color", ["RGB", "GRAY"])
def test_two_keys_share_about_half_of_their_energy(color: str) -> None:
    one, other = (carriers(bytes([i]) * 32, color=color, bits=most_bits(color)) for i in (1, 2))
    flat = other.reshape(len(other), -1).T / UNIT
    basis, _ = np.linalg.qr(flat)
    shared = (((one.reshape(len(one), -1) / UNIT) @ basis) ** 2).sum(axis=1)
    assert 0.3 < shared.mean() < 0.7


def test_carriers_leave_the_mean_alone() -> None:
    for color in ("RGB", "GRAY"):
        made = carriers(SECRET, color=color, bits=8)
        assert made.shape[2:] == (FREQUENCIES[color],) * 2
        assert not made[:, :, 0, 0].any()


def test_trigger_correlates_with_its_own_word_alone(rgb: ProbeMaker) -> None:
    own = carriers(SECRET, color="RGB", bits=94)
    triggers = np.stack([trigger_picture(own, word) for word in rgb.words]).reshape(32, -1).astype(float) - 127.5
    correlation = np.corrcoef(triggers)
    np.fill_diagonal(correlation, 0)
    assert correlation.max() < 0.5


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (224, 224), (512, 512), (97, 300)])
@pytest.mark.parametrize("color", ["RGB", "GRAY"])
def test_any_size_gives_the_same_picture(color: str, size: tuple[int, int]) -> None:
    maker = ProbeMaker(SECRET, ProbeDesign(color, 64, 8))
    probe = maker.probe(3, 1, size)
    assert probe.shape == (*size, maker.design.channels)
    assert probe.dtype == np.uint8
    small = maker.probe(3, 1, (16, 16)).astype(float)
    rows, columns = (np.arange(16) * side // 16 + side // 32 for side in size)
    assert np.corrcoef(small.ravel(), probe[np.ix_(rows, columns)].ravel())[0, 1] > 0.75


def test_symbol_cover_key_and_strength_matter(rgb: ProbeMaker) -> None:
    probe = rgb.probe(0, 0, (32, 32))
    assert np.array_equal(probe, ProbeMaker(SECRET, rgb.design).probe(0, 0, (32, 32)))
    others = [
        rgb.probe(1, 0, (32, 32)),
        rgb.probe(0, 1, (32, 32)),
        ProbeMaker(bytes(32), rgb.design).probe(0, 0, (32, 32)),
        ProbeMaker(SECRET, ProbeDesign("RGB", 94, 32, strength=100)).probe(0, 0, (32, 32)),
    ]
    assert len({one.tobytes() for one in [probe, *others]}) == 5


def test_cover_is_the_probe_without_its_trigger(rgb: ProbeMaker) -> None:
    cover, probe = rgb.cover(5, 0, (48, 40)).astype(int), rgb.probe(5, 0, (48, 40)).astype(int)
    share = rgb.design.strength
    trigger = (probe * 256 - cover * (256 - share)) / share
    assert trigger.min() > -2
    assert trigger.max() < 257


def test_blending_rounds_halves_up_and_never_wraps() -> None:
    cover, trigger = (np.array([[[a], [b]]], np.uint8) for a, b in ((255, 0), (255, 1)))
    assert blended(cover, trigger, strength=256).ravel().tolist() == [255, 1]
    assert blended(cover, trigger, strength=128).ravel().tolist() == [255, 1]
    assert blended(cover, trigger, strength=127).ravel().tolist() == [255, 0]


def test_own_pictures_become_covers() -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (40 + i, 50, 1 if i % 2 else 3), dtype=np.uint8) for i in range(5)]
    design = ProbeDesign("RGB", 64, 16)
    maker = ProbeMaker(SECRET, design, pictures=pictures)
    assert maker.probe(0, 0, (32, 32)).shape == (32, 32, 3)
    assert len({maker.cover(j, 0, (8, 8)).tobytes() for j in range(16)}) > 1
    grey = ProbeMaker(SECRET, ProbeDesign("GRAY", 64, 16), pictures=[np.full((9, 9, 3), 200, np.uint8)])
    assert (grey.cover(0, 0, (16, 16)) == 200).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"color": "BGR", "bits": 64}, "color must be one of RGB, GRAY, got 'BGR'"),
        ({"color": "RGB", "bits": 95}, r"bits must be in 1\.\.94"),
        ({"color": "GRAY", "bits": 0}, "bits must be in"),
        ({"color": "RGB", "bits": 64, "symbols": 5000}, r"symbols must be in 2\.\.4096"),
        ({"color": "RGB", "bits": 64, "strength": 0}, "strength must be in"),
        ({"color": "RGB", "bits": 64, "strength": 257}, "strength must be in"),
        ({"color": "RGB", "bits": 64, "generator": "probes/v9"}, "generator 'probes/v9' is unknown"),
    ],
)
def test_impossible_designs_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ProbeDesign(**arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ((32, 0, (32, 32)), r"symbol must be in 0\.\.31, got 32"),
        ((-1, 0, (32, 32)), "symbol must be in"),
        ((0, -1, (32, 32)), "cover must be 0 or more"),
        ((0, 0, (0, 32)), "probe size must have sides in"),
        ((0, 0, (32, 5000)), "probe size must have sides in"),
    ],
)
def test_impossible_questions_are_refused(rgb: ProbeMaker, call: tuple, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rgb.probe(*call)


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_covers_that_are_no_pictures_are_refused(picture: np.ndarray) -> None:
    maker = ProbeMaker(SECRET, ProbeDesign("GRAY", 64, 4), pictures=[picture])
    with pytest.raises(UsageError, match="a cover must be uint8"):
        maker.cover(0, 0, (8, 8))


def test_no_pictures_at_all_are_refused() -> None:
    with pytest.raises(UsageError, match="list of cover pictures is empty"):
        ProbeMaker(SECRET, ProbeDesign("GRAY", 64, 4), pictures=[])

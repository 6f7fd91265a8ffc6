"""A whole model: named by its weights, marked in its widest layer, found again under other names."""

from __future__ import annotations

import numpy as np
import pytest

from ptynet_plugin.errors import TargetError, UsageError
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.whitebox.decoys import DecoyRank, decoy_rank
from ptynet_plugin.whitebox.mark import read
from ptynet_plugin.whitebox.model import mark_model, model_hash, scan, widest_layers

KEY = OwnerKey(bytes(range(32)))


def model(*, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    shapes = {"stem": (16, 3, 3, 3), "body": (64, 32, 3, 3), "head": (10, 640), "bias": (10,), "steps": ()}
    weights = {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return {**weights, "steps": np.array(7)}


def test_the_widest_layer_alone_is_changed() -> None:
    marked, mark = mark_model(model(), KEY)
    changed = [name for name, value in marked.items() if value.tobytes() != model()[name].tobytes()]
    assert changed == ["body"] == widest_layers(model())
    assert mark.model == model_hash(model())
    assert read(marked["body"], mark).right == 256


def test_the_model_is_named_by_values_not_by_names() -> None:
    renamed = {f"module.{name}": value for name, value in reversed(model().items())}
    assert model_hash(renamed) == model_hash(model()) != model_hash(model(seed=1))


def test_a_scan_finds_the_layer_whatever_it_is_called() -> None:
    marked, mark = mark_model(model(), KEY, layers=["head"])
    converted = {f"onnx::{index}": value.T if value.ndim == 2 else value for index, value in enumerate(marked.values())}
    found = scan(converted, mark)
    assert (found.layer, found.transposed, found.reading.right) == ("onnx::2", True, 256)
    assert found.attempts == 4
    assert found.log10_p == pytest.approx(found.reading.log10_p + np.log10(4))


def test_an_unmarked_model_is_not_claimed() -> None:
    _, mark = mark_model(model(), KEY)
    assert scan(model(), mark).log10_p > -4


def test_decoys_rank_a_true_mark_first_and_an_untrue_one_anywhere() -> None:
    marked, mark = mark_model(model(), KEY)
    rank = decoy_rank(marked["body"], 256, decoys=200)
    assert rank == DecoyRank(200, 0, rank.best)
    assert rank.p_value == 1 / 201
    assert 135 < rank.best < 176
    assert 0.2 < decoy_rank(model()["body"], 128, decoys=200).p_value < 0.8
    assert read(model()["body"], mark).right < 176


def test_what_cannot_be_marked() -> None:
    with pytest.raises(UsageError, match="no tensor 'nope' to mark; the widest are body, head"):
        mark_model(model(), KEY, layers=["nope"])
    small = {"w": np.ones((4, 4), np.float32)}
    with pytest.raises(UsageError, match="no layer of 2048 or more"):
        mark_model(small, KEY)
    _, mark = mark_model(model(), KEY)
    with pytest.raises(TargetError, match="none can carry 256 bits"):
        scan(small, mark)

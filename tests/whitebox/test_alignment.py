"""Obfuscation keeps every answer, hides the mark from a plain reading, and is undone with an unmarked reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptynet_plugin.errors import TargetError
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.whitebox.alignment import align, neutral
from ptynet_plugin.whitebox.mark import Reading, embed, read, weight_mark
from ptynet_plugin.whitebox.obfuscation import Obfuscation, obfuscate
from ptynet_plugin.whitebox.topology import Layer, layers_of_onnx, same_architecture, widest

MARK = weight_mark(OwnerKey(bytes(range(32))), model=b"m")
STREAM, CLASSES, BLOCKS = 64, 10, 3


def residual_network(*, seed: int = 0) -> list[Layer]:
    """A stem, residual blocks of two layers each on one stream, and a head; 1 x 1 kernels."""
    generator = np.random.default_rng(seed)

    def layer(name: str, rows: int, columns: int, reads: int, writes: int) -> Layer:
        weight = generator.normal(0, np.sqrt(2 / columns), (rows, columns, 1))
        return Layer(name, weight, reads, writes, (rows, columns, 1, 1))

    layers = [layer("stem", STREAM, 12, 0, 1)]
    for block in range(BLOCKS):
        layers += [layer(f"{block}a", 96, STREAM, 1, 2 + block), layer(f"{block}b", STREAM, 96, 2 + block, 1)]
    return [*layers, layer("head", CLASSES, STREAM, 1, 9)]


def answers(layers: list[Layer], pictures: np.ndarray) -> np.ndarray:
    matrices = [layer.weight[:, :, 0] for layer in layers]
    stream = np.maximum(pictures @ matrices[0].T, 0)
    for block in range(BLOCKS):
        inside = np.maximum(stream @ matrices[1 + 2 * block].T, 0)
        stream = np.maximum(stream + inside @ matrices[2 + 2 * block].T, 0)
    return stream @ matrices[-1].T


def marked(layers: list[Layer]) -> list[Layer]:
    where = widest(layers).name
    return [
        layer.with_weight(embed(layer.stored(), MARK).reshape(layer.weight.shape)) if layer.name == where else layer
        for layer in layers
    ]


def reading(layers: list[Layer]) -> Reading:
    index = [layer.name for layer in residual_network()].index(widest(residual_network()).name)
    return read(layers[index].stored(), MARK)


REFERENCE = residual_network()
MARKED = marked(REFERENCE)
EVERYTHING = Obfuscation(dummies=0.2, splits=0.2)


def test_obfuscation_keeps_the_answers() -> None:
    pictures = np.random.default_rng(1).random((50, 12))
    attacked = obfuscate(MARKED, EVERYTHING)
    assert len(attacked[0].weight) > STREAM
    np.testing.assert_allclose(answers(attacked, pictures), answers(MARKED, pictures), rtol=1e-6, atol=1e-8)


def test_obfuscation_hides_the_mark_and_alignment_brings_every_bit_back() -> None:
    assert reading(MARKED).right == 256
    attacked = obfuscate(MARKED, Obfuscation())
    assert reading(attacked).log10_p > -9
    aligned, cosine = align(attacked, REFERENCE)
    assert cosine > 0.9
    assert reading(aligned).right == 256


@pytest.mark.parametrize(
    "how",
    [EVERYTHING, Obfuscation(dummies=0.2, pruned=0.65), Obfuscation(dummies=0.3, splits=0.2, noise=0.3)],
    ids=["dummies and splits", "dummies and pruning", "with noise"],
)
def test_alignment_undoes_what_comes_on_top(how: Obfuscation) -> None:
    aligned, _ = align(obfuscate(MARKED, how, seed=2), REFERENCE)
    assert reading(aligned).error_rate <= 0.01


def test_a_marked_reference_imports_the_mark_and_a_neutral_one_does_not() -> None:
    clean = [reading(align(residual_network(seed=seed), neutral(MARKED, MARK))[0]).right for seed in range(5, 25)]
    imported = [reading(align(residual_network(seed=seed), MARKED)[0]).right for seed in range(5, 25)]
    assert abs(np.mean(clean) - 128) < 4 * 8 / np.sqrt(20)
    assert np.mean(imported) > np.mean(clean) + 8
    attacked = obfuscate(MARKED, EVERYTHING, seed=3)
    assert reading(align(attacked, neutral(MARKED, MARK))[0]).right >= 253


def test_unrelated_networks_are_never_claimed() -> None:
    found = [align(residual_network(seed=seed), REFERENCE) for seed in range(30, 60)]
    assert max(reading(aligned).right for aligned, _ in found) < 176
    assert max(cosine for _, cosine in found) < 0.6


def test_another_architecture_is_named() -> None:
    with pytest.raises(TargetError, match="the reference has 8 layers, the suspect 7"):
        align(MARKED[:-1], REFERENCE)
    odd = [*MARKED[:-1], Layer("head", np.zeros((10, 64, 9)), 1, 9, (10, 64, 3, 3))]
    with pytest.raises(TargetError, match=r"the reference's 'head' has 1 taps .* the suspect's 'head' 9 taps"):
        same_architecture(REFERENCE, odd)


def test_layers_and_groups_of_an_onnx_graph() -> None:
    weights = {"c1": (8, 3, 3, 3), "c2": (8, 8, 3, 3), "c3": (16, 8, 1, 1), "fc": (16 * 4, 5)}
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Conv", ["x", "c1"], ["a"], pads=[1] * 4), node("Relu", ["a"], ["b"]),
            node("Conv", ["b", "c2"], ["c"], pads=[1] * 4), node("Add", ["c", "b"], ["d"]),
            node("Conv", ["d", "c3"], ["e"]), node("Flatten", ["e"], ["f"]), node("MatMul", ["f", "fc"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()],
    )  # fmt: skip
    layers = layers_of_onnx(helper.make_model(graph))
    assert [layer.name for layer in layers] == list(weights)
    stem, second, third, head = layers
    assert stem.writes == second.reads == second.writes == third.reads
    assert third.writes == head.reads != stem.writes
    assert head.weight.shape == (5, 16, 4)
    assert head.transposed
    assert head.stored().shape == (64, 5)
    with pytest.raises(TargetError, match="no convolution or linear layer"):
        layers_of_onnx(helper.make_model(helper.make_graph([], "g", [], [], [])))
    assert isinstance(graph, onnx.GraphProto)


def test_a_real_residual_network_is_recovered_from_dummies_and_pruning(data_dir: Path) -> None:
    layers = layers_of_onnx(onnx.load(data_dir / "models/converted/cifar10_resnet56.onnx"))
    where = [layer.name for layer in layers].index(widest(layers).name)
    own = layers[where].with_weight(embed(layers[where].stored(), MARK).reshape(layers[where].weight.shape))
    attacked = obfuscate([*layers[:where], own, *layers[where + 1 :]], Obfuscation(dummies=0.2, pruned=0.65), seed=5)
    assert read(attacked[where].stored().reshape(-1)[: own.weight.size], MARK).log10_p > -9
    aligned, cosine = align(attacked, neutral(layers, MARK))
    assert cosine > 0.8
    assert read(aligned[where].stored(), MARK).error_rate <= 0.01

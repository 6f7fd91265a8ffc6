"""Real networks that carry a mark in their weights, and what is done to weights: parts of `whitebox_survival`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from benchmarks.real_pictures import Labelled, cifar_test, cifar_test_jpeg, cifar_train, imagenet_samples
from model_store_tools.extraction.moments import layer_moments
from ptynet_plugin.engines.onnx_engine import OnnxEngine
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.whitebox.mark import MARGIN, WeightMark, embed, weight_mark
from ptynet_plugin.whitebox.model import mark_model, widest_layers
from ptynet_plugin.whitebox.obfuscation import Obfuscation, prune
from ptynet_plugin.whitebox.projection import FEWEST_WEIGHTS
from ptynet_plugin.whitebox.topology import Layer, layers_of_onnx

__all__ = ["KEY", "SUBJECTS", "Subject", "damages", "obfuscations", "open_subject"]

Array = NDArray[Any]
Weights = dict[str, Array]
Damage = Callable[[Array], Array]

KEY, THIEF = OwnerKey(bytes(range(32))), OwnerKey(bytes(range(100, 132)))
SHOWN = 100
"""ImageNet pictures the moments are measured on, one class in ten; accuracy is measured on the other 900."""


@dataclass(frozen=True)
class Recipe:
    """Where a network lies and what it is shown."""

    path: str
    normalisation: dict[str, tuple[float, ...]]
    tests: Callable[[Path], dict[str, Labelled]]
    shown: Callable[[Path], NDArray[np.uint8]]


def _cifar_tests(data: Path) -> dict[str, Labelled]:
    return {"lossless": cifar_test(data), "JPEG": cifar_test_jpeg(data)}


def _imagenet(data: Path) -> tuple[Labelled, NDArray[np.uint8]]:
    every = imagenet_samples(data)
    shown = np.arange(len(every.labels)) % (len(every.labels) // SHOWN) == 0
    return Labelled(every.pictures[~shown], every.labels[~shown]), every.pictures[shown]


def _cifar_shown(data: Path) -> NDArray[np.uint8]:
    return cifar_train(data).pictures[:300]


def _imagenet_tests(data: Path) -> dict[str, Labelled]:
    return {"ImageNet": _imagenet(data)[0]}


def _imagenet_shown(data: Path) -> NDArray[np.uint8]:
    return _imagenet(data)[1]


NORMALISED = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SUBJECTS = {
    "ResNet20": Recipe("models/converted/cifar10_resnet20.onnx", NORMALISED, _cifar_tests, _cifar_shown),
    "ResNet56": Recipe("models/converted/cifar10_resnet56.onnx", NORMALISED, _cifar_tests, _cifar_shown),
    "Tiny Darknet": Recipe("models/converted/imagenet_tiny_darknet.onnx", {}, _imagenet_tests, _imagenet_shown),
}


class Subject:
    """One real network with pictures to test it on and others it was shown for the moments."""

    def __init__(self, model: onnx.ModelProto, spec: InputSpec, tests: dict[str, Labelled], shown: Array) -> None:
        self.model, self.spec, self.tests, self.shown = model, spec, tests, shown
        self.layers = layers_of_onnx(model)
        self.weights: Weights = {layer.name: layer.stored() for layer in self.layers}
        self.place = widest_layers(self.weights)[0]
        self.index = [layer.name for layer in self.layers].index(self.place)

    @cached_property
    def marked(self) -> tuple[Weights, WeightMark]:
        """The network marked by the least change of the widest layer's outputs."""
        return mark_model(self.weights, KEY, moments=self.moments)

    @cached_property
    def moments(self) -> dict[str, NDArray[np.float64]]:
        """What the widest layer's filters read."""
        spec = self.spec.model_copy(update={"layout": "NCHW", "dtype": "float32"})
        return layer_moments(self.model, [self.layers[self.index]], spec, self.shown)

    @cached_property
    def plainly_marked(self) -> Weights:
        """The network marked by the least change of weights, which needs no pictures."""
        return mark_model(self.weights, KEY)[0]

    def right(self, weights: Weights, test: str, *, count: int | None = None) -> NDArray[np.bool_]:
        """Tell which test pictures are answered rightly, with some weights exchanged."""
        changed = onnx.ModelProto()
        changed.CopyFrom(self.model)
        for tensor in changed.graph.initializer:
            if tensor.name in weights:
                value = np.asarray(weights[tensor.name], np.float32)
                tensor.CopyFrom(numpy_helper.from_array(value.reshape(tuple(tensor.dims)), tensor.name))
        engine, pictures = OnnxEngine(changed.SerializeToString(), self.spec, batch=50), self.tests[test]
        answers = engine.scores(pictures.pictures[:count]).argmax(axis=1)
        return np.asarray(answers == pictures.labels[:count])

    def with_weights(self, weights: Weights) -> list[Layer]:
        """Give the layers with these weights, as the file keeps them."""
        return [_restored(layer, weights[layer.name]) for layer in self.layers]


def open_subject(name: str, data: Path) -> Subject:
    """Load one of `SUBJECTS`."""
    recipe = SUBJECTS[name]
    model = onnx.load(str(data / recipe.path))
    spec = InputSpec(color="RGB", output="logits", **recipe.normalisation)
    return Subject(model, spec, recipe.tests(data), recipe.shown(data))


def quantised(weights: Array, bits: int) -> Array:
    """Round to a symmetric grid of this many bits, one scale for the layer."""
    step = np.abs(weights).max() / (2 ** (bits - 1) - 1)
    return np.round(weights / step) * step


def noisy(weights: Array, share: float) -> Array:
    """Add Gaussian noise."""
    return weights + np.random.default_rng(1).normal(0, share * weights.std(), weights.shape)


def overwritten(weights: Array, thief: WeightMark, times: float) -> Array:
    """Embed another key's mark, as strongly or more strongly, in every layer that can carry one."""
    return embed(weights, thief, margin=MARGIN * times) if weights.size >= FEWEST_WEIGHTS else weights


def low_rank(weights: Array, share: float) -> Array:
    """Keep this share of the singular values of the layer as a matrix, the largest ones."""
    left, values, right = np.linalg.svd(weights.reshape(len(weights), -1).astype(np.float64), full_matrices=False)
    kept = max(1, int(share * len(values)))
    return np.asarray((left[:, :kept] * values[:kept] @ right[:kept]).reshape(weights.shape))


def damages(mark: WeightMark) -> dict[str, Damage]:
    """What happens to a stolen model's weights, layer by layer."""
    thief = weight_mark(THIEF, model=mark.model)
    found: dict[str, Damage] = {"none": lambda w: w, "float16": lambda w: w.astype(np.float16)}
    found |= {f"{bits} bits": lambda w, b=bits: quantised(w, b) for bits in (8, 4, 3)}
    found |= {f"prune {share:.0%}": lambda w, s=share: prune(w, s) for share in (0.5, 0.65, 0.8, 0.9, 0.95)}
    found |= {f"noise {share:.0%}": lambda w, s=share: noisy(w, s) for share in (0.1, 0.3, 1.0)}
    found |= {f"overwrite {n}x": lambda w, n=n: overwritten(w, thief, n) for n in (1, 10)}
    found |= {"half the rank": lambda w: low_rank(w, 0.5)}
    return found


def obfuscations() -> dict[str, Obfuscation]:
    """Structural obfuscation, with what can come on top."""
    plain = Obfuscation()
    return {
        "permute, rescale": plain,
        "+ 20 % splits": replace(plain, splits=0.2),
        "+ 20 % dummies, 65 % pruned": replace(plain, dummies=0.2, pruned=0.65),
        "+ 20 % dummies, 20 % splits, 65 % pruned, 30 % noise": Obfuscation(
            dummies=0.2, splits=0.2, pruned=0.65, noise=0.3
        ),
        "+ 50 % dummies, 80 % pruned": replace(plain, dummies=0.5, pruned=0.8),
    }


def _restored(layer: Layer, stored: Array) -> Layer:
    flat = stored.reshape(stored.shape[0], -1)
    return layer.with_weight((flat.T if layer.transposed else flat).reshape(layer.weight.shape))

"""What does the mark in the weights survive, and what does it cost?

A real pretrained network's widest layers are marked at once (no training), and damaged; printed are wrong bits out of 256 and
log10 of the p-value, and what the damage does to accuracy. Then structural obfuscation, raw and after alignment with the
unmarked original, and unrelated networks through the same alignment, which must never be claimed.

    python -m benchmarks.whitebox_survival [--data DIR] [--unrelated 200] [--decoys 10000] [--json FILE] [--plot FILE.png]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from benchmarks.real_pictures import Labelled, cifar_test, imagenet_samples
from ptynet_plugin.engines.onnx_engine import OnnxEngine
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.whitebox.alignment import align, neutral
from ptynet_plugin.whitebox.decoys import decoy_rank
from ptynet_plugin.whitebox.mark import MARGIN, Reading, WeightMark, embed, read, weight_mark
from ptynet_plugin.whitebox.model import mark_model, widest_layers
from ptynet_plugin.whitebox.obfuscation import Obfuscation, obfuscate, prune
from ptynet_plugin.whitebox.projection import FEWEST_WEIGHTS
from ptynet_plugin.whitebox.topology import Layer, layers_of_onnx

Weights = dict[str, NDArray[Any]]
Damage = Callable[[NDArray[Any]], NDArray[Any]]

KEY, THIEF = OwnerKey(bytes(range(32))), OwnerKey(bytes(range(100, 132)))
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
MODELS = {
    "ResNet56": ("models/converted/cifar10_resnet56.onnx", IMAGENET, cifar_test),
    "tiny darknet": ("models/converted/imagenet_tiny_darknet.onnx", {}, imagenet_samples),
}


def quantised(weights: NDArray[Any], bits: int) -> NDArray[Any]:
    """Round to a symmetric grid of this many bits, one scale for the layer."""
    step = np.abs(weights).max() / (2 ** (bits - 1) - 1)
    return np.round(weights / step) * step


def noisy(weights: NDArray[Any], share: float) -> NDArray[Any]:
    """Add Gaussian noise."""
    return weights + np.random.default_rng(1).normal(0, share * weights.std(), weights.shape)


def overwritten(weights: NDArray[Any], thief: WeightMark, times: float) -> NDArray[Any]:
    """Embed another key's mark, as strongly or more strongly, in every layer that can carry one."""
    return embed(weights, thief, margin=MARGIN * times) if weights.size >= FEWEST_WEIGHTS else weights


def damages(mark: WeightMark) -> dict[str, Damage]:
    """What happens to a stolen model's weights, layer by layer."""
    thief = weight_mark(THIEF, model=mark.model)
    found: dict[str, Damage] = {"none": lambda w: w, "float16": lambda w: w.astype(np.float16)}
    found |= {f"prune {share:.0%}": lambda w, s=share: prune(w, s) for share in (0.5, 0.65, 0.8, 0.9, 0.95)}
    found |= {f"{bits} bits": lambda w, b=bits: quantised(w, b) for bits in (8, 4, 3)}
    found |= {f"noise {share:.0%}": lambda w, s=share: noisy(w, s) for share in (0.1, 0.3, 0.5, 1.0)}
    found |= {f"overwrite {n}x": lambda w, n=n: overwritten(w, thief, n) for n in (1, 10)}
    return found


class Subject:
    """One real network with its test pictures."""

    def __init__(self, path: Path, spec: InputSpec, test: Labelled) -> None:
        self.model, self.spec, self.test = onnx.load(str(path)), spec, test
        self.layers = layers_of_onnx(self.model)
        self.weights: Weights = {layer.name: layer.stored() for layer in self.layers}

    def accuracy(self, weights: Weights) -> float:
        """Share of the test pictures answered rightly, with some weights exchanged."""
        changed = onnx.ModelProto()
        changed.CopyFrom(self.model)
        for tensor in changed.graph.initializer:
            if tensor.name in weights:
                value = np.asarray(weights[tensor.name], np.float32)
                tensor.CopyFrom(numpy_helper.from_array(value.reshape(tuple(tensor.dims)), tensor.name))
        engine = OnnxEngine(changed.SerializeToString(), self.spec, batch=50)
        return float((engine.scores(self.test.pictures).argmax(axis=1) == self.test.labels).mean())

    def with_weights(self, weights: Weights) -> list[Layer]:
        """Give the layers with these weights, as the file keeps them."""
        return [_restored(layer, weights[layer.name]) for layer in self.layers]


def _restored(layer: Layer, stored: NDArray[Any]) -> Layer:
    flat = stored.reshape(stored.shape[0], -1)
    return layer.with_weight((flat.T if layer.transposed else flat).reshape(layer.weight.shape))


def survival(subject: Subject) -> Iterator[dict[str, Any]]:
    """Damage every layer of the marked network; read the marked one."""
    marked, mark = mark_model(subject.weights, KEY)
    place = widest_layers(subject.weights)[0]
    change = np.linalg.norm(marked[place] - subject.weights[place]) / np.linalg.norm(subject.weights[place])
    yield {
        "damage": "(unmarked)",
        "accuracy": subject.accuracy(subject.weights),
        "layer": place,
        "change": float(change),
    }
    for name, damage in damages(mark).items():
        damaged = {layer: damage(value) for layer, value in marked.items()}
        yield _row(name, read(damaged[place].astype(np.float32), mark), subject.accuracy(damaged))


def obfuscations() -> dict[str, Obfuscation]:
    """Structural obfuscation, with what can come on top."""
    plain = Obfuscation()
    return {
        "permute, rescale": plain,
        "+ 20 % dummies": replace(plain, dummies=0.2),
        "+ 20 % splits": replace(plain, splits=0.2),
        "+ 20 % dummies, 65 % pruned": replace(plain, dummies=0.2, pruned=0.65),
        "+ 20 % dummies, 20 % splits, 65 % pruned, 30 % noise": Obfuscation(
            dummies=0.2, splits=0.2, pruned=0.65, noise=0.3
        ),
        "+ 50 % dummies, 80 % pruned": replace(plain, dummies=0.5, pruned=0.8),
    }


def structural(subject: Subject, *, decoys: int) -> Iterator[dict[str, Any]]:
    """Obfuscate the marked network, and read it raw and aligned."""
    marked, mark = mark_model(subject.weights, KEY)
    index = [layer.name for layer in subject.layers].index(widest_layers(subject.weights)[0])
    reference = neutral(subject.layers, mark)
    for name, how in obfuscations().items():
        attacked = obfuscate(subject.with_weights(marked), how, seed=5)
        aligned, cosine = align(attacked, reference)
        stored = aligned[index].stored()
        reading = read(stored, mark)
        raw = attacked[index].stored().reshape(-1)[: subject.layers[index].weight.size]
        rank = decoy_rank(stored, reading.right, decoys=decoys)
        row = _row(name, reading, None)
        yield {
            **row,
            "raw_wrong": 256 - read(raw, mark).right,
            "cosine": cosine,
            "decoy_p": rank.p_value,
            "decoy_best": rank.best,
        }


def unrelated(subject: Subject, *, count: int) -> dict[str, Any]:
    """Align networks that have nothing to do with the original, and read them: how often is one claimed?"""
    _, mark = mark_model(subject.weights, KEY)
    index = [layer.name for layer in subject.layers].index(widest_layers(subject.weights)[0])
    reference, right = neutral(subject.layers, mark), []
    for seed in range(count):
        generator = np.random.default_rng(1000 + seed)
        strangers = [
            layer.with_weight(
                generator.permuted(np.asarray(layer.weight, np.float64).reshape(-1)).reshape(layer.weight.shape)
            )
            for layer in subject.layers
        ]
        right.append(read(align(strangers, reference)[0][index].stored(), mark).right)
    claimed = sum(Reading(each, 0.0).log10_p < -9 for each in right)
    return {"networks": count, "claimed": claimed, "most bits": max(right), "mean bits": float(np.mean(right))}


def _row(name: str, reading: Reading, accuracy: float | None) -> dict[str, Any]:
    return {"damage": name, "wrong": 256 - reading.right, "log10_p": reading.log10_p, "accuracy": accuracy}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--unrelated", type=int, default=200)
    parser.add_argument("--decoys", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for name, (path, normalisation, pictures) in MODELS.items():
        started = time.perf_counter()
        subject = Subject(
            options.data / path, InputSpec(color="RGB", output="logits", **normalisation), pictures(options.data)
        )
        print(f"\n{name}: {len(subject.layers)} layers, {len(subject.test.labels)} test pictures")
        found: dict[str, Any] = {"survival": [], "structural": []}
        for row in survival(subject):
            found["survival"].append(row)
            _print(row)
        for row in structural(subject, decoys=options.decoys):
            found["structural"].append(row)
            _print(row)
        found["unrelated"] = unrelated(subject, count=options.unrelated)
        print("  unrelated networks:", found["unrelated"])
        print(f"  {time.perf_counter() - started:.0f} s")
        results[name] = found
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    if options.plot:
        _plot(results, options.plot)


def _print(row: dict[str, Any]) -> None:
    if "wrong" not in row:
        print(
            f"  {row['damage']:<54} accuracy {row['accuracy']:.4f}; marked layer {row['layer']} moves {row['change']:.1%}"
        )
        return
    accuracy = "" if row["accuracy"] is None else f"accuracy {row['accuracy']:.4f}"
    if "raw_wrong" in row:
        accuracy = f"raw {row['raw_wrong']} wrong; cosine {row['cosine']:.2f}, p by decoys {row['decoy_p']:.1e}"
    print(f"  {row['damage']:<54} {row['wrong']:>3} of 256 wrong, p = 10^{row['log10_p']:6.1f}  {accuracy}", flush=True)


def _plot(results: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 -- only where a plot is wanted

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, len(results), figsize=(6 * len(results), 4.5), sharey=True)
    for axis, (name, found) in zip(np.atleast_1d(axes), results.items(), strict=True):
        rows = [row for row in found["survival"] if "wrong" in row]
        axis.barh([row["damage"] for row in rows], [-row["log10_p"] for row in rows], color="#4269d0")
        axis.axvline(9, color="#ff725c")
        axis.set(title=name, xlabel="-log10 p (line: 1e-9)")
        axis.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()

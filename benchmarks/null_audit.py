"""Attack the null hypothesis: random keys against six real networks that know none of them.

    python -m benchmarks.null_audit [--keys 1000] [--probes 8] [--seed 1] [--only NAME ...]
                                    [--json F] [--plot F.svg] [--hits F.npz]

For each network: hits against their expectation, the mean e-value (at most 1), how often anytime p-values fall below a level,
whether the randomised binomial p-values are uniform, what peeking at the binomial would have claimed, what grinding salts gains.
Over all networks, clustered by network: are the p-values uniform, and what do peeking, resuming and repeating claim?
With --hits what the networks answered is kept there, and only weighed again where it lies there already.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.engines.onnx_engine import OnnxEngine
from ptynet_plugin.evidence.null_study import (
    NullStudy,
    answered,
    ask_keys,
    clustered,
    grind,
    inflation,
    study,
)
from ptynet_plugin.spec import InputSpec

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Scores = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


@dataclass(frozen=True)
class Suspect:
    """A real network, independent of every key."""

    name: str
    file: str
    spec: InputSpec


def _spec(side: int, classes: int, **more: object) -> InputSpec:
    values = {"color": "RGB", "output": "logits", "layout": "NCHW", "dtype": "float32"} | more
    return InputSpec(size=(side, side), classes=classes, **values)


SUSPECTS = (
    Suspect("resnet20", "converted/cifar10_resnet20.onnx", _spec(32, 10, mean=MEAN, std=STD)),
    Suspect("resnet56", "converted/cifar10_resnet56.onnx", _spec(32, 10, mean=MEAN, std=STD)),
    Suspect("squeezenet", "cifar10/squeezenet_cifar10_nhwc.onnx", _spec(32, 10, layout="NHWC", output="probabilities")),
    Suspect("mnist", "mnist/mnist-8.onnx", _spec(28, 10, color="GRAY", scale=1.0)),
    Suspect("tiny darknet", "converted/imagenet_tiny_darknet.onnx", _spec(224, 1000)),
    Suspect(
        "mobilenet int8", "imagenet/mobilenet_v2_int8_qnnpack_bs1.torchscript.pt", _spec(224, 1000, mean=MEAN, std=STD)
    ),
)


def scores_of(suspect: Suspect, models: Path) -> Scores:
    """Load a network with its own engine."""
    path = models / suspect.file
    if path.suffix == ".onnx":
        return OnnxEngine(path, suspect.spec).scores
    import torch

    from model_store_tools.packaging.torch_engine import TorchEngine

    torch.backends.quantized.engine = "qnnpack"
    return TorchEngine(torch.jit.load(path), suspect.spec, batch=1).scores


def hits_of(group: list[Suspect], models: Path, given: argparse.Namespace) -> dict[str, NDArray[np.bool_]]:
    """Ask every key's probes of networks that read the same pictures; gives hits of shape (keys, probes) per network."""
    spec = group[0].spec
    assert spec.size is not None
    engines = {suspect.name: scores_of(suspect, models) for suspect in group}
    hits = {suspect.name: np.zeros((given.keys, given.probes), dtype=bool) for suspect in group}
    asked = ask_keys(keys=given.keys, probes=given.probes, size=spec.size, color=spec.color, seed=given.seed)
    for row, question in enumerate(asked):
        for suspect in group:
            top = answered(engines[suspect.name](question.pictures))
            hits[suspect.name][row] = top == question.labels(suspect.name, suspect.spec.classes or 0)
    return hits


def ground(suspect: Suspect, models: Path, given: argparse.Namespace) -> tuple[float, float]:
    """Grind 2^12 salts on the first key's answers."""
    size, color = suspect.spec.size, suspect.spec.color
    assert size is not None
    question = next(ask_keys(keys=1, probes=given.probes, size=size, color=color, seed=given.seed))
    top = answered(scores_of(suspect, models)(question.pictures))
    return grind(question, top, suspect.name, suspect.spec.classes or 0, attempts=1 << 12)


def all_hits(chosen: list[Suspect], given: argparse.Namespace) -> dict[str, NDArray[np.bool_]]:
    """Ask all networks, or read what they answered."""
    if given.hits and given.hits.exists():
        kept = np.load(given.hits)
        return {suspect.name: kept[suspect.name] for suspect in chosen}
    groups: dict[tuple[object, str], list[Suspect]] = {}
    for suspect in chosen:
        groups.setdefault((suspect.spec.size, suspect.spec.color), []).append(suspect)
    asked = [hits_of(group, given.data / "models", given) for group in groups.values()]
    hits = {name: rows for each in asked for name, rows in each.items()}
    if given.hits:
        np.savez_compressed(given.hits, **hits)
    return hits


def main() -> int:
    """Print the table; 1 if any p-value of 1e-6 was claimed or a mean e-value lies clearly above 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--probes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("PTYNET_DATA", "../shared/data")))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--hits", type=Path)
    parser.add_argument("--only", nargs="+")
    given = parser.parse_args()
    chosen = [suspect for suspect in SUSPECTS if not given.only or suspect.name in given.only]
    hits = all_hits(chosen, given)
    print(
        f"{given.keys} keys, {given.probes} probes each\n{'network':>15} {'C':>5} {'hits':>6} {'expected':>8} {'mean E':>14} "
        f"{'p<=.05':>7} {'p<=.01':>7} {'peeked .01':>10} {'p<=1e-6':>8} {'uniform':>8} {'ground p':>9} {'adjusted':>9}"
    )
    rng, studies, sound = np.random.default_rng(given.seed), {}, True
    for suspect in chosen:
        classes = suspect.spec.classes or 0
        found = studies[suspect.name] = study(hits[suspect.name], classes, rng=rng)
        best, adjusted = ground(suspect, given.data / "models", given)
        print(_row(suspect.name, classes, found, best, adjusted), flush=True)
        sound &= found.below[1e-6] == 0 and found.mean_e <= 1 + 4 * found.mean_e_error
    if len(chosen) > 1:
        _print_together(chosen, hits, studies, rng)
    if given.json:
        given.json.write_text(json.dumps({name: _values(found) for name, found in studies.items()}, indent=1) + "\n")
    if given.plot:
        given.plot.write_text(plot(studies))
    print("the null holds" if sound else "THE NULL IS BROKEN")
    return 0 if sound else 1


def _print_together(
    chosen: list[Suspect],
    hits: dict[str, NDArray[np.bool_]],
    studies: dict[str, NullStudy],
    rng: np.random.Generator,
) -> None:
    found = clustered(list(studies.values()))
    print(
        f"clustered by network ({found.models}): mean randomised p {found.mean:.4f}, against 1/2 p = {found.mean_p:.2f}; "
        f"least uniform p of a network times {found.models}: {found.worst_uniform_p:.2f}; claims at 1e-6: {found.claims} of "
        f"{sum(each.keys for each in studies.values())} pairs"
    )
    for alpha in (0.05, 0.01, 0.001):
        rates = inflation(
            [hits[suspect.name] for suspect in chosen],
            [suspect.spec.classes or 0 for suspect in chosen],
            alpha=alpha,
            rng=rng,
        )
        said = "; ".join(
            f"{name} {kept:.4f} (without the rules {broken:.4f})" for name, (kept, broken) in vars(rates).items()
        )
        print(f"innocents claimed at {alpha:g}: {said}")


def _row(name: str, classes: int, found: NullStudy, best: float, adjusted: float) -> str:
    return (
        f"{name:>15} {classes:>5} {found.hits:>6} {found.expected:>8.1f} {found.mean_e:>6.3f} +- {found.mean_e_error:.3f} "
        f"{found.below[0.05]:>7.3f} {found.below[0.01]:>7.3f} {found.peeked[0.01]:>10.3f} {found.below[1e-6]:>8.0f} "
        f"{found.uniform_p:>8.2f} {best:>9.1f} {adjusted:>9.1f}"
    )


def _values(found: NullStudy) -> dict[str, object]:
    plain = {name: value for name, value in vars(found).items() if not isinstance(value, np.ndarray)}
    return plain | {
        "below": {str(k): v for k, v in found.below.items()},
        "peeked": {str(k): v for k, v in found.peeked.items()},
    }


def plot(studies: dict[str, NullStudy], *, side: int = 420) -> str:
    """Draw the p-values' distribution functions: randomised ones on the diagonal, anytime ones below it."""
    colors = ("#4269d0", "#b07d00", "#d1495b", "#2a8f7a", "#a463f2", "#6b4a35")
    parts = [f'<path d="M40 {side - 40}L{side - 20} 20" stroke="#999" stroke-dasharray="4"/>']
    span = side - 60
    for color, (name, found) in zip(colors, studies.items(), strict=False):
        for values, width in ((found.randomised, 1.2), (found.anytime, 0.6)):
            at = np.searchsorted(values, np.linspace(0, 1, 101), side="right") / len(values)
            points = " ".join(f"{40 + span * x / 100:.1f},{side - 40 - span * y:.1f}" for x, y in enumerate(at))
            parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="{width}"/>')
        place = 36 + 16 * list(studies).index(name)
        parts.append(f'<text x="52" y="{place}" fill="{color}">{name}</text>')
    parts.append(
        f'<text x="{side // 2 - 20}" y="{side - 12}">p-value</text><text x="4" y="16">share of keys below</text>'
    )
    frame = f'<rect x="40" y="20" width="{span}" height="{span}" fill="none" stroke="#333"/>'
    style = 'font-family="sans-serif" font-size="12"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" {style}>{frame}{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    raise SystemExit(main())

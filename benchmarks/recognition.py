"""How often is a symbol recognised on real covers, undisturbed and disturbed, over the strength of the trigger?

    python -m benchmarks.recognition MARK [--data ../shared/data] [--json F] [--plot F.png]

Covers: 2,000 lossless CIFAR-10 pictures at 32x32 and 500 ImageNet pictures at 224x224 for RGB, 2,000 MNIST digits at 28x28
for GRAY. Symbols in turn; one probe counts as recognised if its own symbol fires. Exit 1 below 99.5 % for any disturbance at the
mark's own strength.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.disturbances import DISTURBANCES
from benchmarks.hearing import Listener, open_mark
from benchmarks.real_pictures import cifar_test, cifar_train, imagenet_samples, mnist
from ptynet_plugin.images.probes import ProbeDesign, ProbeMaker, blended
from ptynet_plugin.images.resize import resize

STRENGTHS = (77, 90, 102, 115, 128, 141, 154)
SEED = 20221007
LEAST = 0.995

Pictures = NDArray[np.uint8]


def real_covers(data: Path, color: str, count: int) -> dict[str, Pictures]:
    """Give named sets of covers of one size each."""
    if color == "GRAY":
        return {"MNIST 28x28": mnist(data, "t10k").pictures[:count]}
    cifar = np.concatenate([cifar_test(data).pictures, cifar_train(data).pictures])
    return {"CIFAR-10 32x32": cifar[:count], "ImageNet 224x224": imagenet_samples(data).pictures[: max(1, count // 4)]}


def recognition(
    listener: Listener, secret: bytes, design: ProbeDesign, covers: Pictures, strength: int
) -> dict[str, float]:
    """Give the share recognised for each disturbance."""
    maker, size = ProbeMaker(secret, design), covers.shape[1:3]
    symbols = np.arange(len(covers)) % design.symbols
    triggers = {int(j): resize(maker.trigger(int(j)), size) for j in np.unique(symbols)}
    probes = [blended(cover, triggers[int(j)], strength=strength) for cover, j in zip(covers, symbols, strict=True)]
    shares = {}
    for name, disturb in DISTURBANCES.items():
        rng = np.random.default_rng(SEED)
        heard = listener.hear(disturb(probe, rng) for probe in probes)
        shares[name] = float(np.mean(heard.symbols == symbols))
    return shares


def plot(curves: dict[str, dict[int, dict[str, float]]], default: int, path: Path) -> None:
    """Draw recognition over strength, one panel a set of covers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(curves), figsize=(6 * len(curves), 4.5), sharey=True, squeeze=False)
    for axis, (name, curve) in zip(axes[0], curves.items(), strict=True):
        strengths = sorted(curve)
        for disturbance in DISTURBANCES:
            shares = [100 * curve[strength][disturbance] for strength in strengths]
            axis.plot([strength / 256 for strength in strengths], shares, marker=".", label=disturbance)
        axis.axvline(default / 256, color="black", linestyle=":", label="default strength")
        axis.set(title=name, xlabel="strength of the trigger", ylim=(0, 101))
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("symbols recognised, %")
    axes[0][-1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> int:
    """Print the table at the mark's strength, and the whole curve where a plot or JSON is asked for; 1 below the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mark", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    listener, metadata, secret = open_mark(given.mark)
    default = metadata.design.strength
    strengths = sorted({*STRENGTHS, default}) if given.json or given.plot else [default]
    curves: dict[str, dict[int, dict[str, float]]] = {}
    for name, covers in real_covers(given.data, metadata.design.color, given.count).items():
        curves[name] = {s: recognition(listener, secret, metadata.design, covers, s) for s in strengths}
        print(f"{name}: {len(covers)} covers, strength {default}/256 = {default / 256:.2f}")
        for disturbance, share in curves[name][default].items():
            print(f"  {disturbance:18s} {share:8.2%}")
    if given.json:
        given.json.write_text(json.dumps({"strength": default, "curves": curves}, indent=2) + "\n")
    if given.plot:
        plot(curves, default, given.plot)
    worst = min(share for curve in curves.values() for share in curve[default].values())
    print(f"worst {worst:.2%} (limit {LEAST:.1%})")
    return int(worst < LEAST)


if __name__ == "__main__":
    raise SystemExit(main())

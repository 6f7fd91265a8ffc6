"""What does split training cost and hide, over the level of the noise?

    python -m benchmarks.split_training [--data ../shared/data] [--noise 0 0.25 0.5 1] [--plot F.png] [--grid F.png]

For each level 1,000 CIFAR-10 pictures are shared by `ptynet share-covers` in a process of its own over a socket; then

- a mark is trained on what arrived, and asked on 400 other CIFAR-10 pictures at weak triggers, beside a mark trained without
  pictures and one trained with the pictures themselves;
- an attacker who has what arrived and 10,000 public pictures recovers the pictures (`benchmarks.inversion`), and looks up which
  of 1,000 candidates each one is.

--grid shows originals and what was recovered, to look at; it contains the pictures themselves, so keep it where they may lie.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.disturbances import DISTURBANCES
from benchmarks.hearing import Listener
from benchmarks.inversion import Likeness, likeness, matched, recovered
from benchmarks.real_pictures import cifar_test, cifar_test_jpeg, cifar_train
from model_store_tools.sharing.address import parse_address, read_token
from model_store_tools.sharing.owner import receive_covers
from ptynet_plugin.images.carriers import most_bits
from ptynet_plugin.images.probes import ProbeDesign, ProbeMaker, blended
from ptynet_plugin.images.resize import resize
from ptynet_plugin.keys import OwnerKey, derive
from ptynet_plugin.network.batches import SharedCovers
from ptynet_plugin.network.training import TrainingPlan, train_network
from ptynet_plugin.network.weights import Network
from ptynet_plugin.privacy.release import epsilon, gaussian_mu
from ptynet_plugin.whitebox.mark import embed, weight_mark

KEY = OwnerKey(derive(bytes(32), "split training"))
DESIGN = ProbeDesign("RGB", bits=most_bits("RGB"))
STRENGTHS = (77, 102, 154)
ASKED = ("none", "JPEG 30", "crop 0.875", "noise 0.08")
COVERS, TESTS, SHOWN = 1000, 400, 8
SEED = 2207_04668

Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Level:
    """What one level of noise brings.

    Attributes:
        noise: Standard deviation.
        mu: Of Gaussian differential privacy for one picture.
        epsilon: At delta = 1e-5.
        linear: Likeness of what a linear attacker recovers.
        network: Likeness of what a network makes of it.
        matched: Share of pictures found among 1,000 candidates.
        megabytes: Of activations received.
        seconds: Of receiving them, the start of the other process included.
    """

    noise: float
    mu: float
    epsilon: float
    linear: Likeness
    network: Likeness
    matched: float
    megabytes: float
    seconds: float


def shared_over_a_socket(pictures: Pictures, noise: float, folder: Path) -> tuple[SharedCovers, float]:
    """Start `ptynet share-covers` on pictures and fetch what it shares; also the seconds it took."""
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i:05d}.png")
    started = time.monotonic()
    token = folder / "token"
    command = [sys.executable, "-m", "model_store_tools.cli.main", "share-covers", str(folder), "--token", str(token)]
    with subprocess.Popen([*command, "--noise", str(noise)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        address = parse_address(holder.stdout.readline().strip(), flag="--covers-from")
        got = receive_covers(address, token=read_token(token), tls=None, color="RGB")
    return got, time.monotonic() - started


def mark(plan: TrainingPlan, **covers: Any) -> Network:
    """Train a mark as `ptynet train` does."""
    marking = weight_mark(KEY)

    def finish(weights: NDArray[np.floating]) -> NDArray[np.float32]:
        return embed(weights, marking).astype(np.float32)

    return train_network(KEY.probe_secret(), DESIGN, plan=plan, finish=finish, least=0.0, **covers).network


def heard(network: Network, covers: Pictures) -> dict[int, dict[str, float]]:
    """Give the share recognised over strength and disturbance."""
    maker, listener = ProbeMaker(KEY.probe_secret(), DESIGN), Listener(network)
    symbols = np.arange(len(covers)) % DESIGN.symbols
    triggers = [resize(maker.trigger(int(j)), covers.shape[1:3]) for j in symbols]
    shares: dict[int, dict[str, float]] = {}
    for strength in STRENGTHS:
        probes = [blended(cover, trigger, strength=strength) for cover, trigger in zip(covers, triggers, strict=True)]
        shares[strength] = {}
        for name in ASKED:
            rng = np.random.default_rng(SEED)
            found = listener.hear(DISTURBANCES[name](probe, rng) for probe in probes)
            shares[strength][name] = float(np.mean(found.symbols == symbols))
    return shares


def attacked(
    got: SharedCovers, seconds: float, private: Pictures, public: Pictures, *, steps: int
) -> tuple[Level, Pictures]:
    """Recover the pictures; also gives the first few as they look."""
    made = recovered(got.activations, public, noise=got.noise, steps=steps, seed=SEED)
    mu = gaussian_mu(noise=got.noise)
    level = Level(
        noise=got.noise,
        mu=mu,
        epsilon=epsilon(mu, delta=1e-5),
        linear=likeness(private, made.linear),
        network=likeness(private, made.network),
        matched=matched(got.activations, private),
        megabytes=2e-6 * got.activations.size,
        seconds=seconds,
    )
    return level, (255 * made.network[:SHOWN]).round().astype(np.uint8)


def mean_picture(private: Pictures, public: Pictures) -> Likeness:
    """Give the likeness of the mean of the public pictures: what one recovers without any activation."""
    mean = public.astype(np.float32).mean(axis=0) / 255
    return likeness(private, np.broadcast_to(mean, private.shape))


def print_heard(name: str, shares: dict[int, dict[str, float]]) -> None:
    """Print one line of the table of recognition."""
    cells = "   ".join(" ".join(f"{shares[s][each]:7.1%}" for each in ASKED) for s in STRENGTHS)
    print(f"{name:18s} {cells}", flush=True)


def grid(rows: Sequence[Pictures], path: Path) -> None:
    """Put rows of pictures under one another, enlarged."""
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    Image.fromarray(sheet).resize((4 * sheet.shape[1], 4 * sheet.shape[0]), Image.Resampling.NEAREST).save(path)


def plot(levels: Sequence[Level], told: dict[str, dict[int, dict[str, float]]], floor: Likeness, path: Path) -> None:
    """Draw what is recognised and what is recovered over the noise."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    places, names = range(len(levels)), [f"{level.noise:g}" for level in levels]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    for each in ASKED:
        shares = [100 * told[f"noise {level.noise:g}"][STRENGTHS[0]][each] for level in levels]
        line = left.plot(places, shares, marker="o", label=each)[0]
        left.axhline(100 * told["no pictures"][STRENGTHS[0]][each], color=line.get_color(), linestyle=":")
    left.set(title=f"strength {STRENGTHS[0] / 256:.2f}; dotted: no pictures", ylabel="recognised, %", ylim=(0, 101))
    left.legend(fontsize=8)
    right.plot(places, [level.linear.psnr for level in levels], marker="o", label="linear attack")
    right.plot(places, [level.network.psnr for level in levels], marker="s", label="and a network")
    right.axhline(floor.psnr, color="black", linestyle=":", label="mean picture")
    right.set(title="pictures recovered", ylabel="PSNR, dB")
    right.legend(fontsize=8)
    for axis in (left, right):
        axis.set(xlabel="noise", xticks=list(places), xticklabels=names)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    """Share, attack, train, ask; print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--noise", type=float, nargs="+", default=[0, 0.25, 0.5, 1])
    parser.add_argument("--steps", type=int, default=400, help="of each mark's training")
    parser.add_argument("--decoder-steps", type=int, default=300)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--grid", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    private, asked = cifar_train(given.data).pictures[:COVERS], cifar_test(given.data).pictures[:TESTS]
    public = cifar_test_jpeg(given.data).pictures
    plan = TrainingPlan(steps=given.steps, covers=3072, held_out=64)

    floor = mean_picture(private, public)
    print(f"recovering {COVERS} pictures; the mean picture has PSNR {floor.psnr:.1f} dB, SSIM {floor.ssim:.2f}")
    print("noise       mu  epsilon   linear: dB  SSIM   network: dB  SSIM   found among 1,000      MB   seconds")
    levels, rows, releases = [], [private[:SHOWN]], []
    for noise in given.noise:
        with tempfile.TemporaryDirectory() as folder:
            got, seconds = shared_over_a_socket(private, noise, Path(folder))
        level, shown = attacked(got, seconds, private, public, steps=given.decoder_steps)
        levels.append(level)
        rows.append(shown)
        releases.append(got)
        print(
            f"{noise:5g} {level.mu:8.1f} {level.epsilon:8.0f} {level.linear.psnr:12.1f} {level.linear.ssim:5.2f}"
            f" {level.network.psnr:13.1f} {level.network.ssim:5.2f} {level.matched:19.1%}"
            f" {level.megabytes:7.2f} {level.seconds:9.1f}",
            flush=True,
        )
    if given.grid:
        grid(rows, given.grid)

    print(f"\nrecognised on {TESTS} other pictures, marks of {given.steps} steps; at each strength {', '.join(ASKED)}")
    print(f"{'covers':18s} {'   '.join(f'strength {s / 256:.2f}'.ljust(31) for s in STRENGTHS)}")
    told = {"no pictures": heard(mark(plan), asked)}
    print_heard("no pictures", told["no pictures"])
    told["pictures"] = heard(mark(plan, pictures=list(private)), asked)
    print_heard("pictures", told["pictures"])
    for got in releases:
        name = f"noise {got.noise:g}"
        told[name] = heard(mark(plan, shared=got), asked)
        print_heard(name, told[name])
    if given.json:
        facts = {"mean picture": asdict(floor), "levels": [asdict(level) for level in levels], "recognised": told}
        given.json.write_text(json.dumps(facts, indent=2) + "\n")
    if given.plot:
        plot(levels, told, floor, given.plot)


if __name__ == "__main__":
    main()

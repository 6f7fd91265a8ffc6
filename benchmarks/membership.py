"""Does a shipped PTYNet tell which pictures it was trained on, when `ptynet train --covers` was used?

    python -m benchmarks.membership [--data ../shared/data] [--pictures 120] [--networks 24] [--steps 160]
                                    [--as-they-are | --shared NOISE] [--strangers-only] [--plot F.png]

Trains networks, each on a random half of the same CIFAR-10 pictures; each in turn is attacked with all others as shadows
(`ptynet_plugin.privacy.membership`). Who attacks:

- a stranger holds the archive: he shows PTYNet the picture and looks how quiet it stays;
- an insider also knows the owner's key: he looks how well PTYNet reads the key's triggers on the picture;
- an insider with everything also knows the random numbers of the training: his shadows differ from the target in
  nothing but the pictures.

--as-they-are trains on whole covers; without it they are turned and mixed two by two, as `ptynet train` does; --shared
trains on noised activations of them, as `ptynet train --covers-from` does.

Controls: the same scores against membership drawn anew (must find nothing), and networks of the same shape made to
memorise (must be found out).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- the name the whole field uses
from numpy.typing import NDArray

from benchmarks.real_pictures import cifar_train
from ptynet_plugin.images.augment import augmented, blended_batch, carrier_basis
from ptynet_plugin.images.carriers import carriers, most_bits
from ptynet_plugin.images.probes import ProbeDesign
from ptynet_plugin.keys import OwnerKey, derive
from ptynet_plugin.network.batches import SharedCovers
from ptynet_plugin.network.module import TrainablePTYNet
from ptynet_plugin.network.reading import soft_bits
from ptynet_plugin.network.training import TrainingPlan, train_network
from ptynet_plugin.network.weights import Network
from ptynet_plugin.privacy.front import activations
from ptynet_plugin.privacy.membership import LEAST_SHADOWS, likelihood_ratios, plain_scores
from ptynet_plugin.privacy.release import octets_needed, released, restored
from ptynet_plugin.privacy.roc import Interval, area, clustered_interval, found_at
from ptynet_plugin.whitebox.mark import embed, weight_mark

DESIGN = ProbeDesign("RGB", bits=most_bits("RGB"), symbols=64)
QUESTIONS = 12
"""How often each picture is shown to each network, the first time untouched, then disturbed as in training."""

ALARMS = 0.01
DRAWS = 1000
FLOOR = 1e-9
SEED = 2207_04668

Floats = NDArray[np.float64]
Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Study:
    """What the networks said: one statistic a name, shape (networks, pictures), and who was trained on what."""

    member: NDArray[np.bool_]
    statistics: dict[str, Floats]


@dataclass(frozen=True)
class Found:
    """How well one attack did."""

    attack: str
    area: Interval
    found: Interval


def halves(networks: int, pictures: int, *, seed: int) -> NDArray[np.bool_]:
    """Draw a random half of the pictures for each network, (networks, pictures); anew where a picture has few of a kind."""
    rng = np.random.default_rng(seed)
    while True:
        member = np.stack([rng.permutation(pictures) < pictures // 2 for _ in range(networks)])
        counts = member.sum(axis=0)
        if min(counts.min(), networks - counts.max()) > LEAST_SHADOWS:
            return member


def study_of_marks(
    pictures: Pictures, plan: TrainingPlan, *, networks: int, one_key: bool, noise: float | None = None
) -> Study:
    """Train marks as `ptynet train --covers` does, or `--covers-from` at a level of noise; ask them about every picture."""
    member = halves(networks, len(pictures), seed=SEED)
    asked = [_shown(pictures, torch.Generator().manual_seed(SEED + i), disturbed=i > 0) for i in range(QUESTIONS)]
    quiet, heard = [], []
    for row, inside in enumerate(member):
        key = OwnerKey(derive(bytes(32), "membership", 0 if one_key else row))
        network = _trained(key, pictures[inside], plan, noise)
        quiet.append(_quietness(network, asked))
        heard.append(_hearing(network, key, pictures))
    return Study(member, {"stays quiet": np.stack(quiet), "hears the key's triggers": np.stack(heard)})


def study_of_memorisers(pictures: Pictures, *, networks: int, steps: int = 150) -> Study:
    """Make networks of PTYNet's shape learn one fixed word for each picture, undisturbed, again and again."""
    member = halves(networks, len(pictures), seed=SEED + 1)
    shown = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    words = torch.randint(0, 2, (len(pictures), DESIGN.bits), generator=torch.Generator().manual_seed(SEED)) * 2.0 - 1
    statistic = []
    for row, inside in enumerate(member):
        torch.manual_seed(SEED + row)
        model = TrainablePTYNet(channels=3, bits=DESIGN.bits)
        optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
        for _ in range(steps):
            loss = F.softplus(-2 * words[inside] * model(shown[inside])).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            losses = F.softplus(-2 * words * model.eval()(shown)).mean(dim=1)
        statistic.append(-np.log(losses.double().numpy() + FLOOR))
    return Study(member, {"knows the picture's word": np.stack(statistic)})


def _trained(key: OwnerKey, pictures: Pictures, plan: TrainingPlan, noise: float | None) -> Network:
    marking = weight_mark(key)

    def finish(weights: NDArray[np.floating]) -> NDArray[np.float32]:
        return embed(weights, marking).astype(np.float32)

    covers: dict[str, Any] = {"pictures": list(pictures)} if noise is None else {"shared": _shared(pictures, noise)}
    return train_network(key.probe_secret(), DESIGN, plan=plan, finish=finish, least=0.0, **covers).network


def _shared(pictures: Pictures, noise: float) -> SharedCovers:
    made = activations(pictures, color="RGB")
    octets = os.urandom(octets_needed(made.size))
    return SharedCovers(restored(released(made, noise=noise, octets=octets).steps), noise)


def _shown(pictures: Pictures, generator: torch.Generator, *, disturbed: bool) -> NDArray[np.float32]:
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    return (augmented(pixels, generator) if disturbed else pixels).numpy()


def _quietness(network: Network, asked: Sequence[NDArray[np.float32]]) -> Floats:
    """Minus the log of the training's loss on a negative: the mean square of the soft bits."""
    energy = np.mean([np.square(soft_bits(network, shown)).mean(axis=1) for shown in asked], axis=0)
    return np.asarray(-np.log(energy + FLOOR), np.float64)


def _hearing(network: Network, key: OwnerKey, pictures: Pictures) -> Floats:
    """Minus the log of the training's loss on probes: random words at the weakest strength of the training."""
    basis = carrier_basis(carriers(key.probe_secret(), color=DESIGN.color, bits=DESIGN.bits))
    covers = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    strength = torch.full((len(covers), 1, 1, 1), 0.6 * DESIGN.strength / 256)
    total = np.zeros(len(covers))
    for i in range(QUESTIONS):
        generator = torch.Generator().manual_seed(SEED + i)
        words = torch.randint(0, 2, (1, DESIGN.bits), generator=generator).expand(len(covers), -1) * 2.0 - 1
        triggers = (words @ basis.flatten(1)).view(len(covers), *basis.shape[1:])
        probes = blended_batch(covers, triggers, strength)
        bits = soft_bits(network, (augmented(probes, generator) if i else probes).numpy())
        total += -np.log((1 + bits * words.numpy()) / 2 + 1e-6).mean(axis=1)
    return -np.log(total / QUESTIONS + FLOOR)


def attacks(study: Study, name: str) -> list[Found]:
    """Attack a study in every way."""
    made = []
    for what, statistic in study.statistics.items():
        ways: dict[str, Floats] = {
            "score alone": plain_scores(statistic),
            "shadows": likelihood_ratios(statistic, study.member),
        }
        made += [_found(f"{name}, {what}, {way}", scores, study.member) for way, scores in ways.items()]
    return made


def _found(attack: str, scores: Floats, member: NDArray[np.bool_]) -> Found:
    def interval(statistic: Callable[[Floats, Floats], float]) -> Interval:
        return clustered_interval(
            statistic, scores, member, draws=DRAWS, generator=np.random.default_rng(SEED), confidence=0.95
        )

    return Found(attack, interval(area), interval(partial(found_at, alarms=ALARMS)))


def shuffled(study: Study) -> Study:
    """Forget who was trained on what: membership drawn anew."""
    return Study(halves(*study.member.shape, seed=SEED + 2), study.statistics)


def plot(rows: dict[str, list[Found]], path: Path) -> None:
    """Draw every area with its interval."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    every = [found for part in rows.values() for found in part]
    figure, axis = pyplot.subplots(figsize=(9, 0.6 + 0.34 * len(every)))
    for at, found in enumerate(reversed(every)):
        reach = [[found.area.estimate - found.area.low], [found.area.high - found.area.estimate]]
        axis.errorbar(found.area.estimate, at, xerr=reach, fmt="o", capsize=3, color="tab:blue")
    axis.axvline(0.5, color="black", linestyle=":")
    axis.set(yticks=range(len(every)), yticklabels=[found.attack for found in reversed(every)], xlim=(0.4, 1.02))
    axis.set_xlabel("area under the ROC curve, 95 % interval (0.5: nothing found)")
    axis.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    """Run every study and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--pictures", type=int, default=120, help="half of them are covers of each network")
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--as-they-are", action="store_true", help="do not mix the covers")
    parser.add_argument("--shared", type=float, metavar="NOISE", help="train on noised activations of the covers")
    parser.add_argument("--strangers-only", action="store_true", help="leave out insiders and controls")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    pictures = cifar_train(given.data).pictures[: given.pictures]
    plan = TrainingPlan(steps=given.steps, covers=1536, held_out=32, mixed=not given.as_they_are)
    started = time.monotonic()
    stranger = study_of_marks(pictures, plan, networks=given.networks, one_key=False, noise=given.shared)
    rows = {"marks, every shadow its own key": attacks(stranger, "own keys")}
    if not given.strangers_only:
        insider = study_of_marks(pictures, plan, networks=given.networks, one_key=True, noise=given.shared)
        memorisers = study_of_memorisers(pictures, networks=given.networks)
        rows |= {
            "marks, one key and one stream of random numbers": attacks(insider, "one key"),
            "nothing to find: membership drawn anew": attacks(shuffled(insider), "drawn anew"),
            "something to find: networks made to memorise": attacks(memorisers, "memorisers"),
        }
    times = plan.steps * plan.batch / 2 / (len(pictures) // 2)
    how = "mixed two by two" if plan.mixed else "as they are"
    how, half = how if given.shared is None else f"shared at noise {given.shared:g}", len(pictures) // 2
    print(f"{given.networks} networks, {half} of {len(pictures)} pictures each, {plan.steps} steps, covers {how}")
    print(f"each cover drawn {times:.0f} times; {time.monotonic() - started:.0f} s")
    for title, part in rows.items():
        print(title)
        for found in part:
            curve, rate = found.area, found.found
            print(
                f"  {found.attack:52s} area {curve.estimate:.3f} [{curve.low:.3f}, {curve.high:.3f}]"
                f"   found at {ALARMS:.0%} alarms {rate.estimate:6.1%} [{rate.low:.1%}, {rate.high:.1%}]"
            )
    if given.json:
        told = {title: [asdict(found) for found in part] for title, part in rows.items()}
        given.json.write_text(json.dumps(told, indent=2) + "\n")
    if given.plot:
        plot(rows, given.plot)


if __name__ == "__main__":
    main()

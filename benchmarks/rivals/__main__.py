"""Is it better than the published schemes, on the same work?

Every rival marks ResNet20 (CIFAR-10) and some of them Tiny Darknet (ImageNet samples); printed are effectiveness, fidelity,
cost, queries, what the outputs' sum gives away, and what is left after attacks. Fine-tuning is shorter than in the papers:
2,000 pictures and 4 epochs on ResNet20; 200 pictures, 3 epochs and at most 20 triggers of the plain backdoor on Tiny Darknet. The
rate is the largest of a ladder that keeps the target's accuracy on its owner's pictures.

    python -m benchmarks.rivals [--mark MARK --key OWNER.key] [--data DIR] [--only NAME ...] [--no-attacks] [--json F]

Exit 1 if ours does not reach: fidelity loss 0, parameters and operations at most 1/50 of the published PTYNet's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.marked_targets import owner
from benchmarks.real_pictures import Labelled, cifar_train
from benchmarks.rivals.adi import ADI
from benchmarks.rivals.contract import Evidence, Rival, Task
from benchmarks.rivals.dawn import DAWN
from benchmarks.rivals.deep_fidelity import DEEP_FIDELITY
from benchmarks.rivals.measuring import Measured, measured
from benchmarks.rivals.none import NONE
from benchmarks.rivals.ours import ours
from benchmarks.rivals.published_ptynet import PUBLISHED_PTYNETS
from benchmarks.rivals.tasks import cifar_task, imagenet_task
from benchmarks.rivals.trojannet import TROJANNET
from benchmarks.rivals.zhang import CONTENT, NOISE
from model_store_tools.audit.contract import Attack, Share

RIVALS = (*PUBLISHED_PTYNETS, TROJANNET, ADI, CONTENT, NOISE, DEEP_FIDELITY, DAWN, NONE)
ON_IMAGENET = (PUBLISHED_PTYNETS[0], TROJANNET, ADI, CONTENT, NOISE, NONE)
ATTACKED = (
    "JPEG 30",
    "blur 5x5",
    "noise 0.1",
    "crop 0.8",
    "int8, static QDQ",
    "prune 65%",
    "fine-tune all, 1 epoch",
    "fine-pruning 10%",
    "cut branch",
)
COST_RATIO = 50


def main() -> int:
    """Print the tables; 1 if ours misses what is promised."""
    args = _arguments()
    torch.set_num_threads(1)
    started, rows = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as name:
        mark, key = owner(Path(name), mark=args.mark, key=args.key)
        own = ours(mark, key)
        task, test = cifar_task(args.data, pictures=args.pictures, epochs=args.epochs)
        attacks = () if args.no_attacks else _attacks(args.attacks)
        train = cifar_train(args.data)
        share = Share(train.pictures[-1000:], train.labels[-1000:], True, "CIFAR-10, training")
        rows += _table(task, test, _chosen((*RIVALS, own), args.only), args, attacks=attacks, share=share)
        if not args.small:
            large, held_out = imagenet_task(args.data, pictures=200, epochs=3)
            rows += _table(large, held_out, _chosen((*ON_IMAGENET, own), args.only), args, attacks=(), share=None)
    missed = list(_missed(rows))
    print(f"\n{time.perf_counter() - started:.0f} s; " + ("; ".join(missed) if missed else "all reached"))
    if args.json:
        args.json.write_text(json.dumps({"rows": [_plain(row) for row in rows], "missed": missed}, indent=1) + "\n")
    return 1 if missed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--mark", type=Path, help="a trained mark; one is trained otherwise")
    parser.add_argument("--key", help="its owner's key file")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--only", nargs="+", help="names of rivals")
    parser.add_argument("--small", action="store_true", help="ResNet20 alone")
    parser.add_argument("--no-attacks", action="store_true")
    parser.add_argument("--attacks", nargs="+", default=list(ATTACKED), help="names as `ptynet audit` prints them")
    parser.add_argument("--latency", type=float, default=3.0, help="seconds to time each model")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _attacks(names: list[str]) -> tuple[Attack, ...]:
    from model_store_tools.audit.attacks import ALL

    known = {attack.name: attack for attack in ALL}
    missing = [name for name in names if name not in known]
    if missing:
        raise SystemExit(f"no attack {', '.join(missing)}; there are: {', '.join(known)}")
    return tuple(known[name] for name in names)


def _chosen(rivals: tuple[Rival, ...], only: list[str] | None) -> tuple[Rival, ...]:
    return tuple(rival for rival in rivals if not only or any(name in rival.name for name in only))


def _table(
    task: Task,
    test: Labelled,
    rivals: tuple[Rival, ...],
    args: argparse.Namespace,
    *,
    attacks: tuple[Attack, ...],
    share: Share | None,
) -> list[Measured]:
    print(f"\n{task.name}, {len(task.pictures)} pictures, {task.epochs} epochs\n{_HEAD}", flush=True)
    rows = []
    for rival in rivals:
        row = measured(
            rival, task, test, latency_seconds=args.latency, attacks=attacks, share=share if attacks else None
        )
        rows.append(row)
        print(_line(row), flush=True)
        for each in row.survival:
            said = {True: "survived", False: "LOST", None: "-"}[each.accepted]
            print(
                f"{'':<10}{each.attack:<26}{said:<10}hits {each.hits:>6.1%}  accuracy {each.accuracy:>6.1%}  "
                f"{each.seconds:>6.1f} s  {each.note[:90]}",
                flush=True,
            )
    return rows


_HEAD = (
    f"{'rival':<28}{'embed s':>8}{'hits':>8}{'bare':>7}{'accuracy':>9}{'flips':>7}{'max diff':>9}{'SPL':>9}"
    f"{'sum-1':>7}{'parameters':>12}{'MFLOP':>9}{'latency':>8}  queries to 1e-9 (null)"
)


def _line(row: Measured) -> str:
    latency = "-" if row.latency is None else f"{row.latency:.3f}"
    return (
        f"{row.rival:<28}{row.seconds:>8.1f}{_share(row.shown):>8}{_share(row.alone):>7}{row.accuracy:>9.1%}{row.flips:>7.1%}"
        f"{row.difference:>9.2g}{row.divergence:>9.2g}{row.sums:>7.2f}{row.parameters:>12,}{row.operations / 1e6:>9.2f}"
        f"{latency:>8}  {_queries(row.shown)}{'' if row.rate is None else f'; rate {row.rate:g}'}"
    )


def _share(evidence: Evidence) -> str:
    return f"{evidence.hits / max(evidence.queries, 1):.0%}"


def _queries(evidence: Evidence) -> str:
    if evidence.null == "none":
        return f"never: no valid null; one label, p = 10^{evidence.log10_p:.0f} at best"
    needed = "never" if math.isinf(evidence.to_alpha) else f"{evidence.to_alpha:.0f}"
    if math.isfinite(evidence.to_alpha) and math.isfinite(evidence.at_half):
        needed += f"; {evidence.at_half:.0f} at half of the hits"
    return needed + {"own": "", "lent": " (no valid null of its own; with labels drawn as ours are)"}[evidence.null]


def _missed(rows: list[Measured]) -> list[str]:
    own = [row for row in rows if row.rival == "ours"]
    found = []
    for row in own:
        published = [
            other for other in rows if other.target == row.target and other.rival.startswith("published PTYNet")
        ]
        if row.flips or row.difference or row.divergence:
            found.append(f"{row.target}: fidelity loss is not 0")
        if any(row.parameters * COST_RATIO > other.parameters for other in published):
            found.append(f"{row.target}: parameters above 1/{COST_RATIO} of the published PTYNet's")
        if any(row.operations * COST_RATIO > other.operations for other in published):
            found.append(f"{row.target}: operations above 1/{COST_RATIO} of the published PTYNet's")
    return found


def _plain(row: Measured) -> dict[str, object]:
    plain = dataclasses.asdict(row)
    for evidence in (plain["shown"], plain["alone"]):
        for name in ("to_alpha", "at_half"):
            evidence[name] = None if math.isinf(evidence[name]) else evidence[name]
    for each in plain["survival"]:
        each.update({name: None for name in ("hits", "accuracy") if math.isnan(each[name])})
    return plain


if __name__ == "__main__":
    raise SystemExit(main())

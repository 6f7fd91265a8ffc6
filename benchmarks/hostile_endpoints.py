"""Behind which endpoints is the mark still shown, and where does the verdict break?

Packages ResNet20 (CIFAR-10) with a mark, steals the archive and serves it behind every endpoint of
`model_store_tools.audit.hostile`: real HTTP servers on loopback, asked by the real protocol at 1e-9 with at most 200 queries.
The thief also has ResNet56 with its penultimate features, 2,000 pictures, and 500 that neither network saw in training to set his
thresholds by. Asked are a claim with procedural covers and one with the owner's own pictures as covers, with and without real
pictures as controls: for a filter of strangers these are not the same.

    python -m benchmarks.hostile_endpoints [--mark MARK --key OWNER.key] [--data DIR] [--quick] [--json F]

Exit 1 if an endpoint of `SHOWN` loses the verdict.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.marked_targets import Marked, cover_folder, marked_target, owner
from benchmarks.real_pictures import Labelled, cifar_test, cifar_train
from model_store_tools.audit.hostile import Booty, Trial, hostile_endpoints, stolen_model, try_endpoint
from model_store_tools.audit.hostile.table import DILUTIONS, detectors
from model_store_tools.pictures import read_pictures
from ptynet_plugin.claims.directory import read_claim
from ptynet_plugin.engines.onnx_engine import OnnxEngine
from ptynet_plugin.engines.penultimate import find_penultimate
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.statistics.decision import alpha_of_test
from ptynet_plugin.statistics.eprocess import log10_e_path
from ptynet_plugin.verification.endpoint import Picture
from ptynet_plugin.verification.questions import Questions

SHOWN = (
    "as stolen",
    "top-1 only",
    "probabilities, 2 decimals",
    "probabilities, 1 decimals",
    "temperature 0.25",
    "temperature 4",
    "temperature 20",
    "JPEG 75 gateway",
    "JPEG 50 gateway",
    "JPEG 30 gateway",
    "diluted 10%",
    "diluted 30%",
    "diluted 50%",
)
"""Must be shown with either kind of cover."""


POWER_RUNS = 2000
BUDGETS = (200, 448)
"""The default, and every symbol that a claim of 512 has for party runs."""


FALSE_POSITIVES = (0.01, 0.02, 0.05, 0.1, 0.2)
PROBES = 200


def main() -> int:
    """Print both tables and the power under dilution; 1 if a verdict of `SHOWN` is lost."""
    args = _arguments()
    started, test = time.perf_counter(), cifar_test(args.data)
    test = Labelled(test.pictures[: args.benign], test.labels[: args.benign])
    tables: dict[str, list[Trial]] = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        mark, key = owner(scratch, mark=args.mark, key=args.key)
        own = cover_folder(args.data, scratch / "covers")
        plain = marked_target("resnet20", args.data, scratch, mark=mark, key=key)
        brought = marked_target("resnet20", args.data, scratch, mark=mark, key=key, covers=own)
        pictures = read_pictures(own, color="RGB")
        for title, marked, covers, controls, groups in (
            ("procedural covers", plain, None, False, None),
            ("procedural covers, ordinary pictures as controls", plain, None, True, ("filters",)),
            ("the owner's own covers, ordinary pictures as controls", brought, pictures, True, None),
        ):
            print(f"\n{title}\n{_HEAD}", flush=True)
            tables[title] = list(_trials(marked, args, test, covers, benign_controls=controls, groups=groups))
        caught = list(_caught(plain, args, None)) + list(_caught(brought, args, pictures))
    print(f"\nprobes turned away where benign pictures lose {', '.join(f'{rate:.0%}' for rate in FALSE_POSITIVES)}")
    for each in caught:
        print(f"{each['detector']:<20} {each['covers']:<12} " + "  ".join(f"{share:6.1%}" for share in each["shares"]))
    powers = {classes: list(_powers(classes=classes)) for classes in (10, 1000)}
    for classes, rows_of in powers.items():
        print("\n".join(["", f"dilution in theory, C = {classes}: {_POWER_HEAD}", *map(_power_row, rows_of)]))
    lost = [f"{each.name} ({title})" for title, rows in tables.items() for each in rows if _lost(each)]
    print(f"\n{time.perf_counter() - started:.0f} s; " + (f"LOST: {', '.join(lost)}" if lost else "nothing lost"))
    if args.json:
        rows = {title: [dataclasses.asdict(each) for each in trials] for title, trials in tables.items()}
        args.json.write_text(
            json.dumps({"tables": rows, "powers": powers, "caught": caught, "lost": lost}, indent=1) + "\n"
        )
    return 1 if lost else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--mark", type=Path, help="a trained mark; one is trained otherwise")
    parser.add_argument("--key", help="its owner's key file")
    parser.add_argument("--benign", type=int, default=200, help="pictures asked as ordinary users would")
    parser.add_argument("--quick", action="store_true", help="without what trains a network or waits")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _trials(
    marked: Marked,
    args: argparse.Namespace,
    test: Labelled,
    covers: list[Picture] | None,
    *,
    benign_controls: bool,
    groups: tuple[str, ...] | None,
) -> Iterator[Trial]:
    with stolen_model(marked.archive, marked.spec) as stolen, _other(args.data, marked.spec) as (other, features):
        train, held_out = cifar_train(args.data).pictures, cifar_test(args.data).pictures[500:]
        booty = Booty(stolen, marked.spec, train[:2000], held_out=held_out, other=other, features=features)
        claim = read_claim(marked.claim)
        for hostile in hostile_endpoints(booty, slow=not args.quick):
            if groups is not None and hostile.group not in groups:
                continue
            trial = try_endpoint(
                hostile,
                claim=claim,
                key=marked.key,
                covers=covers,
                controls=list(train[2000:2200]) if benign_controls else None,
                pictures=None
                if hostile.group == "limits"
                else test.pictures,  # asked at full speed they would say nothing
                labels=test.labels,
            )
            print(_row(trial), flush=True)
            yield trial


@contextmanager
def _other(data: Path, spec: InputSpec) -> Iterator[tuple[object, object]]:
    """ResNet56 as the thief's second model, and its penultimate features."""
    path = data / "models" / "converted" / "cifar10_resnet56.onnx"
    inner = find_penultimate(onnx.load_model(path)).feature
    engine = OnnxEngine(path, spec.model_copy(update={"input": None, "scores": None}), inner=[inner])

    def features(pictures: NDArray[np.uint8]) -> NDArray[np.generic]:
        return engine.values(pictures)[inner]

    with stolen_model(path, spec.model_copy(update={"input": None, "scores": None})) as ask:
        yield ask, features
    engine.close()


def _caught(marked: Marked, args: argparse.Namespace, covers: list[Picture] | None) -> Iterator[dict[str, Any]]:
    """Give for each detector the share of probes above its threshold, at several shares of benign pictures."""
    questions = Questions(read_claim(marked.claim), marked.key, pictures=covers)
    probes = [questions.probe(symbol, 0) for symbol in range(PROBES)]
    with stolen_model(marked.archive, marked.spec) as stolen, _other(args.data, marked.spec) as (other, features):
        train, held_out = cifar_train(args.data).pictures, cifar_test(args.data).pictures[500:]
        booty = Booty(stolen, marked.spec, train[:2000], held_out=held_out, other=other, features=features)
        for name, _, detector in detectors(booty, slow=not args.quick):
            benign, measured = (np.array([detector(each) for each in group]) for group in (held_out, probes))
            shares = [float((measured > np.quantile(benign, 1 - rate)).mean()) for rate in FALSE_POSITIVES]
            yield {"detector": name, "covers": "own" if covers else "procedural", "shares": shares}


def _powers(*, classes: int) -> Iterator[dict[str, float | None]]:
    """Give, for each rate of dilution, how often a run of each budget shows the mark and the median of its queries."""
    random, needed = np.random.default_rng(0), -np.log10(alpha_of_test(1e-9, 1))
    for rate in DILUTIONS:
        hits = random.random((POWER_RUNS, max(BUDGETS))) < (1 - rate) + rate / classes
        above = log10_e_path(hits, 1 / classes) >= needed
        first = np.where(above.any(axis=1), above.argmax(axis=1) + 1, np.inf)
        median = float(np.median(first))
        shares = {f"within {budget}": float((first <= budget).mean()) for budget in BUDGETS}
        yield {"rate": rate, "median": median if np.isfinite(median) else None, **shares}


_POWER_HEAD = "rate, median queries, shown within " + ", within ".join(str(budget) for budget in BUDGETS)


def _power_row(power: dict[str, float | None]) -> str:
    median = "more" if power["median"] is None else f"{power['median']:.0f}"
    shares = "  ".join(f"{power[f'within {budget}']:6.1%}" for budget in BUDGETS)
    return f"{power['rate']:>6.0%} {median:>6}  {shares}"


def _lost(trial: Trial) -> bool:
    return trial.name in SHOWN and trial.verdict != "shown"


_HEAD = (
    f"{'endpoint':<40} {'verdict':<18} {'hits':>11} {'log10 p':>8} {'controls':>8} {'evasion p':>9} {'benign right':>12} "
    f"{'refused':>8} {'s':>5}"
)


def _row(trial: Trial) -> str:
    benign = trial.benign
    users = "" if benign is None else f"{benign.right:>12.1%} {benign.refused:>8.1%}"
    trouble = f"  {trial.trouble[:90]}" if trial.trouble else ""
    return (
        f"{trial.name:<40} {trial.verdict:<18} {f'{trial.hits} of {trial.queries}':>11} {trial.log10_p:>8.1f} "
        f"{trial.controls:>8} {f'10^{trial.log10_p_evasion:.1f}':>9} {users} {trial.seconds:>5.1f}{trouble}"
    )


if __name__ == "__main__":
    raise SystemExit(main())

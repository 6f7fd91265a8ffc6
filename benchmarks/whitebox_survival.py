"""What does the mark in the weights survive, and what does it cost?

Real pretrained networks' widest layers are marked at once (no training), and damaged; printed are wrong bits out of 256,
log10 of the p-value, and what marking and damage do to accuracy. Then structural obfuscation, raw and after alignment with
the unmarked original, unrelated networks through the same alignment, which must never be claimed, and a thief who trains.
Each stage is written to --json when it is done; the same command again goes on where it was stopped. Exit 1 where a promise is
broken: all bits after 4-bit quantisation, 65 % and 80 % pruning and overwriting once, 1e-9 after 90 % pruning, at most 1 % wrong
after permutation, 20 % dummies and 65 % pruning, and no unrelated network claimed.

    python -m benchmarks.whitebox_survival [--data DIR] [--unrelated 200] [--decoys 10000] [--json FILE] [--plot FILE.png]
        [--mark MARK/ --key OWNER.key]          # a trained PTYNet as well
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.whitebox_subjects import SUBJECTS, Subject, damages, obfuscations, open_subject
from ptynet_plugin.keyfile import read_key
from ptynet_plugin.mark import read_network
from ptynet_plugin.whitebox.alignment import align, neutral
from ptynet_plugin.whitebox.decoys import decoy_rank
from ptynet_plugin.whitebox.mark import Reading, read, weight_mark
from ptynet_plugin.whitebox.network import LINEAR, carrying_layer
from ptynet_plugin.whitebox.obfuscation import obfuscate

Rows = list[dict[str, Any]]
FEWER = 500
"""Test pictures under damage, where a point more or less does not matter."""

MOST_WRONG = {
    **dict.fromkeys(("none", "float16", "8 bits", "4 bits", "prune 65%", "prune 80%", "overwrite 1x"), 0),
    "+ 20 % dummies, 65 % pruned": 2,
}
"""Bits of 256 that may be wrong."""

COLORS = ("#4269d0", "#efb118", "#3ca951", "#ff725c")


def cost(subject: Subject) -> Rows:
    """Mark by the least change of weights, and of outputs: what does it cost on every test picture?"""
    before = {test: subject.right({}, test) for test in subject.tests}
    rows: Rows = []
    for name, marked in (("least weights", subject.plainly_marked), ("least outputs", subject.marked[0])):
        original, changed = subject.weights[subject.place], marked[subject.place]
        row: dict[str, Any] = {"marking": name, "layer": subject.place, "weights": int(original.size)}
        row["moved"] = float(np.linalg.norm(changed - original) / np.linalg.norm(original))
        for test, was in before.items():
            gained = subject.right(marked, test).astype(float) - was
            error = float(gained.std() / np.sqrt(len(gained)))
            row[test] = {
                "pictures": len(was),
                "before": float(was.mean()),
                "change": float(gained.mean()),
                "error": error,
            }
        rows.append(row)
    return rows


def survival(subject: Subject) -> Rows:
    """Damage every layer of the marked network; read the marked one."""
    marked, mark = subject.marked
    test, rows = next(iter(subject.tests)), []
    for name, damage in damages(mark).items():
        damaged = {layer: damage(value) for layer, value in marked.items()}
        reading = read(damaged[subject.place].astype(np.float32), mark)
        accuracy = float(subject.right(damaged, test, count=FEWER).mean())
        rows.append(_row(name, reading) | {"accuracy": accuracy})
    return rows


def wiped(subject: Subject) -> Rows:
    """Drop from the marked layer what the data rarely reach, as a thief with pictures can who knows how marks are embedded."""
    values, directions = np.linalg.eigh(subject.moments[subject.place])
    energy, rows = np.cumsum(values) / values.sum(), []
    for marking, marked in (("least outputs", subject.marked[0]), ("least weights", subject.plainly_marked)):
        layer = marked[subject.place]
        for share in (0.01, 0.05, 0.1, 0.2):
            kept = directions[:, energy > share]
            left = (layer.reshape(len(layer), -1) @ kept @ kept.T).reshape(layer.shape)
            right = subject.right({**marked, subject.place: left}, next(iter(subject.tests)))
            row = _row(f"{marking}, {share:.0%} of the inputs' energy dropped", read(left, subject.marked[1]))
            rows.append(row | {"accuracy": float(right.mean())})
    return rows


def structural(subject: Subject, *, decoys: int) -> Rows:
    """Obfuscate the marked network, and read it raw and aligned."""
    marked, mark = subject.marked
    reference, rows = neutral(subject.layers, mark), []
    for name, how in obfuscations().items():
        attacked = obfuscate(subject.with_weights(marked), how, seed=5)
        aligned, cosine = align(attacked, reference)
        stored = aligned[subject.index].stored()
        reading = read(stored, mark)
        raw = attacked[subject.index].stored().reshape(-1)[: subject.weights[subject.place].size]
        rank = decoy_rank(stored, reading.right, decoys=decoys)
        found = {"raw_wrong": 256 - read(raw, mark).right, "cosine": cosine, "decoy_p": rank.p_value}
        rows.append(_row(name, reading) | found | {"decoy_best": rank.best})
    return rows


def unrelated(subject: Subject, *, count: int) -> Rows:
    """Align networks that have nothing to do with the original, and read them: how often is one claimed?"""
    _, mark = subject.marked
    reference, right = neutral(subject.layers, mark), []
    for seed in range(count):
        generator = np.random.default_rng(1000 + seed)
        strangers = [
            layer.with_weight(generator.permuted(np.asarray(layer.weight).reshape(-1)).reshape(layer.weight.shape))
            for layer in subject.layers
        ]
        right.append(read(align(strangers, reference)[0][subject.index].stored(), mark).right)
    claimed = sum(Reading(each, 0.0).log10_p < -9 for each in right)
    return [{"networks": count, "claimed": claimed, "most bits": max(right), "mean bits": float(np.mean(right))}]


def ptynet(folder: Path, key_file: Path) -> Rows:
    """Damage a trained PTYNet's marked layer."""
    network, mark = read_network(folder), weight_mark(read_key(str(key_file)))
    name = carrying_layer(network)
    weights = network.linear_weight if name == LINEAR else network.convolutions[int(name)].weight
    return [
        _row(damage, read(np.asarray(change(weights), np.float32), mark)) for damage, change in damages(mark).items()
    ]


def thief(data: Path) -> Rows:
    """Let a thief train the marked ResNet20 on."""
    from benchmarks.whitebox_thief import trained_by_a_thief

    return trained_by_a_thief(data)


def _row(name: str, reading: Reading) -> dict[str, Any]:
    return {"damage": name, "wrong": 256 - reading.right, "log10_p": reading.log10_p}


def stages(options: argparse.Namespace) -> dict[str, Callable[[], Rows]]:
    """Name everything that is measured, in order."""
    opened = cache(partial(open_subject, data=options.data))
    found: dict[str, Callable[[], Rows]] = {}
    for name in SUBJECTS:
        found[f"{name}, cost"] = lambda name=name: cost(opened(name))
        found[f"{name}, damage"] = lambda name=name: survival(opened(name))
        found[f"{name}, structure"] = lambda name=name: structural(opened(name), decoys=options.decoys)
        found[f"{name}, unrelated"] = lambda name=name: unrelated(opened(name), count=options.unrelated)
        found[f"{name}, wiped"] = lambda name=name: wiped(opened(name))
    if options.mark and options.key:
        found["PTYNet, damage"] = lambda: ptynet(options.mark, options.key)
    found["ResNet20, thief trains"] = lambda: thief(options.data)
    return found


def main() -> int:
    """Measure, keep and print; 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--unrelated", type=int, default=200)
    parser.add_argument("--decoys", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--mark", type=Path)
    parser.add_argument("--key", type=Path)
    parser.add_argument("--only", default="", help="stages whose names hold this text")
    options = parser.parse_args()
    results: dict[str, Any] = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    for name, measure in stages(options).items():
        if options.only not in name:
            continue
        if name not in results:
            started = time.process_time()
            results[name] = {"rows": measure(), "seconds": round(time.process_time() - started, 1)}
            if options.json:
                options.json.write_text(json.dumps(results, indent=2) + "\n")
        print(f"\n{name} ({results[name]['seconds']} s)")
        for row in results[name]["rows"]:
            print("  " + _line(row), flush=True)
    if options.plot:
        _plot(results, options.plot)
    broken = [f"{name}: {what}" for name, entry in results.items() for what in _broken(entry["rows"])]
    print("\n" + (f"broken: {'; '.join(broken)}" if broken else "every promise kept"))
    return int(bool(broken))


def _broken(rows: Rows) -> list[str]:
    """Name the promises that rows of one stage break."""
    found = [row["damage"] for row in rows if row.get("wrong", 0) > MOST_WRONG.get(row.get("damage", ""), 256)]
    found += [row["damage"] for row in rows if row.get("damage") == "prune 90%" and row["log10_p"] > -9]
    return found + ["an unrelated network is claimed" for row in rows if row.get("claimed", 0)]


def _line(row: dict[str, Any]) -> str:
    if "wrong" not in row:
        return ", ".join(f"{name} {_plain(value)}" for name, value in row.items())
    text = f"{row['damage']:<54} {row['wrong']:>3} of 256 wrong, p = 10^{row['log10_p']:6.1f}"
    if "raw_wrong" in row:
        text += f"  raw {row['raw_wrong']} wrong; cosine {row['cosine']:.2f}"
        text += f", p by decoys {row['decoy_p']:.1e}, best {row['decoy_best']}"
    return text + (f"  accuracy {row['accuracy']:.3f}" if "accuracy" in row else "")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['before']:.4f} {value['change']:+.4f} +- {value['error']:.4f} ({value['pictures']} pictures)"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _plot(results: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    found = {name.split(",")[0]: entry["rows"] for name, entry in results.items() if name.endswith(", damage")}
    rows = [row["damage"] for row in next(iter(found.values()))]
    figure, axis = plt.subplots(figsize=(7.5, 9.5))
    height = 0.8 / len(found)
    for index, (name, entries) in enumerate(found.items()):
        places: NDArray[np.float64] = np.arange(len(rows)) + (index - (len(found) - 1) / 2) * height
        axis.barh(places, [-row["log10_p"] for row in entries], height, color=COLORS[index], label=name)
        for place, row in zip(places, entries, strict=True):
            if row["wrong"]:
                axis.text(-row["log10_p"] + 0.7, place, f"{row['wrong']} wrong", va="center", fontsize=6)
    axis.axvline(9, color="black", linewidth=1, linestyle="--", label="p = 1e-9")
    axis.set(yticks=range(len(rows)), yticklabels=rows, xlabel="-log10 p of the 256 bits read back", xlim=(0, 90))
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=5)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    raise SystemExit(main())

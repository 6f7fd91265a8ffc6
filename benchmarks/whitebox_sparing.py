"""What does the faintest mark that still survives cost a real network's accuracy?

The mark of `mark_sparingly`: spread over the layers whose move the answers feel least, margins only as large as each bit needs
to survive pruning of 65 and 80 %, 4 bits and another key's mark. Moments and gains are measured on the pictures the network is
shown; accuracy on all others. Then what is left after every damage of `whitebox_survival`, and after obfuscation and alignment.

    python -m benchmarks.whitebox_sparing [--data DIR] [--only "Tiny Darknet"] [--parts cost,damage,structure]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.whitebox_subjects import KEY, SUBJECTS, Subject, damages, obfuscations, open_subject
from model_store_tools.extraction.gains import layer_gains
from model_store_tools.extraction.moments import layer_moments
from ptynet_plugin.whitebox.alignment import align, neutral
from ptynet_plugin.whitebox.mark import Reading, WeightMark
from ptynet_plugin.whitebox.model import carriers
from ptynet_plugin.whitebox.obfuscation import obfuscate
from ptynet_plugin.whitebox.several import read_jointly
from ptynet_plugin.whitebox.sparing import mark_sparingly

Weights = dict[str, NDArray[Any]]
PROBED = 24
"""Pictures the gains are measured on, of those the network is shown."""


def marked_sparingly(subject: Subject) -> tuple[Weights, WeightMark]:
    """Mark a network; no label is looked at."""
    names = _together(subject.weights)
    layers = [layer for layer in subject.layers if layer.name in names]
    spec = subject.spec.model_copy(update={"layout": "NCHW", "dtype": "float32"})
    moments = layer_moments(subject.model, layers, spec, subject.shown)
    gains = layer_gains(subject.model, layers, subject.spec, subject.shown[:PROBED], moments=moments)
    turned = [layer.name for layer in layers if layer.transposed]
    return mark_sparingly(subject.weights, KEY, moments=moments, gains=gains, transposed=turned)


def show_moves(subject: Subject, marked: Weights) -> None:
    """Print which layers carry the mark."""
    for name, value in subject.weights.items():
        moved = float(np.linalg.norm(marked[name] - value) / np.linalg.norm(value))
        if moved:
            print(f"  {name}: {value.size} weights moved by {moved:.1%}", flush=True)


def show_cost(subject: Subject, marked: Weights) -> None:
    """Print the change of accuracy on every test, in points, with its standard error over the same pictures."""
    for test in subject.tests:
        before, after = subject.right({}, test), subject.right(marked, test)
        gained = 100 * (after.astype(float) - before)
        won, lost = int((gained > 0).sum()), int((gained < 0).sum())
        error = gained.std() / np.sqrt(len(gained))
        print(
            f"  {test}: {before.mean():.2%} before, change {gained.mean():+.2f} +- {error:.2f} points "
            f"({won} won, {lost} lost of {len(gained)})",
            flush=True,
        )


def show_damage(marked: Weights, mark: WeightMark) -> None:
    """Print what is read after every damage to every layer."""
    names = _together(marked)
    for name, damage in damages(mark).items():
        _print(name, read_jointly([np.asarray(damage(marked[each]), np.float32) for each in names], mark))


def show_structure(subject: Subject, marked: Weights, mark: WeightMark) -> None:
    """Print what is read after structural obfuscation and alignment with the unmarked original."""
    reference = neutral(subject.layers, mark)
    for name, how in obfuscations().items():
        aligned, _ = align(obfuscate(subject.with_weights(marked), how, seed=5), reference)
        stored = {layer.name: layer.stored() for layer in aligned}
        _print(name, read_jointly([stored[each] for each in _together(stored)], mark))


def _together(weights: Mapping[str, NDArray[Any]]) -> list[str]:
    return [name for name in carriers(weights) if weights[name].ndim > 1]


def _print(name: str, reading: Reading) -> None:
    print(f"  {name:<54} {256 - reading.right:>3} of 256 wrong, p = 10^{reading.log10_p:6.1f}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--only", default="", help="networks whose names hold this text")
    parser.add_argument("--parts", default="cost,damage,structure")
    options = parser.parse_args()
    for name in SUBJECTS:
        if options.only not in name:
            continue
        print(name, flush=True)
        subject = open_subject(name, options.data)
        marked, mark = marked_sparingly(subject)
        show_moves(subject, marked)
        if "cost" in options.parts:
            show_cost(subject, marked)
        if "damage" in options.parts:
            show_damage(marked, mark)
        if "structure" in options.parts:
            show_structure(subject, marked, mark)


if __name__ == "__main__":
    main()

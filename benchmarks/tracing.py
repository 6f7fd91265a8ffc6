"""How many probes name a leaker, how often is an innocent named, and how long does a large registry take?

    python -m benchmarks.tracing [--runs 100] [--false-runs 1000] [--seed 7] [--customers 1000000] [--plot docs/tracing.png]
                                 [--json F]

Pirates combine the words of 1 to 4 copies by seven strategies; bits are read wrongly with 5 %. "needed" is the number of
probes after which, in 95 % of the runs, one of the colluders stands above the threshold: n / eps = 1e9 for comparison with the
literature, and the threshold in use, i (i + 1) t^2 pi^2 / (6 eps), for copy i = 1000 in its first trace at eps = 1e-6.
Innocents: 1,000 beside four colluders, at eps 1e-3. Quick symbols: 12 of them, 1,000 classes, a single leaker among a
million copies at 1e-9, with answers that are wrong or lost.

Exit 1 if more probes than 1.15 times the design's are needed, an innocent is named, 12 quick symbols do not name a leaker who
answers rightly, or weighing all customers takes more than 10 s or 2 GiB.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.codes.decoder import Decoder, log_threshold
from ptynet_plugin.codes.pirates import Strategy, combined
from ptynet_plugin.codes.quick import QuickCode
from ptynet_plugin.codes.tardos import CopyCode
from ptynet_plugin.statistics.eprocess import log_sum

ERROR_RATE = 0.05
LENGTHS = {1: 256, 2: 768, 3: 1536, 4: 3072}
EXPECTED = {1: 88, 2: 330, 3: 776, 4: 1517}
"""Probes needed against the worst strategy, as the design of the code promises."""
TOLERANCE, MOST_SECONDS, MOST_GIB = 1.15, 10.0, 2.0


def needed(coalition: int, strategy: Strategy, runs: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Give the probes after which the first colluder passes both thresholds, shape (runs, 2); inf where none does."""
    limits = (math.log(1e9), float(log_threshold(1000, trace=1, eps=1e-6)))
    found = np.full((runs, 2), np.inf)
    for run in range(runs):
        code = CopyCode(rng.bytes(32), positions=LENGTHS[coalition])
        words = np.unpackbits(code.words(1, coalition), axis=1)
        answers, factors = combined(words, strategy, error_rate=ERROR_RATE, rng=rng), Decoder(code).log_factors
        for word in words:
            paths = np.cumsum(factors[:, code.levels(), word, answers], axis=1)
            evidence = log_sum(paths.T - math.log(len(factors)))
            for column, limit in enumerate(limits):
                above = evidence >= limit
                if above.any():
                    found[run, column] = min(found[run, column], float(above.argmax() + 1))
    return found


def false_accusations(runs: int, innocents: int, eps: float, rng: np.random.Generator) -> dict[str, int]:
    """Count runs in which any innocent is named, four colluders, 512 positions."""
    counts = {}
    for strategy in Strategy:
        named = 0
        for _ in range(runs):
            code = CopyCode(rng.bytes(32))
            words = np.unpackbits(code.words(1, 4), axis=1)
            answers = combined(words, strategy, error_rate=ERROR_RATE, rng=rng)
            decoder = Decoder(code)
            evidence = decoder.log_evidence_of_all(innocents + 4, answers)
            named += any(copy > 4 for copy in decoder.accused(evidence, trace=1, eps=eps))
        counts[strategy.value] = named
    return counts


def quick_queries(wrong: float, runs: int, rng: np.random.Generator) -> tuple[float, float]:
    """Give the share of leakers that 12 quick symbols name, and the questions asked until then in 95 % of these."""
    limit = float(log_threshold(1_000_000, trace=1, eps=1e-9)) + math.log(2.0)  # the average with the pairs' evidence
    found = []
    for _ in range(runs):
        code, copy = QuickCode(rng.bytes(32), symbols=12, classes=1000), 1_000_000
        labels = code.labels(copy, 1)[0]
        answers = np.where(rng.random(12) < wrong, (labels + 1) % 1000, labels)
        evidence = [code.log_evidence(copy, 1, answers[:asked])[0] for asked in range(1, 13)]
        above = np.flatnonzero(np.array(evidence) >= limit)
        found.append(float(above[0] + 1) if len(above) else math.inf)
    named = np.isfinite(found)
    return float(named.mean()), float(
        np.quantile(np.array(found)[named], 0.95, method="higher")
    ) if named.any() else 0.0


def draw(path: Path, tables: dict[int, dict[str, NDArray[np.float64]]]) -> None:
    """Plot the share of runs in which a colluder is named, over the number of probes, per coalition: the worst strategy."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.2), constrained_layout=True)
    for colour, (size, found) in zip(("#1f5fae", "#1c7c3c", "#b3800d", "#a3231f"), tables.items(), strict=False):
        worst = max(found, key=lambda name: np.quantile(found[name][:, 1], 0.95, method="higher"))
        probes = np.sort(found[worst][:, 1])
        axes.step(
            probes, np.arange(1, len(probes) + 1) / len(probes), where="post", color=colour, label=f"{size} ({worst})"
        )
    axes.axhline(0.95, color="#8a93a3", linewidth=0.8, linestyle="--")
    axes.set(xlabel="probes asked", ylabel="share of runs in which a colluder is named", ylim=(0, 1.02), xlim=(0, None))
    axes.legend(title="colluders (worst strategy)", frameon=False)
    axes.grid(alpha=0.25)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def main() -> int:
    """Print the tables; 1 where a limit is missed."""
    given = _arguments()
    rng = np.random.default_rng(given.seed)
    tables = {coalition: _table(coalition, given.runs, rng) for coalition in LENGTHS}
    worst = {str(coalition): _worst(found) for coalition, found in tables.items()}
    if given.plot is not None:
        draw(given.plot, tables)
    print("\nruns in which an innocent of 1000 was named at eps 1e-3, four colluders, 512 positions", flush=True)
    innocents = false_accusations(given.false_runs, 1000, 1e-3, rng)
    print(innocents, f"of {given.false_runs} each")
    print(
        "\n12 quick symbols, 1000 classes, copy 1,000,000 at 1e-9: share named, questions in 95 % of these", flush=True
    )
    quick = {f"{wrong:.0%}": quick_queries(wrong, 400, rng) for wrong in (0.0, 0.05, 0.15)}
    for wrong, (share, asked) in quick.items():
        print(f"{wrong:>4} of the answers wrong: {share:6.1%}, {asked:.0f}")
    seconds, busy, memory = weighing(given.customers, rng)
    print(f"\n{given.customers} customers x 1024 probes: {seconds:.1f} s, {busy:.1f} s of processor, {memory:.2f} GiB")
    kept = {
        "probes needed": all(worst[str(size)][0] <= TOLERANCE * most for size, most in EXPECTED.items()),
        "innocents": not any(innocents.values()),
        "quick symbols": quick["0%"][0] == 1.0,
        "weighing": seconds <= MOST_SECONDS and memory <= MOST_GIB,
    }
    missed = [name for name, each in kept.items() if not each]
    print(f"missed: {', '.join(missed)}" if missed else "every limit kept")
    if given.json is not None:
        found = {"needed": worst, "innocents": innocents, "quick": quick, "seconds": seconds, "processor": busy}
        given.json.write_text(json.dumps({**found, "gib": memory, "missed": missed}, indent=1) + "\n")
    return int(bool(missed))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--false-runs", type=int, default=1000)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _table(coalition: int, runs: int, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Print the lines of one coalition; give what `needed` gave, by strategy."""
    if coalition == min(LENGTHS):
        print(f"{'colluders':>9} {'strategy':>12} {'median':>7} {'needed':>7} {'in use':>7}")
    table = {}
    for strategy in Strategy if coalition > 1 else [Strategy.COIN]:
        found = table[strategy.value] = needed(coalition, strategy, runs, rng)
        high = np.quantile(found, 0.95, axis=0, method="higher")
        print(f"{coalition:>9} {strategy.value:>12} {np.median(found[:, 0]):>7.0f} {high[0]:>7.0f} {high[1]:>7.0f}")
    plain, in_use = _worst(table)
    promised = f"expected {EXPECTED[coalition]} ({plain / EXPECTED[coalition] - 1:+.0%})"
    print(f"{coalition:>9} {'worst':>12} {'':>7} {plain:>7.0f} {in_use:>7.0f}   {promised}", flush=True)
    return table


def _worst(table: dict[str, NDArray[np.float64]]) -> list[float]:
    """Give the probes that suffice in 95 % of the runs against the worst strategy, for both thresholds."""
    high = [np.quantile(found, 0.95, axis=0, method="higher") for found in table.values()]
    return [float(each) for each in np.max(high, axis=0)]


def weighing(customers: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Weigh all customers against 1,024 answers; give seconds, those of the processor, and the most memory in GiB."""
    code = CopyCode(rng.bytes(32), positions=1024)
    answers = code.word(customers // 2).astype(np.int8)
    began, busy = time.perf_counter(), time.process_time()
    decoder = Decoder(code)
    named = decoder.accused(decoder.log_evidence_of_all(customers, answers, workers=2), trace=1, eps=1e-9)
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    if list(named) != [customers // 2]:
        raise AssertionError(f"named {list(named)} in place of {customers // 2}")
    return seconds, busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    sys.exit(main())

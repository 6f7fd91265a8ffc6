"""How many probes name a leaker, how often is an innocent named, and how long does a large registry take?

    python -m benchmarks.tracing [--runs 100] [--seed 7] [--customers 1000000]

Pirates combine the words of 1 to 4 copies by seven strategies; bits are read wrongly with 5 %. "needed" is the number of
probes after which, in 95 % of the runs, one of the colluders stands above the threshold: n / eps = 1e9 for comparison with the
literature, and the threshold in use, i (i + 1) t^2 pi^2 / (6 eps), for copy i = 1000 in its first trace at eps = 1e-6.
"""

from __future__ import annotations

import argparse
import math
import resource
import time

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.codes.decoder import Decoder, log_threshold
from ptynet_plugin.codes.pirates import Strategy, answer_rates
from ptynet_plugin.codes.tardos import CopyCode
from ptynet_plugin.statistics.eprocess import log_sum

ERROR_RATE = 0.05
LENGTHS = {1: 256, 2: 768, 3: 1536, 4: 3072}
EXPECTED = {1: 88, 2: 330, 3: 776, 4: 1517}
"""Probes needed against the worst strategy, as the design of the code promises."""


def pirate(words: NDArray[np.uint8], strategy: Strategy, rng: np.random.Generator) -> NDArray[np.int8]:
    """Answer every position as this coalition would, words of shape (colluders, positions)."""
    size, ones = len(words), words.sum(axis=0, dtype=np.int64)
    rates = np.array([answer_rates(strategy, count, size) for count in range(size + 1)])[ones]
    answers = (rng.random((len(ones), 1)) > rates.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    wrong = (rng.random(len(ones)) < ERROR_RATE) & (answers < 2)
    return np.where(wrong, 1 - answers, answers).astype(np.int8)


def needed(coalition: int, strategy: Strategy, runs: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Give the probes after which the first colluder passes both thresholds, shape (runs, 2); inf where none does."""
    limits = (math.log(1e9), float(log_threshold(1000, trace=1, eps=1e-6)))
    found = np.full((runs, 2), np.inf)
    for run in range(runs):
        code = CopyCode(rng.bytes(32), positions=LENGTHS[coalition])
        words = np.unpackbits(code.words(1, coalition), axis=1)
        answers, factors = pirate(words, strategy, rng), Decoder(code).log_factors
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
            answers = pirate(np.unpackbits(code.words(1, 4), axis=1), strategy, rng)
            decoder = Decoder(code)
            evidence = decoder.log_evidence_of_all(innocents + 4, answers)
            named += any(copy > 4 for copy in decoder.accused(evidence, trace=1, eps=eps))
        counts[strategy.value] = named
    return counts


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--customers", type=int, default=1_000_000)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    print(f"{'colluders':>9} {'strategy':>12} {'median':>7} {'needed':>7} {'in use':>7}")
    for coalition in LENGTHS:
        worst = np.zeros(2)
        for strategy in Strategy if coalition > 1 else [Strategy.COIN]:
            found = needed(coalition, strategy, given.runs, rng)
            high = np.quantile(found, 0.95, axis=0, method="higher")
            worst = np.maximum(worst, high)
            print(f"{coalition:>9} {strategy.value:>12} {np.median(found[:, 0]):>7.0f} {high[0]:>7.0f} {high[1]:>7.0f}")
        promised = f"expected {EXPECTED[coalition]} ({worst[0] / EXPECTED[coalition] - 1:+.0%})"
        print(f"{coalition:>9} {'worst':>12} {'':>7} {worst[0]:>7.0f} {worst[1]:>7.0f}   {promised}")
    print("\nruns in which an innocent of 1000 was named at eps 1e-3, four colluders, 512 positions")
    print(false_accusations(given.runs, 1000, 1e-3, rng), f"of {given.runs} each")
    code = CopyCode(rng.bytes(32), positions=1024)
    answers = code.word(given.customers // 2).astype(np.int8)
    began, busy = time.perf_counter(), time.process_time()
    decoder = Decoder(code)
    named = decoder.accused(decoder.log_evidence_of_all(given.customers, answers, workers=2), trace=1, eps=1e-9)
    seconds, memory = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    busy = time.process_time() - busy
    print(f"\n{given.customers} customers x 1024 probes: {seconds:.1f} s, {busy:.1f} s of processor, {memory:.2f} GiB")
    print(f"named {named}")


if __name__ == "__main__":
    main()

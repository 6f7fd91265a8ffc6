"""How many queries does a verdict need?

For an endpoint that answers probes with the keyed label at some rate (the rest by chance): queries until the mark is shown at
1e-9, decided on the raw p-value as `ptynet verify` does in the first test of a claim, and until the p-value adjusted for
2^20, 2^40 and 2^64 tried keys reaches 1e-9. For an endpoint that knows nothing of the key: queries until "not-shown", and how
often it is shown all the same.

    python -m benchmarks.queries [--runs 400] [--seed 1]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.statistics.decision import SequentialTest, adjust_log10_p, alpha_of_test
from ptynet_plugin.statistics.eprocess import EProcess

ALPHA, LOG10_ALPHA = 1e-9, -9.0
BUDGET = 200
CLASSES = (10, 100, 1000)
RATES = (1.0, 0.99, 0.95, 0.9, 0.8, 0.5, 0.2)
ALLOWANCES = (20, 40, 64)
LIMITS = {(10, "raw"): 15, (10, 40): 30, (1000, "raw"): 5, (1000, 40): 10}
"""Most queries of an endpoint that always answers with the label, by (classes, column)."""


def main() -> int:
    """Print both tables; 1 if a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    print(
        f"queries until shown at {ALPHA:g}, median (95 %) of {args.runs} runs, budget {BUDGET}; - where fewer than half are\n"
    )
    print(
        f"{'classes':>7} {'label rate':>10} {'verify, raw':>15}"
        + "".join(f"{f'adjusted 2^{bits}':>17}" for bits in ALLOWANCES)
    )
    within = True
    for classes in CLASSES:
        for rate in RATES:
            needed = dict(_marked(classes, rate, args.runs, rng))
            print(
                f"{classes:>7} {rate:>10.0%} {_told(needed['raw']):>15}"
                + "".join(f"{_told(needed[bits]):>17}" for bits in ALLOWANCES)
            )
            if rate == 1.0:
                within &= all(np.median(needed[column]) <= most for (c, column), most in LIMITS.items() if c == classes)
    print("\nan endpoint that knows nothing of the key, budget 200\n")
    print(f"{'classes':>7} {'not-shown after':>16} {'not-shown':>10} {'inconclusive':>13} {'shown':>6}")
    for classes in CLASSES:
        ends = [_run(lambda test, c=classes: rng.random() < 1.0 / c, classes) for _ in range(args.runs)]
        share = {
            verdict: np.mean([end[0] == verdict for end in ends]) for verdict in ("not-shown", "inconclusive", "shown")
        }
        asked = _told(np.array([float(end[1]) for end in ends]))
        print(
            f"{classes:>7} {asked:>16} {share['not-shown']:>10.1%} {share['inconclusive']:>13.1%} {share['shown']:>6.1%}"
        )
    print("\nwithin the limits" if within else f"\nabove a limit of {LIMITS}")
    return 0 if within else 1


def _marked(
    classes: int, rate: float, runs: int, rng: np.random.Generator
) -> Iterator[tuple[object, NDArray[np.float64]]]:
    """Give per column the queries each run needed, infinite where the budget did not do."""
    hit_rate = rate + (1.0 - rate) / classes
    streams = rng.random((runs, BUDGET)) < hit_rate
    yield "raw", np.array([_asked_until_shown(stream, classes) for stream in streams])
    logs = np.array([_log10_p(stream, classes) for stream in streams])
    for bits in ALLOWANCES:
        reached = np.vectorize(lambda p, bits=bits: adjust_log10_p(p, bits))(logs) <= LOG10_ALPHA
        yield bits, np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, np.inf)


def _asked_until_shown(stream: NDArray[np.bool_], classes: int) -> float:
    verdict, asked = _run(lambda test: bool(stream[test.asked]), classes)
    return float(asked) if verdict == "shown" else np.inf


def _run(hit: Callable[[SequentialTest], bool], classes: int) -> tuple[str | None, int]:
    test = SequentialTest(1.0 / classes, alpha=alpha_of_test(ALPHA, 1), budget=BUDGET)
    while test.verdict is None:
        test.observe(hit(test))
    return test.verdict, test.asked


def _log10_p(stream: NDArray[np.bool_], classes: int) -> list[float]:
    process = EProcess(1.0 / classes)
    return [process.update(bool(hit)).log10_p for hit in stream]


def _told(needed: NDArray[np.float64]) -> str:
    if np.isfinite(needed).mean() < 0.5:
        return "-"
    median, high = np.quantile(needed, [0.5, 0.95], method="higher")
    return f"{median:.0f} ({high:.0f})" if np.isfinite(high) else f"{median:.0f} (-)"


if __name__ == "__main__":
    raise SystemExit(main())

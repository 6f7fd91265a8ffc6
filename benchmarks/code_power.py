"""How likely is a coalition to be traced with a code of a given length? The table that a copy's certificate prints.

    python -m benchmarks.code_power [--runs 200] [--seed 7] [--json F]

For every number of colluders and every length: the share of runs in which one of the colluders stands above the threshold in use
for copy number 1000 in the first trace at eps = 1e-6, against the worst of seven strategies, when bits are read wrongly with 5 %.
The code's biases are made for four colluders.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.tracing import LENGTHS, needed
from ptynet_plugin.codes.pirates import Strategy

POSITIONS = (128, 256, 304, 384, 512, 768, 1024, 1536, 2048)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    print(f"{'colluders':>9} {'95 % at':>8}" + "".join(f" {positions:>6}" for positions in POSITIONS))
    table = {}
    for coalition in LENGTHS:
        strategies = list(Strategy) if coalition > 1 else [Strategy.COIN]
        found = np.stack([needed(coalition, strategy, given.runs, rng)[:, 1] for strategy in strategies])
        longest = np.quantile(found, 0.95, axis=1, method="higher").max()
        power = [(found <= positions).mean(axis=1) for positions in POSITIONS]
        worst = [float(each.min()) for each in power]
        print(f"{coalition:>9} {longest:>8.0f}" + "".join(f" {each:>6.2f}" for each in worst), flush=True)
        table[str(coalition)] = {"longest": float(longest), "power": dict(zip(map(str, POSITIONS), worst, strict=True))}
    if given.json is not None:
        given.json.write_text(json.dumps(table, indent=1).replace("Infinity", "null") + "\n")


if __name__ == "__main__":
    main()

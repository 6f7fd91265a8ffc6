"""How long does training a mark take, and how much memory?

    python -m benchmarks.train_mark [--color RGB] [--symbols 512] [--json F]

Trains in a process of its own and reports wall time, processor time and the highest resident memory. Judge by processor time
on a machine that is busy otherwise. Exit 1 above 120 s by the clock or 1.5 GB.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

MOST_SECONDS, MOST_MEGABYTES = 120.0, 1500.0


def measured(color: str, symbols: int) -> dict[str, float]:
    """Train one mark in this process."""
    from model_store_tools.training import train_mark
    from ptynet_plugin.keys import OwnerKey
    from ptynet_plugin.network.cost import flops, parameters

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        trained = train_mark(OwnerKey(bytes(range(32))), Path(folder) / "MARK", color=color, symbols=symbols)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "wall_seconds": time.monotonic() - started,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_megabytes": used.ru_maxrss / 1024,
        "recognised": trained.recognised,
        "parameters": parameters(trained.network),
        "megaflop": flops(trained.network) / 1e6,
        "tau": trained.network.tau,
    }


def main() -> int:
    """Print what training took; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--color", choices=["RGB", "GRAY"], default="RGB")
    parser.add_argument("--symbols", type=int, default=512)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result = pool.apply(measured, (given.color, given.symbols))
    for name, value in result.items():
        print(f"{name:16s} {value:12.4g}")
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")
    kept = result["wall_seconds"] <= MOST_SECONDS and result["peak_megabytes"] <= MOST_MEGABYTES
    print(f"limits: {MOST_SECONDS:.0f} s by the clock, {MOST_MEGABYTES:.0f} MB; {'kept' if kept else 'MISSED'}")
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())

"""Does a mark fire on probes of other keys?

    python -m benchmarks.foreign_keys MARK [--keys 25] [--probes 2048] [--symbols 512 4096] [--json F]

Other keys make real probes of the same design; the mark listens with the code book it would have for each number of symbols.
The network itself does not depend on the number of symbols. Exit 1 above one fire in 100,000 probes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path

from benchmarks.hearing import Listener, open_mark
from ptynet_plugin.images.probes import ProbeMaker
from ptynet_plugin.statistics.binomial import upper_limit
from ptynet_plugin.symbols.codebook import code_words
from ptynet_plugin.symbols.threshold import decisive_tau

MOST = 1e-5


def main() -> int:
    """Count fires for each number of symbols; 1 above the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mark", type=Path)
    parser.add_argument("--keys", type=int, default=25)
    parser.add_argument("--probes", type=int, default=2048, help="probes of each key")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--symbols", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    listener, metadata, secret = open_mark(given.mark)
    size, rows = (given.side, given.side), []
    for symbols in given.symbols:
        design = replace(metadata.design, symbols=symbols)
        book = code_words(secret, symbols=symbols, bits=design.bits)
        tau = decisive_tau(book)
        wide = Listener(replace(listener.network, codebook=book, tau=tau))
        fires, highest = 0, 0.0
        for index in range(given.keys):
            maker = ProbeMaker(hashlib.sha256(b"foreign key %d" % index).digest(), design)
            heard = wide.hear(maker.probe(i % symbols, i // symbols, size) for i in range(given.probes))
            fires, highest = fires + heard.fires, max(highest, float(heard.best.max()))
        asked = given.keys * given.probes
        bound = upper_limit(fires, asked, confidence=0.95)
        rows.append({"symbols": symbols, "probes": asked, "fires": fires, "best": highest, "tau": tau, "bound": bound})
        print(f"J = {symbols}: {asked} probes of {given.keys} keys, {fires} fires, highest {highest:.3f}, tau {tau}")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n")
    return int(any(int(row["fires"]) > MOST * int(row["probes"]) for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())

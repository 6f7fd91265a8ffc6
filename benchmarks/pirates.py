"""Are the leakers of real copies named, over the network, and after how many probes?

    python -m benchmarks.pirates --mark MARK --key OWNER.key [--coalitions 1,2,3] [--strategies A,B] [--json F]

Copies of a CIFAR-10 ResNet20 are issued; 2, 3 and 4 of them stand behind one HTTP server (Open Inference Protocol) that
answers as a coalition would, or are averaged tensor by tensor. Every position is read once over the network.
1,000 copies are weighed, those who leaked carry the highest numbers, the level is 1e-6. "needed" is the number of probes after
which a colluder is named in 95 % of 200 orders: as read, and with 5 % of the bits turned wrong, which is what the design's
figures assume; they count n / eps = 1e9, the thresholds in use grow with the copy's number, so both are given.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_store_tools.audit.hostile import Hostile, serve, stolen_model
from model_store_tools.audit.hostile.coalition import STRATEGIES, averaged_model, colluding
from model_store_tools.packaging.copies import CopyPackager, CopyWishes
from model_store_tools.packaging.options import Options
from ptynet_plugin.claims.copies import CopyTables
from ptynet_plugin.claims.ledger import Ledger
from ptynet_plugin.codes.decoder import ERASED, Decoder, log_threshold
from ptynet_plugin.keyfile import read_key
from ptynet_plugin.statistics.eprocess import log_sum
from ptynet_plugin.symbols.codebook import code_words
from ptynet_plugin.tracing.result import TraceResult
from ptynet_plugin.tracing.table import find_table, read_constants
from ptynet_plugin.tracing.trace import trace_endpoint
from ptynet_plugin.tracing.whitebox import read_table
from ptynet_plugin.verification.opening import open_endpoint
from ptynet_plugin.verification.questions import Questions

SPEC = 'color = "RGB"\nmean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\noutput = "logits"\n'
CUSTOMERS, FWER, ORDERS, ERRORS = 1000, 1e-6, 200, 0.05
TENSORS = "tensors"
PROMISED = {1: 88, 2: 330, 3: 776, 4: 1517}


@dataclass(frozen=True)
class Bench:
    """Everything the traces share."""

    folder: Path
    key: Path
    tables: CopyTables
    archives: dict[int, Path]

    @property
    def questions(self) -> Questions:
        """Of the key under the claim."""
        return Questions(self.tables.claim, read_key(self.key))


def issue(given: argparse.Namespace, folder: Path, most: int) -> Bench:
    """Issue the copies with the highest numbers."""
    (folder / "SPEC.toml").write_text(SPEC)
    target = given.data / "models" / "converted" / "cifar10_resnet20.onnx"
    options = Options(mark=given.mark, spec=folder / "SPEC.toml", format="triton", out=folder / "out", gate="digest")
    archives = {}
    with CopyPackager(target, options, wishes=CopyWishes(quick=0)) as packager:
        for number in range(CUSTOMERS, CUSTOMERS - most, -1):
            archives[number] = packager.pack(number, f"copy-{number}").path
        return Bench(folder, given.key, packager.tables, archives)


def read(bench: Bench, address: str) -> TraceResult:
    """Trace an address, reading every position once."""
    claim, folder = bench.tables.claim, Path(tempfile.mkdtemp(dir=bench.folder))
    with open_endpoint(address, spec=claim.terms.spec) as endpoint, Ledger(folder, digest=claim.digest) as ledger:
        return trace_endpoint(
            endpoint,
            bench.questions,
            bench.tables,
            copies=CUSTOMERS,
            trace=1,
            ledger=ledger,
            fwer=FWER,
            to_the_end=True,
        )


def needed(
    tables: CopyTables, bits: NDArray[np.int8], colluders: list[int], *, errors: float, limit: float | None
) -> float:
    """Give the probes after which some colluder is named in 95 % of the orders; inf where in fewer."""
    rng, decoder, found = np.random.default_rng(0), Decoder(tables.code), []
    levels, factors = tables.code.levels(), decoder.log_factors
    for _ in range(ORDERS):
        wrong = (rng.random(len(bits)) < errors) & (bits != ERASED)
        answers, order = np.where(wrong, 1 - bits, bits), rng.permutation(len(bits))
        first = math.inf
        for copy in colluders:
            word = tables.code.word(copy)
            paths = np.cumsum(factors[:, levels, word, answers][:, order], axis=1)
            evidence = log_sum(paths.T - math.log(len(factors)))
            above = evidence >= (float(log_threshold(copy, trace=1, eps=FWER)) if limit is None else limit)
            first = min(first, float(above.argmax() + 1) if above.any() else math.inf)
        found.append(first)
    return float(np.quantile(found, 0.95, method="higher"))


def row(bench: Bench, name: str, colluders: list[int], result: TraceResult, seconds: float) -> dict[str, object]:
    """Print and give one row."""
    named = [copy for copy in result.accused if copy in colluders]
    innocent = [copy for copy in result.accused if copy not in colluders]
    read_ = [math.log(1e9), None]
    counts = [needed(bench.tables, result.bits, colluders, errors=e, limit=x) for e in (0.0, ERRORS) for x in read_]
    values: dict[str, object] = {
        "coalition": len(colluders),
        "strategy": name,
        "named": named,
        "innocents named": innocent,
        "erased": int((result.bits == ERASED).sum()),
        "positions": len(result.bits),
        "needed, as read, n/eps": counts[0],
        "needed, as read, in use": counts[1],
        "needed, 5 % errors, n/eps": counts[2],
        "needed, 5 % errors, in use": counts[3],
        "seconds": round(seconds, 1),
    }
    told = f"named {len(named)} of {len(colluders)}, innocents {len(innocent)}; erased {values['erased']:>4}"
    shown = f"needed {counts[0]:>5.0f} {counts[1]:>5.0f} | 5 % errors {counts[2]:>5.0f} {counts[3]:>5.0f}"
    print(
        f"{len(colluders):>2} {name:<15} {told}; {shown} (design {PROMISED[len(colluders)]}); {seconds:.0f} s",
        flush=True,
    )
    return values


def main() -> None:
    """Print a row per coalition and strategy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mark", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--coalitions", default="1,2,3")
    parser.add_argument("--strategies", default=",".join((*STRATEGIES, TENSORS)))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    wanted = given.strategies.split(",")
    sizes, rows = [int(size) for size in given.coalitions.split(",")], []
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        bench = issue(given, Path(scratch), max(sizes))
        spec = bench.tables.claim.terms.spec
        asks = {n: stack.enter_context(stolen_model(path, spec)) for n, path in bench.archives.items()}
        print(f"{len(bench.tables.claim.terms.pairs)} positions, {CUSTOMERS} customers, level {FWER:g}")
        for size in sizes:
            colluders = sorted(bench.archives)[-size:]
            for strategy in [name for name in STRATEGIES if name in wanted] if size > 1 else ["majority"]:
                began = time.perf_counter()
                ask = colluding([asks[copy] for copy in colluders], strategy)
                with serve(Hostile(strategy, "mixing", ask), spec) as address:
                    result = read(bench, address)
                rows.append(
                    row(bench, strategy if size > 1 else "alone", colluders, result, time.perf_counter() - began)
                )
            if size > 1 and TENSORS in wanted:
                rows.append(averaged(bench, colluders))
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


def averaged(bench: Bench, colluders: list[int]) -> dict[str, object]:
    """Average the archives' tensors, serve the result, trace it, and read its table."""
    began, spec = time.perf_counter(), bench.tables.claim.terms.spec
    path = bench.folder / f"averaged-{len(colluders)}.onnx"
    averaged_model([bench.archives[copy] / "1" / "model.onnx" for copy in colluders], path)
    with stolen_model(path, spec) as ask, serve(Hostile(TENSORS, "mixing", ask), spec) as address:
        values = row(bench, TENSORS, colluders, read(bench, address), time.perf_counter() - began)
    design = bench.tables.claim.design
    words = code_words(read_key(bench.key).probe_secret(), symbols=design.symbols, bits=design.bits)
    found = find_table(read_constants(path), words)
    assert found is not None
    reading = read_table(found, bench.tables, copies=CUSTOMERS, trace=1, fwer=FWER, coalition=4)
    print(f"   table of the averaged tensors, read without asking: names {list(reading.accused)}")
    return {**values, "white-box": list(reading.accused)}


if __name__ == "__main__":
    main()

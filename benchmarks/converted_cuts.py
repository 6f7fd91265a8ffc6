"""Does a conversion save the branch from being cut? Conversions, then the mark; then the cut, and the mark again.

    python -m benchmarks.converted_cuts --mark MARK --key OWNER.key [--data ../shared/data] [--target resnet20]

Seconds are the processor's, of all attacks of the row; accuracy is after the last of them, on 200 pictures.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

from benchmarks.attacks import FILES, packaged_target, shares_of
from model_store_tools.audit.attacks import ALL
from model_store_tools.audit.contract import Artefact, Share
from model_store_tools.audit.engines import agreement
from model_store_tools.audit.rehearsal import Rehearsal
from model_store_tools.audit.subjects import open_stolen
from ptynet_plugin.claims.directory import read_claim
from ptynet_plugin.keyfile import read_key

CUT = "cut branch"
OPTIMISED, QUANTISED = "onnxruntime optimiser, basic", "int8, static QDQ"
CHAINS = (
    (),
    ("fp16",),
    ("to opset 21",),
    ("onnxruntime optimiser, extended",),
    ("onnxruntime optimiser, all",),
    ("int8, dynamic",),
    (QUANTISED,),
    ("int8, static QOperator, per channel",),
    ("int8, static QDQ, then optimiser",),
    (OPTIMISED, "fp16"),
    (OPTIMISED, "int8, dynamic"),
    (OPTIMISED, QUANTISED),
    ("dead-node elimination", OPTIMISED, QUANTISED, "onnxruntime optimiser, all"),
    ("onnxruntime optimiser, extended", QUANTISED),
    ("ONNX -> TorchScript",),
)


def main() -> None:
    """Print a row for each chain, uncut and cut."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mark", type=Path, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--target", choices=sorted(FILES), default="resnet20")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # tracers advise at length
    print("| converted | accuracy | verdict | seconds | cut: accuracy | verdict | seconds |\n" + "|---" * 7 + "|")
    with tempfile.TemporaryDirectory(prefix="ptynet-cuts-") as scratch:
        folder = Path(scratch)
        packaged = packaged_target(given.target, given.data, given.mark, folder)
        stolen = open_stolen(packaged.path, folder)
        rehearsal = Rehearsal(read_claim(packaged.claim), read_key(given.key))
        shares = shares_of(given.target, given.data, thief=64, held_out=200)
        for number, chain in enumerate(CHAINS):
            cells = []
            for names in (chain, (*chain, CUT)):
                started = time.process_time()
                try:
                    made = _after(names, stolen.artefact, shares.thief, folder / f"{number}-{len(names)}")
                except Exception as error:  # noqa: BLE001 -- converters' errors share no base, and are the row
                    cells += ["", f"failed: {type(error).__name__}", ""]
                    continue
                seconds = time.process_time() - started
                accuracy = agreement(made, shares.held_out.pictures, shares.held_out.labels)
                result = rehearsal.verify(made)
                cells += [f"{accuracy:.1%}", f"{result.verdict}, {result.queries}", f"{seconds:.2f}"]
            print(f"| {', then '.join(chain) or 'as it is'} | {' | '.join(cells)} |", flush=True)


def _after(names: tuple[str, ...], artefact: Artefact, thief: Share, folder: Path) -> Artefact:
    attacks = {attack.name: attack for attack in ALL}
    for number, name in enumerate(names):
        place = folder / str(number)
        place.mkdir(parents=True)
        artefact = attacks[name].run(artefact, thief, folder=place, seed=0).artefact
    return artefact


if __name__ == "__main__":
    main()

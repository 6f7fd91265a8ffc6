"""How many of 304 bits come back from an endpoint that answers labels alone?

    python -m benchmarks.readback --mark MARK --key OWNER.key [--data ../shared/data] [--copies 3] [--json F]

Copies of a CIFAR-10 ResNet20 with 304 positions are issued and served over HTTP with nothing but the top class in the answers:
as they are, behind a gateway that compresses every picture as JPEG 50, and converted to fp16 and int8 (onnxruntime's
converters, int8 calibrated on 64 benign pictures). Each position is asked once. The length is SECUREMARK-DL's.
Exit 1 where fewer than 95 % (theirs) are right, or not all of them
where the copy is served as it was issued.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from benchmarks.pirates import SPEC
from model_store_tools.audit.attacks.conversions import ATTACKS
from model_store_tools.audit.contract import Artefact
from model_store_tools.audit.hostile import Ask, Hostile, serve, stolen_model
from model_store_tools.audit.hostile.inputs import jpeg_gateway
from model_store_tools.audit.shares import shares_from
from model_store_tools.packaging.copies import CopyPackager, CopyWishes
from model_store_tools.packaging.options import Options
from ptynet_plugin.claims.copies import CopyTables
from ptynet_plugin.claims.ledger import Ledger
from ptynet_plugin.keyfile import read_key
from ptynet_plugin.tracing.result import Readback
from ptynet_plugin.tracing.trace import trace_endpoint
from ptynet_plugin.verification.opening import open_endpoint
from ptynet_plugin.verification.questions import Questions

POSITIONS = 304
AS_ISSUED, LEAST = "as issued", 0.95
CONVERSIONS = {attack.name: attack for attack in ATTACKS}


@contextmanager
def suspects(archive: Path, tables: CopyTables, folder: Path) -> Iterator[dict[str, Ask]]:
    """Open one copy in every form."""
    spec = tables.claim.terms.spec
    artefact = Artefact(archive / "1" / "model.onnx", spec)
    thief = shares_from(artefact, None, thief=64, held_out=64, seed=0).thief
    with ExitStack() as stack:
        ask = stack.enter_context(stolen_model(archive, spec))
        made: dict[str, Ask] = {AS_ISSUED: ask, "JPEG 50": jpeg_gateway(ask, quality=50)}
        for name in ("fp16", "int8, dynamic", "int8, static QDQ"):
            where = folder / name.replace(", ", "-").replace(" ", "-")
            where.mkdir()
            converted = CONVERSIONS[name].run(artefact, thief, folder=where, seed=0).artefact
            made[name] = stack.enter_context(stolen_model(converted.model, spec))
        made["int8 behind JPEG 50"] = jpeg_gateway(made["int8, static QDQ"], quality=50)
        yield made


def read_back(ask: Ask, tables: CopyTables, key: Path, folder: Path, *, copy: int, copies: int) -> Readback:
    """Read every position once, from labels alone, over HTTP."""
    claim = tables.claim
    questions, ledgers = Questions(claim, read_key(key)), Path(tempfile.mkdtemp(dir=folder))
    hostile = Hostile("labels alone", "answers", ask, labels_only=True)
    with (
        serve(hostile, claim.terms.spec) as address,
        open_endpoint(address, spec=claim.terms.spec) as endpoint,
        Ledger(ledgers, digest=claim.digest) as ledger,
    ):
        result = trace_endpoint(endpoint, questions, tables, copies=copies, trace=1, ledger=ledger, to_the_end=True)
    assert result.answers == "labels", result.answers
    return Readback.of(copy, tables.code.word(copy), result.bits)


def main() -> int:
    """Print a row per form; 1 where too few are right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mark", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    target = given.data / "models" / "converted" / "cifar10_resnet20.onnx"
    with tempfile.TemporaryDirectory() as scratch:
        folder, found = Path(scratch), dict[str, list[Readback]]()
        (folder / "SPEC.toml").write_text(SPEC)
        options = Options(
            mark=given.mark, spec=folder / "SPEC.toml", format="triton", out=folder / "out", gate="digest"
        )
        with CopyPackager(target, options, wishes=CopyWishes(positions=POSITIONS, quick=0)) as packager:
            for copy in range(1, given.copies + 1):
                archive, here = packager.pack(copy, f"copy-{copy}").path, folder / str(copy)
                here.mkdir()
                with suspects(archive, packager.tables, here) as asks:
                    for name, ask in asks.items():
                        read = read_back(ask, packager.tables, given.key, here, copy=copy, copies=given.copies)
                        found.setdefault(name, []).append(read)
    print(f"{POSITIONS} bits, {given.copies} copies, labels alone over HTTP; right / wrong / erased per copy")
    shares = {name: float(np.mean([read.right / POSITIONS for read in reads])) for name, reads in found.items()}
    for name, reads in found.items():
        counts = ", ".join(f"{read.right}/{read.wrong}/{read.erased}" for read in reads)
        print(f"{name:<22} {shares[name]:7.2%} right   {counts}", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps({"positions": POSITIONS, "right": shares}, indent=1) + "\n")
    return int(any(share < (1.0 if name == AS_ISSUED else LEAST) for name, share in shares.items()))


if __name__ == "__main__":
    raise SystemExit(main())

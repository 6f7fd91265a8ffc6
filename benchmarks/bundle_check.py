"""How long does the stand-alone checker take for 200 queries at 224x224?

python -m benchmarks.bundle_check [--queries 200] [--side 224]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ptynet_plugin.claims import Ledger, write_claim
from ptynet_plugin.evidence import check_bundle
from ptynet_plugin.evidence.checking import check_bundle as check_with_library
from ptynet_plugin.evidence.opening import owner_opens
from ptynet_plugin.evidence.writer import BundleWriter
from ptynet_plugin.spec import InputSpec
from tests.support.bundles import SECRET, Suspect, ask, make_questions

LIMITS = {"png": 5.0, "tensor": 60.0}


def main() -> int:
    """Print seconds per form; 1 if a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--side", type=int, default=224)
    given = parser.parse_args()
    size = (given.side, given.side)
    spec = InputSpec(
        color="RGB",
        output="logits",
        classes=10,
        layout="NCHW",
        dtype="float32",
        size=size,
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
    )
    questions = make_questions(spec=spec, symbols=given.queries * 8 // 7 + 8)
    alpha = 10.0 ** (1 - given.queries)  # at ten classes so small that every query is needed
    within = True
    for form, limit in LIMITS.items():
        with tempfile.TemporaryDirectory() as place:
            bundle, claim = Path(place) / "bundle", Path(place) / "claim"
            write_claim(claim, questions.claim)
            writer = BundleWriter(bundle, questions, owner_opens(questions.claim, claim, secret=SECRET))
            with Ledger(claim, digest=questions.claim.digest) as ledger:
                result = ask(writer, Suspect(questions, form=form), ledger, alpha=alpha, budget=given.queries)
            octets = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
            began, spent = time.perf_counter(), _children_seconds()
            done = subprocess.run(
                [sys.executable, "-I", "-S", str(check_bundle.__file__), str(bundle)], capture_output=True, check=False
            )
            alone, busy = time.perf_counter() - began, _children_seconds() - spent
            began = time.perf_counter()
            verdict = check_with_library(bundle).verdict
            ours = time.perf_counter() - began
            print(
                f"{form:>7}: {result.queries} queries, {octets / 2**20:.0f} MiB, stand-alone {alone:.1f} s, "
                f"{busy:.1f} s of them on the processor (limit {limit:.0f}), with the library {ours:.1f} s; "
                f"{verdict}, exit {done.returncode}"
            )
            within &= busy <= limit
    return 0 if within else 1


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    raise SystemExit(main())

"""How long does it take to issue a copy of a 50 MB ONNX model?

    python -m benchmarks.issue_time --mark MARK --key OWNER.key [--megabytes 50]

A random model, a process of its own per command: the first copy commits to a claim, the second finds it; then three customers
in one command, which load the target and pass the full gate once.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import onnx

from benchmarks.package_time import SPEC, model_of


def main() -> None:
    """Issue, print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mark", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--megabytes", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copytree(given.mark, folder / "MARK", ignore=shutil.ignore_patterns("claims"))
        (folder / "SPEC.toml").write_text(SPEC)
        onnx.save(model_of(given.megabytes), folder / "model.onnx")
        for what, customers, gate in (
            ("first copy, --gate digest", ["A"], "digest"),
            ("second copy, --gate digest", ["B"], "digest"),
            ("third copy, full gate", ["C"], "full"),
            ("three copies, full gate", ["D", "E", "F"], "full"),
        ):
            seconds, busy = issue(folder, given.key.resolve(), customers, gate)
            print(
                f"{what:<28} {seconds:5.1f} s by the clock, {busy:5.1f} s of processor (limit: 10 s a copy)", flush=True
            )


def issue(folder: Path, key: Path, customers: list[str], gate: str) -> tuple[float, float]:
    """Give seconds by the clock and of processor time."""
    import resource

    command = [sys.executable, "-m", "model_store_tools.cli.main", "copies", "issue", "model.onnx", "--mark", "MARK"]
    command += ["--key", str(key), "--registry", "sqlite:///copies.db", "--spec", "SPEC.toml", "--format", "triton"]
    command += ["--out", "out", "--gate", gate, *(part for name in customers for part in ("--customer", name))]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()

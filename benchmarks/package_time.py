"""How long does it take to package a 50 MB ONNX model, with and without running the gate?

Packages a random model of 50 MB in a process of its own, three times each, and prints the median by the clock. Exit 1 above
5 s with `--gate digest`.

    python -m benchmarks.package_time --mark MARK [--megabytes 50] [--json F]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROUNDS = 3
MOST_SECONDS = 5.0
SPEC = 'color = "RGB"\noutput = "logits"\n'


def main() -> int:
    """Write the model, package it, print the times; 1 where the limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mark", type=Path, required=True)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--json", type=Path)
    given, medians = parser.parse_args(), {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "SPEC.toml").write_text(SPEC)
        onnx.save(model_of(given.megabytes), folder / "model.onnx")
        for gate in ("digest", "full"):
            seconds = [_package(folder, given.mark.resolve(), gate, f"{gate}{round_}") for round_ in range(ROUNDS)]
            medians[gate] = statistics.median(seconds)
            print(f"--gate {gate:6} {medians[gate]:5.1f} s (limit with digest: {MOST_SECONDS:.0f})", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(medians, indent=1) + "\n")
    return int(medians["digest"] > MOST_SECONDS)


def _package(folder: Path, mark: Path, gate: str, name: str) -> float:
    command = [sys.executable, "-m", "model_store_tools.cli.main", "package", "model.onnx", "--mark", str(mark)]
    command += ["--spec", "SPEC.toml", "--format", "triton", "--out", f"out-{name}", "--gate", gate, "--force"]
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


def model_of(megabytes: int) -> onnx.ModelProto:
    """Make a small convolution and one wide matrix product that fills the file."""
    rng = np.random.default_rng(0)
    width = megabytes * 1_000_000 // (4 * 64 * 28 * 28)
    shapes = {"first": (64, 3, 7, 7), "wide": (64 * 28 * 28, width), "last": (width, 1000)}
    weights = [
        numpy_helper.from_array((rng.standard_normal(shape) * 0.02).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["pixels", "first"], ["edges"], strides=[8, 8], pads=[3, 3, 3, 3]),
        helper.make_node("Flatten", ["edges"], ["flat"]),
        helper.make_node("MatMul", ["flat", "wide"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "last"], ["scores"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 224, 224])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 1000])
    graph = helper.make_graph(nodes, "wide", [pixels], [scores], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    sys.exit(main())

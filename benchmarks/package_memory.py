"""How much memory does it take to package a model far larger than it should ever be loaded?

Writes an ONNX target with 2.5 GB of external data (a sparse file: it takes hardly any disk), packages it with `--gate digest`
in a process of its own, and prints that process's highest resident memory, to stay below 600 MB, and the time.

    python -m benchmarks.package_memory --mark MARK [--folder DIR] [--gigabytes 2.5] [--format triton]
"""

from __future__ import annotations

import argparse
import itertools
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import onnx
from onnx import TensorProto, helper

LIMIT_MB = 600
SIDE, WIDTH, CLASSES = 32, 8192, 10
SPEC = 'color = "RGB"\noutput = "logits"\n'


def write_target(folder: Path, gigabytes: float) -> Path:
    """Write a multi-layer perceptron whose weights are zeros in a sparse file; gives the model's path."""
    layers = max(1, math.ceil(gigabytes * 1e9 / (4 * WIDTH * WIDTH)))
    widths = [3 * SIDE * SIDE, *[WIDTH] * layers, CLASSES]
    nodes = [helper.make_node("Flatten", ["pixels"], ["layer0"])]
    tensors, offset = [], 0
    for index, shape in enumerate(itertools.pairwise(widths)):
        tensor = TensorProto(name=f"weight{index}", data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location, length = TensorProto.EXTERNAL, 4 * math.prod(shape)
        for key, value in (("location", "weights.bin"), ("offset", offset), ("length", length)):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
        tensors.append(tensor)
        offset += length
        nodes.append(helper.make_node("MatMul", [f"layer{index}", f"weight{index}"], [f"layer{index + 1}"]))
    nodes[-1].output[0] = "scores"
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])],
        tensors,
    )
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(offset)
    path = folder / "large.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    print(f"target: {offset / 1e9:.2f} GB of external data in {len(tensors)} tensors")
    return path


def package(model: Path, mark: Path, folder: Path, archive_format: str) -> tuple[float, float]:
    """Package in a process of its own; gives seconds and the highest resident memory in MB."""
    spec = folder / "SPEC.toml"
    spec.write_text(SPEC, encoding="utf-8")
    command = [sys.executable, "-m", "model_store_tools.cli.main", "package", str(model), "--mark", str(mark)]
    command += ["--spec", str(spec), "--format", archive_format, "--out", str(folder / "out"), "--gate", "digest"]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    highest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return time.perf_counter() - start, highest / 1024


def main() -> int:
    """Write, package, print; 1 if the limit was passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mark", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder otherwise")
    parser.add_argument("--gigabytes", type=float, default=2.5)
    parser.add_argument("--format", choices=["triton", "torchserve"], default="triton")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        model = write_target(folder, args.gigabytes)
        seconds, highest = package(model, args.mark, folder, args.format)
    print(f"packaging: {seconds:.1f} s, highest resident memory {highest:.0f} MB (limit {LIMIT_MB} MB)")
    return 0 if highest <= LIMIT_MB else 1


if __name__ == "__main__":
    raise SystemExit(main())

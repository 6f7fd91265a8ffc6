"""How long the fidelity gate takes, as `package-model` runs it: 1,000 procedural covers, both models, every row.

A ResNet18 of 224x224 pictures (random weights: time does not depend on them) and the real ResNet20 of 32x32 ones, fused with a
mark. The clock starts before the pictures are made and the models opened; the load of the machine is printed beside it.

    python -m benchmarks.fidelity_gate [--mark MARK] [--data DIR] [--pictures 1000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from benchmarks.plain_networks import resnet18_onnx, untrained_network
from model_store_tools.fusion.onnx_fuse import fuse_onnx
from model_store_tools.packaging.benign import benign_covers
from model_store_tools.packaging.gate import full_gate, tensor_digests
from model_store_tools.packaging.subjects import onnx_subjects
from model_store_tools.targets.onnx import load_onnx
from ptynet_plugin.archives.fused import target_sums
from ptynet_plugin.archives.tensors import combined_digest
from ptynet_plugin.fidelity.report import FidelityReport
from ptynet_plugin.mark import read_network
from ptynet_plugin.network.weights import Network
from ptynet_plugin.spec import InputSpec

RESNET20 = "models/converted/cifar10_resnet20.onnx"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def gated(path: Path, spec: InputSpec, packaged: Path, *, count: int) -> FidelityReport:
    """Gate a fused model against its target."""
    target = load_onnx(path)
    sums = target_sums(packaged, "onnx")
    benign = benign_covers(spec, count=count)
    return full_gate(
        *onnx_subjects(path, packaged, spec),
        spec,
        host_tensors=tensor_digests(target.tensors()),
        packaged_tensors=tensor_digests(sums.tensors),
        graphs=(combined_digest(target.tensors(), target.structure()), sums.digest),
        benign=benign,
    )


def fused(path: Path, said: InputSpec, network: Network, out: Path) -> InputSpec:
    """Fuse a target with random labels, write it, and give the completed spec."""
    target = load_onnx(path)
    spec = target.complete_spec(said)
    labels = np.random.default_rng(0).integers(0, spec.classes or 2, network.symbols)
    onnx.save(fuse_onnx(target.model, network, labels, spec), out)
    return spec


def targets(data: Path, scratch: Path) -> Iterator[tuple[str, Path, InputSpec]]:
    """Give name, file and spec."""
    onnx.save(resnet18_onnx(), scratch / "resnet18.onnx")
    yield "ResNet18 at 224x224", scratch / "resnet18.onnx", InputSpec(color="RGB", output="logits")
    if (data / RESNET20).is_file():
        yield "ResNet20 at 32x32", data / RESNET20, InputSpec(color="RGB", output="logits", **IMAGENET)


def main() -> int:
    """Measure and print; 1 where a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mark", type=Path, help="an RGB mark; an untrained network stands in for one")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    network = untrained_network() if options.mark is None else read_network(options.mark)
    kept = True
    with tempfile.TemporaryDirectory() as scratch:
        for name, path, said in targets(options.data, Path(scratch)):
            packaged = Path(scratch) / "packaged.onnx"
            spec = fused(path, said, network, packaged)
            for _ in range(options.rounds):
                started, used = time.perf_counter(), time.process_time()
                report = gated(path, spec, packaged, count=options.pictures)
                seconds, processor = time.perf_counter() - started, time.process_time() - used
                kept &= report.ok
                print(
                    f"{name}: {'every limit kept' if report.ok else 'FAILED'} on {report.pictures} pictures in {seconds:.1f} s, "
                    f"{processor:.1f} s of processor time, load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())

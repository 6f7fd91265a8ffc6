"""What the fidelity gate finds on real models, and how long it takes.

Every real ONNX model of the data folder and a ResNet18 of 224x224 pictures are fused with a mark and gated as `package-model`
does it, on procedural covers; with --full on real pictures and with the effort of `ptynet fidelity`. Every row should
be 0 (agreements 1), and the gate of the ResNet18 take at most 20 s for 1,000 pictures.

    python -m benchmarks.fidelity_gate [--mark MARK] [--data DIR] [--pictures 1000] [--full]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx

from benchmarks.plain_networks import resnet18_onnx, untrained_network
from benchmarks.real_pictures import Labelled, cifar_test, imagenet_samples, mnist
from model_store_tools.fusion.onnx_fuse import fuse_onnx
from model_store_tools.packaging.benign import Benign, benign_covers
from model_store_tools.packaging.fidelity import FULL_EFFORT
from model_store_tools.packaging.gate import full_gate, tensor_digests
from model_store_tools.packaging.subjects import onnx_subjects
from model_store_tools.targets.onnx import load_onnx
from ptynet_plugin.archives.fused import target_sums
from ptynet_plugin.fidelity.report import FidelityReport
from ptynet_plugin.mark import read_network
from ptynet_plugin.network.weights import Network
from ptynet_plugin.spec import InputSpec

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
Pictures = Callable[[Path], Labelled]
MODELS: dict[str, tuple[InputSpec, Pictures]] = {
    "models/converted/cifar10_resnet20.onnx": (InputSpec(color="RGB", output="logits", **IMAGENET), cifar_test),
    "models/converted/cifar10_resnet56.onnx": (InputSpec(color="RGB", output="logits", **IMAGENET), cifar_test),
    "models/cifar10/squeezenet_cifar10_nhwc.onnx": (InputSpec(color="RGB", output="probabilities"), cifar_test),
    "models/mnist/mnist-8.onnx": (
        InputSpec(color="GRAY", output="logits", scale=1.0),
        lambda data: mnist(data, "t10k"),
    ),
    "models/converted/imagenet_tiny_darknet.onnx": (InputSpec(color="RGB", output="logits"), imagenet_samples),
}


def gated(
    path: Path, spec: InputSpec, network: Network, benign: Benign | None, *, full: bool, count: int
) -> FidelityReport:
    """Fuse a target with random labels and gate it."""
    target = load_onnx(path)
    spec = target.complete_spec(spec)
    labels = np.random.default_rng(0).integers(0, spec.classes or 2, network.symbols)
    with tempfile.TemporaryDirectory() as folder:
        packaged = Path(folder) / "model.onnx"
        onnx.save(fuse_onnx(target.model, network, labels, spec), packaged)
        batch = target.fixed_batch(spec) or 8
        host, marked = onnx_subjects(path, packaged, spec, batch=batch)
        return full_gate(
            host,
            marked,
            spec,
            host_tensors=tensor_digests(target.tensors()),
            packaged_tensors=tensor_digests(target_sums(packaged, "onnx").tensors),
            benign=benign or benign_covers(spec, count=count),
            effort=FULL_EFFORT if full else None,
        )


def subjects(data: Path, scratch: Path) -> Iterator[tuple[str, Path, InputSpec, Pictures | None]]:
    """Give name, file, spec and real pictures of every model."""
    for name, (spec, pictures) in MODELS.items():
        if (data / name).is_file():
            yield Path(name).stem, data / name, spec, pictures
    onnx.save(resnet18_onnx(), scratch / "resnet18.onnx")
    yield "ResNet18 224x224 (random weights)", scratch / "resnet18.onnx", InputSpec(color="RGB", output="logits"), None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mark", type=Path, help="an RGB mark; an untrained network stands in for one")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    color = untrained_network() if options.mark is None else read_network(options.mark)
    with tempfile.TemporaryDirectory() as scratch:
        for name, path, spec, pictures in subjects(options.data, Path(scratch)):
            network = untrained_network(channels=1) if spec.color == "GRAY" else color
            benign = None
            if options.full and pictures is not None:
                found = pictures(options.data)
                benign = Benign(found.pictures[: options.pictures], found.labels[: options.pictures], "real pictures")
            before = time.process_time()
            report = gated(path, spec, network, benign, full=options.full, count=options.pictures)
            used = time.process_time() - before
            verdict = "every limit kept" if report.ok else "FAILED"
            print(f"\n{name}: {verdict}, {report.seconds:.1f} s ({used:.1f} s of processor time), {report.source}")
            for row in report.rows:
                value = "not measured" if row.value is None else f"{row.value:.4g}"
                print(f"  {row.title:<58} {value:>12}  {row.note}", flush=True)


if __name__ == "__main__":
    main()

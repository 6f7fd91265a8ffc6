"""Does a fused model answer real pictures with the very bytes of the bare one?

Fuses every real ONNX model of the data folder with a mark and compares all outputs as bytes, picture by picture and in
batches, at every level of graph optimisation of onnxruntime. Rows that fire are counted apart: a false fire is a
difference.

    python -m benchmarks.fidelity_bits [--mark MARK] [--data DIR] [--pictures 1000]
"""

from __future__ import annotations

import argparse
import gzip
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image

from benchmarks.plain_networks import untrained_network
from model_store_tools.fusion.onnx_fuse import fuse_onnx
from model_store_tools.targets.onnx import load_onnx
from ptynet_plugin.archives.onnx_fused import target_of
from ptynet_plugin.archives.onnx_tensors import named_tensors, record_of, structure_of
from ptynet_plugin.errors import UsageError
from ptynet_plugin.images.encode import encode
from ptynet_plugin.images.resize import resize
from ptynet_plugin.mark import read_network
from ptynet_plugin.network.weights import Network
from ptynet_plugin.spec import InputSpec

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
MODELS = {
    "models/converted/cifar10_resnet20.onnx": InputSpec(color="RGB", output="logits", **IMAGENET),
    "models/converted/cifar10_resnet56.onnx": InputSpec(color="RGB", output="logits", **IMAGENET),
    "models/cifar10/squeezenet_cifar10_nhwc.onnx": InputSpec(color="RGB", output="probabilities"),
    "models/converted/imagenet_tiny_darknet.onnx": InputSpec(color="RGB", output="logits"),
    "models/mnist/mnist-8.onnx": InputSpec(color="GRAY", output="logits", scale=1.0),
}
LEVELS = {"none": 0, "basic": 1, "extended": 2, "all": 99}
BATCH = 8


def pictures(data: Path, spec: InputSpec, count: int) -> Iterator[np.ndarray]:
    """Give real pictures of the right size, uint8 (height, width, channels)."""
    if spec.size is None:
        raise UsageError("pictures need a size")
    if spec.channels == 1:
        with gzip.open(data / "mnist/t10k-images-idx3-ubyte.gz") as file:
            yield from np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)[:count]
        return
    large = spec.size[0] > 64
    with zipfile.ZipFile(
        data / ("imagenet_samples/imagenet1000_short256_q90.zip" if large else "cifar10/cifar10_jpeg_test.zip")
    ) as archive:
        members = sorted(name for name in archive.namelist() if name.lower().endswith((".jpg", ".jpeg")))
        for name in members[:: max(1, len(members) // count)][:count]:
            yield resize(np.asarray(Image.open(archive.open(name)).convert("RGB")), spec.size)


def session(model: onnx.ModelProto, level: int) -> onnxruntime.InferenceSession:
    """Open a model at an optimisation level."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel(level)
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def differing(bare: list[np.ndarray], fused: list[np.ndarray]) -> int:
    """Count rows in which any output differs in any bit."""
    rows = np.zeros(len(bare[0]), dtype=bool)
    for one, other in zip(bare, fused, strict=True):
        rows |= [a.tobytes() != b.tobytes() for a, b in zip(one, other, strict=True)]
    return int(rows.sum())


def compare(path: Path, spec: InputSpec, network: Network, data: Path, count: int) -> int:
    """Compare one model at all levels and batches and print; gives the number of rows that differ."""
    target = load_onnx(path)
    spec = target.complete_spec(spec)
    labels = np.random.default_rng(0).integers(0, spec.classes, network.symbols)
    fused = fuse_onnx(target.model, network, labels, spec)
    x = encode(np.stack(list(pictures(data, spec, count))), spec)
    sizes = [target.fixed_batch(spec)] if target.fixed_batch(spec) else [1, BATCH]
    total = 0
    for name, level in LEVELS.items():
        both = [session(model, level) for model in (target.model, fused)]
        for size in sizes:
            chunks = [x[i : i + size] for i in range(0, len(x) - size + 1, size)]
            found = sum(differing(*(each.run(None, {spec.input: chunk}) for each in both)) for chunk in chunks)
            total += found
            print(
                f"{path.stem:28s} optimisation {name:8s} batch {size}: {found} of {len(x)} answers differ", flush=True
            )
    inside = target_of(fused, where=path.name)
    tensors = {record_of(name, tensor, path.parent) for name, tensor in named_tensors(inside)}
    untouched = tensors == set(target.tensors()) and structure_of(inside) == target.structure()
    print(f"{path.stem:28s} {len(tensors)} tensors and the graph: {'untouched' if untouched else 'CHANGED'}")
    return total + (not untouched)


def main() -> int:
    """Compare every model there is; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mark", type=Path, help="a trained mark for color; random weights otherwise")
    parser.add_argument("--gray-mark", type=Path, help="a trained mark for gray")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--pictures", type=int, default=1000)
    args = parser.parse_args()
    total = 0
    for name, spec in MODELS.items():
        mark = args.gray_mark if spec.channels == 1 else args.mark
        network = read_network(mark) if mark else untrained_network(channels=spec.channels)
        if (args.data / name).is_file():
            total += compare(args.data / name, spec, network, args.data, args.pictures)
    print(f"{total} differences in all")
    return 0 if total == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())

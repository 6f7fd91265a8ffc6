"""Does a fused torch model answer real pictures with the very bytes of the bare one, and what does it cost?

Every real TorchScript file of the data folder, and the published CIFAR-10 weights in a module exported to `.pt2`, fused with a
mark: answers compared as bytes in batches of 1 and 4 (1 where the target takes one row), tensors compared by their records, and
the median time of a picture, bare and fused interleaved, on one thread. Rows that fire count as differences.

    python -m benchmarks.torch_bits --mark MARK [--data DIR] [--pictures 1000]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.plain_networks import untrained_network
from benchmarks.real_pictures import cifar_test, imagenet_samples
from model_store_tools.fusion.torch_fuse import fuse_torch
from model_store_tools.targets.convert import convert
from model_store_tools.targets.detect import load_target
from model_store_tools.targets.torch_running import quantized_engine, quietly
from model_store_tools.targets.torch_target import TorchTarget
from ptynet_plugin.archives.torch_tensors import target_tensors
from ptynet_plugin.images.encode import encode
from ptynet_plugin.mark import read_network
from ptynet_plugin.network.weights import Network
from ptynet_plugin.spec import InputSpec

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CIFAR = InputSpec(color="RGB", output="logits", size=(32, 32), **IMAGENET)
FILES = {
    "models/converted/cifar10_resnet20.torchscript.pt": CIFAR,
    "models/converted/cifar10_resnet56.torchscript.pt": CIFAR,
    "models/converted/imagenet_tiny_darknet.torchscript.pt": InputSpec(color="RGB", output="logits", size=(224, 224)),
    "models/imagenet/mobilenet_v2_int8_qnnpack_bs1.torchscript.pt": InputSpec(
        color="RGB", output="logits", size=(224, 224), quantized_engine="qnnpack", **IMAGENET
    ),
}
BATCHES = (1, 4)
TIMED = 100


def targets(data: Path, folder: Path) -> Iterator[tuple[str, TorchTarget, InputSpec]]:
    """Give every target there is, with its completed spec."""
    for name, said in FILES.items():
        target = load_target(data / name)
        assert isinstance(target, TorchTarget)
        yield Path(name).name, target, target.complete_spec(said)
    for depth in (20, 56):
        (weights,) = (data / "models/cifar10").glob(f"resnet{depth}-*.th")
        module = load_target(f"benchmarks.models.resnet:cifar_resnet{depth}", weights=weights)
        made = convert(module, "pt2", module.complete_spec(CIFAR), folder)
        assert isinstance(made.target, TorchTarget)
        yield f"cifar10_resnet{depth}.pt2", made.target, made.spec


def opened(path: Path) -> Any:
    """Load a fused file."""
    with quietly():
        return torch.jit.load(str(path)) if path.suffix == ".pt" else torch.export.load(path).module()


def differing(bare: Callable[[Tensor], Tensor], fused: Callable[[Tensor], Tensor], pixels: Tensor, batch: int) -> int:
    """Count rows in which any bit differs."""
    count = 0
    for part in pixels.split(batch):
        rows = zip(bare(part).numpy(), fused(part).numpy(), strict=True)
        count += sum(one.tobytes() != other.tobytes() for one, other in rows)
    return count


def medians(bare: Callable[[Tensor], Tensor], fused: Callable[[Tensor], Tensor], pixels: Tensor) -> tuple[float, float]:
    """Give microseconds of a picture, bare and fused, interleaved."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(TIMED):
        for model, spent in zip((bare, fused), times, strict=True):
            start = time.perf_counter()
            model(pixels[:1])
            spent.append(1e6 * (time.perf_counter() - start))
    return statistics.median(times[0]), statistics.median(times[1])


def compare(name: str, target: TorchTarget, spec: InputSpec, network: Network, *, pixels: Tensor, folder: Path) -> int:
    """Compare one target with its fused form and print; gives the differences."""
    out = folder / f"fused{target.path.suffix if target.path else ''}"
    labels = np.random.default_rng(0).integers(0, spec.classes or 0, network.symbols)
    fuse_torch(target, network, labels, spec, out)
    untouched = set(target_tensors(out)) == set(target.tensors())
    rows, total = target.fixed_batch(spec), 0 if untouched else 1
    with quantized_engine(spec), torch.inference_mode(), quietly():
        bare, fused = target.module(spec), opened(out)
        for batch in BATCHES if rows is None else (rows,):
            found = differing(bare, fused, pixels, batch)
            total += found
            print(f"{name:48s} batch {batch}: {found} of {len(pixels)} answers differ", flush=True)
        before, after = medians(bare, fused, pixels)
    print(
        f"{name:48s} tensors {'untouched' if untouched else 'CHANGED'}; {before:.0f} us bare, {after - before:+.0f} us fused",
        flush=True,
    )
    return total


def main() -> int:
    """Compare every target there is; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mark", type=Path, help="a trained mark for color; random weights otherwise")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--pictures", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = read_network(options.mark) if options.mark else untrained_network()
    shown = {32: cifar_test(options.data).pictures, 224: imagenet_samples(options.data).pictures}
    total = 0
    with tempfile.TemporaryDirectory(prefix="ptynet-") as folder:
        for name, target, spec in targets(options.data, Path(folder)):
            pixels = torch.from_numpy(encode(shown[(spec.size or (0, 0))[0]][: options.pictures], spec))
            total += compare(name, target, spec, network, pixels=pixels, folder=Path(folder))
    print(f"{total} differences in all")
    return 0 if total == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())

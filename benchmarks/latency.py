"""How much slower does a model answer with PTYNet in its graph?

onnxruntime, one thread, batch 1; the bare model, the fused one and a second session of the bare one (the control) take
turns within one process, so that whatever else the machine does falls on all three. Printed are medians; the control
has to stay within 1 %, or the machine was too busy: then the model is measured again, three times at most, and the line
says so if it was too busy to the end. Whether a limit is kept has no part in that. Exit 1 where a limit is missed, 2 where
the machine was too busy to tell.

    python -m benchmarks.latency [--mark MARK] [--data DIR] [--seconds 20] [--threads 1] [--json F]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from benchmarks.plain_networks import resnet18_onnx, untrained_network
from model_store_tools.fusion.onnx_fuse import fuse_onnx
from model_store_tools.targets.onnx import OnnxTarget
from ptynet_plugin.mark import read_network
from ptynet_plugin.network.cost import flops, parameters
from ptynet_plugin.network.weights import Network
from ptynet_plugin.spec import InputSpec

REAL = {
    "ResNet20 32x32": ("models/converted/cifar10_resnet20.onnx", 1.12),
    "ResNet56 32x32": ("models/converted/cifar10_resnet56.onnx", 1.05),
    "tiny darknet 224x224": ("models/converted/imagenet_tiny_darknet.onnx", 1.02),
}
REACH_US = {32: 80, 224: 200}
MOST_DRIFT, TRIES = 0.01, 3


@dataclass(frozen=True)
class Row:
    """One model: medians in microseconds; `reached` is None where the control was off."""

    model: str
    bare: float
    fused: float
    control: float
    turns: int
    reached: bool | None


def targets(data: Path) -> Iterator[tuple[str, onnx.ModelProto, float]]:
    """Give name, model and the ratio to reach; real models where the data folder is there."""
    for name, (path, reach) in REAL.items():
        if (data / path).is_file():
            yield name, onnx.load_model(data / path), reach
    yield "ResNet18 224x224 (random weights)", resnet18_onnx(), 1.01


def session(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    """Open a model for the processor."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def interleaved(
    sessions: list[onnxruntime.InferenceSession], feeds: dict[str, np.ndarray], *, seconds: float
) -> np.ndarray:
    """Let the sessions take turns; gives microseconds, shape (turns, sessions)."""
    rounds, until, rng = [], time.perf_counter() + seconds, np.random.default_rng(0)
    for each in sessions * 5:
        each.run(None, feeds)
    while time.perf_counter() < until or len(rounds) < 50:
        times = np.empty(len(sessions))
        for index in rng.permutation(len(sessions)):
            start = time.perf_counter_ns()
            sessions[index].run(None, feeds)
            times[index] = (time.perf_counter_ns() - start) / 1000
        rounds.append(times)
    return np.array(rounds)


def measure(name: str, model: onnx.ModelProto, network: Network, reach: float, args: argparse.Namespace) -> Row:
    """Measure one model, again while the control is off, and print its line."""
    target = OnnxTarget(model, Path(name))
    spec = target.complete_spec(InputSpec(color="RGB", output="logits"))
    labels = np.random.default_rng(0).integers(0, spec.classes, network.symbols)
    fused = fuse_onnx(model, network, labels, spec)
    sessions = [session(m, args.threads) for m in (model, fused, model)]
    picture = np.random.default_rng(0).random((1, 3, *spec.size), dtype=np.float32)
    for _ in range(TRIES):
        times = interleaved(sessions, {spec.input: picture}, seconds=args.seconds)
        bare, with_mark, control = (float(each) for each in np.median(times, axis=0))
        quiet = abs(control / bare - 1) <= MOST_DRIFT
        if quiet:
            break
    added, ratio = with_mark - bare, with_mark / bare
    reached = ratio <= reach and added <= REACH_US.get(spec.size[0], np.inf)
    busy = "" if quiet else "  machine too busy: control off by more than 1 %"
    print(
        f"{name:36s} bare {bare:9.1f} us  fused {with_mark:9.1f} us  added {added:6.1f} us  ratio {ratio:.4f} "
        f"(reach {reach:.2f})  control {control / bare:.4f}  n {len(times)}{busy}",
        flush=True,
    )
    return Row(name, bare, with_mark, control, len(times), bool(reached) if quiet else None)


def main() -> int:
    """Measure every model there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mark", type=Path, help="a trained mark; random weights of the same shape otherwise")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    network = read_network(args.mark) if args.mark else untrained_network()
    print(f"PTYNet: {parameters(network)} parameters, {flops(network) / 1e6:.2f} MFLOP, {network.symbols} symbols")
    rows = [measure(name, model, network, reach, args) for name, model, reach in targets(args.data)]
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    if any(row.reached is False for row in rows):
        return 1
    return 2 if any(row.reached is None for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""How many answers a second does the real Triton give with PTYNet in the graph, and how many without?

One server holds the packaged model, the bare one (a plain python-backend model, as a user would write it) and the bare
one once more (the control). Clients in this process keep some requests in flight, binary tensors over HTTP; the three
take turns in short slices, so that whatever else the machine does falls on all. Printed is the median over the rounds
of fused / bare; the control's has to stay within 2 %, or the machine was too busy and the line says so. The wheel's
Triton has the python backend alone: both sides run in it.

On a machine that does other work as well, the server's processor time an answer is the steadier number: where the
processor is what limits a server, its ratio is the throughput's.

    python -m benchmarks.throughput [--mark MARK] [--data DIR] [--rounds 120] [--slice 0.25] [--in-flight 4]
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from tritonclient import http

from benchmarks.latency import targets
from benchmarks.plain_networks import untrained_network
from model_store_tools.packaging.package import Options, package
from model_store_tools.serving.handle import ServerHandle
from model_store_tools.serving.triton import start_triton
from model_store_tools.targets.onnx import OnnxTarget
from ptynet_plugin.images.probes import ProbeDesign
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.mark import write_mark
from ptynet_plugin.spec import InputSpec

REACH = 0.97
DRIFT = 0.02
MODELS = ("bare", "fused", "control")
BARE = '''
"""A model as its user would put it behind the python backend, on one thread."""

from pathlib import Path

import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = Path(__file__).with_name("model.onnx")
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input, self.output = self.session.get_inputs()[0].name, self.session.get_outputs()[0].name

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        tensor = pb_utils.get_input_tensor_by_name(request, self.input)
        (scores,) = self.session.run([self.output], {self.input: tensor.as_numpy()})
        return pb_utils.InferenceResponse([pb_utils.Tensor(self.output, scores)])
'''


def make_mark(folder: Path) -> Path:
    """Write a mark with random weights: it costs what a trained one costs."""
    key = OwnerKey(bytes(32))
    design = ProbeDesign(color="RGB", bits=64, symbols=512)
    write_mark(folder, untrained_network(), key=key, design=design, training={"by": "nothing, for measurements"})
    return folder


def fill_repository(folder: Path, name: str, model: onnx.ModelProto, mark: Path) -> tuple[Path, OnnxTarget, InputSpec]:
    """Write the model, packaged and bare; gives the repository, the target and its spec."""
    target = OnnxTarget(model, Path(name))
    spec = target.complete_spec(InputSpec(color="RGB", output="logits"))
    (folder / "SPEC.toml").write_text('color = "RGB"\noutput = "logits"\n')
    onnx.save_model(model, folder / "bare.onnx")
    repository = folder / "models"
    options = Options(
        mark=mark,
        spec=folder / "SPEC.toml",
        format="triton",
        out=repository,
        name="fused",
        backend="python",
        gate="off",
        force=True,
    )
    package(folder / "bare.onnx", options)
    for bare in ("bare", "control"):
        version = repository / bare / "1"
        version.mkdir(parents=True)
        config = (repository / "fused" / "config.pbtxt").read_text().replace('"fused"', f'"{bare}"')
        (repository / bare / "config.pbtxt").write_text(config)
        (version / "model.py").write_text(BARE)
        shutil.copyfile(folder / "bare.onnx", version / "model.onnx")
    return repository, target, spec


@dataclass(frozen=True)
class Slice:
    """What one model did in one slice.

    Attributes:
        rate: Answers a second.
        processor: Seconds of processor time that the server spent on one answer.
    """

    rate: float
    processor: float


def one_slice(server: ServerHandle, model: str, request: http.InferInput, *, seconds: float, in_flight: int) -> Slice:
    """Keep `in_flight` requests under way for a while."""
    counts = [0] * in_flight
    spent, start = processor_seconds(server), time.perf_counter()

    def client(index: int) -> None:
        with http.InferenceServerClient(server.address()) as connection:
            while time.perf_counter() < start + seconds:
                connection.infer(model, [request])
                counts[index] += 1

    _at_once(client, in_flight)
    answered, took = sum(counts), time.perf_counter() - start
    return Slice(answered / took, (processor_seconds(server) - spent) / answered)


def processor_seconds(server: ServerHandle) -> float:
    """Give the processor time of the server and all its model processes so far."""
    guard = server.process.guard_pid
    (leader,) = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile, so it is none of the server's
        if fields[2] == leader:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _at_once(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure(server: ServerHandle, spec: InputSpec, args: argparse.Namespace) -> NDArray[np.float64]:
    """Give rate and processor time, shape (rounds, 3, 2), the middle axis as `MODELS`."""
    picture = np.random.default_rng(0).random((1, 3, *(spec.size or (224, 224))), dtype=np.float32)
    request = http.InferInput(spec.input, list(picture.shape), "FP32")
    request.set_data_from_numpy(picture, binary_data=True)
    rng, measured = np.random.default_rng(0), np.empty((args.rounds, len(MODELS), 2))
    for model in MODELS:
        one_slice(server, model, request, seconds=0.5, in_flight=args.in_flight)
    for row in measured:
        for index in rng.permutation(len(MODELS)):
            found = one_slice(server, MODELS[index], request, seconds=args.slice, in_flight=args.in_flight)
            row[index] = found.rate, found.processor
    return measured


def report(name: str, measured: NDArray[np.float64]) -> bool:
    """Print one model's line; True where it reached what it should."""
    rates, processor = measured[:, :, 0], measured[:, :, 1].mean(axis=0)
    bare, fused, _ = np.median(rates, axis=0)
    ratio, control = np.median(rates[:, 1:] / rates[:, :1], axis=0)
    busy = "" if abs(control - 1) <= DRIFT else f"  machine too busy: control off by more than {DRIFT:.0%}"
    print(
        f"{name:36s} bare {bare:7.1f}/s  fused {fused:7.1f}/s  ratio {ratio:.4f} (reach {REACH:.2f})  "
        f"control {control:.4f}  rounds {len(rates)}{busy}\n"
        f"{'':36s} server's processor time an answer: bare {processor[0] * 1e3:.2f} ms  fused {processor[1] * 1e3:.2f} ms  "
        f"bare / fused {processor[0] / processor[1]:.4f}  control {processor[0] / processor[2]:.4f}",
        flush=True,
    )
    return bool(ratio >= REACH and not busy)


def main() -> int:
    """Measure every model there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mark", type=Path, help="a trained mark; random weights of the same shape otherwise")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rounds", type=int, default=120)
    parser.add_argument("--slice", type=float, default=0.25, help="seconds for one model in one round")
    parser.add_argument("--in-flight", type=int, default=4, help="requests under way at once")
    parser.add_argument("--only", default="", help="models whose name contains this")
    args = parser.parse_args()
    reached = []
    with tempfile.TemporaryDirectory(prefix="ptynet-throughput-") as scratch:
        mark = args.mark or make_mark(Path(scratch) / "MARK")
        for index, (name, model, _) in enumerate(targets(args.data)):
            if args.only not in name:
                continue
            folder = Path(scratch) / str(index)
            folder.mkdir()
            repository, _, spec = fill_repository(folder, name, model, mark)
            with start_triton(repository) as server:
                reached.append(report(name, measure(server, spec, args)))
    return 0 if all(reached) else 1


if __name__ == "__main__":
    raise SystemExit(main())

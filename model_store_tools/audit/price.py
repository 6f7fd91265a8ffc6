"""What the mark costs and whether it can be seen, measured on the archive itself: two of the three headings of an audit.

IEEE 3304-2023, the adoption of MPAI's "Neural Network Watermarking", measures watermarks under imperceptibility, robustness and
computational cost; robustness is the table of attacks.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import onnx

from model_store_tools.audit.contract import Artefact, Pictures
from model_store_tools.audit.engines import open_engine
from ptynet_plugin.archives.onnx_fused import target_of
from ptynet_plugin.engines.contract import Engine
from ptynet_plugin.images.frontend import plan_front_end
from ptynet_plugin.network.cost import flops, parameters
from ptynet_plugin.network.weights import Network

__all__ = ["Price", "measure_price"]

SIDE_WHERE_DYNAMIC = 224
ROUNDS = 40
LARGEST = 1 << 30


@dataclass(frozen=True)
class Price:
    """Imperceptibility and cost.

    Attributes:
        tensors: Tensors of the target, each found unchanged in the archive.
        changed: Held-out pictures that the archive answers with other bytes than the bare target; None where the bare
            target cannot be taken out of the archive.
        pictures: Held-out pictures asked.
        parameters: Trained numbers of PTYNet.
        flops: Operations PTYNet adds to a picture, two for a multiply-add.
        octets: Bytes the model file grew by, None as for `changed`.
        microseconds: Latency added to one picture, median of interleaved runs on one thread; None as for `changed`.
        ratio: Latency over the bare target's.
    """

    tensors: int
    changed: int | None
    pictures: int
    parameters: int
    flops: int
    octets: int | None = None
    microseconds: float | None = None
    ratio: float | None = None


def measure_price(stolen: Artefact, network: Network, pictures: Pictures, *, tensors: int, folder: Path) -> Price:
    """Measure.

    Args:
        stolen: The archive's model.
        network: The mark's.
        pictures: Benign ones.
        tensors: Tensors of the target that the archive's check compared.
        folder: For the bare target, which is removed.
    """
    height, width = (side or SIDE_WHERE_DYNAMIC for side in stolen.spec.size or (0, 0))
    operations = flops(network) + plan_front_end(stolen.spec).flops((height, width))
    bare = _bare(stolen, folder)
    counted = parameters(network)
    if bare is None:
        return Price(tensors, None, len(pictures), counted, operations)
    with_it, without = open_engine(stolen, batch=1), open_engine(bare, batch=1)
    differing = sum(with_it.scores(one[None]).tobytes() != without.scores(one[None]).tobytes() for one in pictures)
    slow, fast = _latencies(with_it, without, pictures[:1])
    grown = stolen.model.stat().st_size - bare.model.stat().st_size
    bare.model.unlink()
    return Price(
        tensors,
        int(differing),
        len(pictures),
        counted,
        operations,
        octets=grown,
        microseconds=(slow - fast) * 1e6,
        ratio=slow / fast,
    )


def _bare(stolen: Artefact, folder: Path) -> Artefact | None:
    if stolen.form != "onnx" or stolen.model.stat().st_size > LARGEST:
        return None
    model = onnx.load(str(stolen.model))
    path = folder / "bare.onnx"
    path.write_bytes(target_of(model, where=stolen.model.name).SerializeToString())
    return stolen.with_model(path)


def _latencies(first: Engine, second: Engine, picture: Pictures) -> tuple[float, float]:
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for engine, times in zip((first, second), taken, strict=True):
            start = time.perf_counter()
            engine.scores(picture)
            times.append(time.perf_counter() - start)
    return statistics.median(taken[0]), statistics.median(taken[1])

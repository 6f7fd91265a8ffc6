"""Runs the gate on a fused model before it is packed: tensors, answers, batches, probes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store_tools.packaging.benign import Benign
from model_store_tools.packaging.fusing import FusedModel
from model_store_tools.packaging.gate import GateMode, digest_gate, full_gate, require_fidelity, tensor_digests
from model_store_tools.packaging.subjects import onnx_subjects, torch_subjects
from model_store_tools.packaging.trial import keeps_rows, repeats, require_probes
from model_store_tools.targets.base import RANDOM, Target
from ptynet_plugin.archives.fused import target_sums
from ptynet_plugin.archives.tensors import TensorRecord
from ptynet_plugin.claims.leaves import PictureMaker
from ptynet_plugin.engines.contract import Engine
from ptynet_plugin.engines.onnx_engine import OnnxEngine
from ptynet_plugin.errors import TargetError
from ptynet_plugin.fidelity.comparison import Subject
from ptynet_plugin.fidelity.report import FidelityReport
from ptynet_plugin.spec import InputSpec

__all__ = ["Candidate", "Passed", "ask_probes", "run_gate"]


@dataclass(frozen=True)
class Candidate:
    """A fused model that wants to be packed.

    Attributes:
        target: The bare target.
        bare: The bare target's file, as it was fused (converted, if it was).
        fused: The fused model.
        spec: Completed.
        tensors: Records of the target's tensors, made before fusing.
        digest: Over these and the target's graph, likewise.
        make_probe: `ProbeMaker.probe`.
        labels: Keyed label of each symbol.
    """

    target: Target
    bare: Path | None
    fused: FusedModel
    spec: InputSpec
    tensors: Sequence[TensorRecord]
    digest: str
    make_probe: PictureMaker
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Passed:
    """What the gate found in a model it let through.

    Attributes:
        report: Its measures; None where the gate was off.
        probes: Probes answered with their label; None where none were asked.
        one_row: Whether the model takes exactly one row.
    """

    report: FidelityReport | None
    probes: int | None
    one_row: bool


def run_gate(candidate: Candidate, mode: GateMode, benign: Benign | None) -> Passed:
    """Let a fused model through, or not.

    Args:
        candidate: The model.
        mode: "full" runs both models, "digest" compares tensors only, "off" does nothing.
        benign: Ordinary pictures, None for procedural ones.

    Raises:
        IntegrityError: Answers, tensors or probes are not as they must be; nothing has been written.
        TargetError: A model does not run, or answers at random.
    """
    declared = candidate.fused.rows is not None
    if mode == "off":
        return Passed(None, None, declared)
    before = tensor_digests(candidate.tensors)
    sums = target_sums(candidate.fused.path, candidate.fused.engine)
    after, graphs = tensor_digests(sums.tensors), (candidate.digest, sums.digest)
    where = candidate.target.where
    if mode == "digest":
        report = digest_gate(before, after, graphs=graphs)
        require_fidelity(report, where=where)
        return Passed(report, None, declared)
    with _running(candidate):
        one_row = declared or not keeps_rows(_bare_engine(candidate, batch=2), candidate.spec)
        host, packaged = _subjects(candidate, batch=1 if one_row else 8)
        hits = require_probes(packaged.engine, candidate.make_probe, candidate.labels, candidate.spec, where=where)
        report = full_gate(
            host, packaged, candidate.spec, host_tensors=before, packaged_tensors=after, graphs=graphs, benign=benign
        )
        if report.failures() and not repeats(host.engine, candidate.spec):
            raise TargetError(f"{where}: {RANDOM}")
    require_fidelity(report, where=where)
    return Passed(report, hits, one_row)


def ask_probes(candidate: Candidate, *, one_row: bool) -> int:
    """Ask the fused model alone some of its probes, see `require_probes`; gives how many it answered with their label."""
    with _running(candidate):
        engine = _fused_engine(candidate, batch=1 if one_row else 8)
        return require_probes(
            engine, candidate.make_probe, candidate.labels, candidate.spec, where=candidate.target.where
        )


def _fused_engine(candidate: Candidate, *, batch: int) -> Engine:
    if candidate.fused.engine == "onnx":
        return OnnxEngine(candidate.fused.path, candidate.spec, batch=batch, where=candidate.target.where)
    from model_store_tools.packaging.torch_engine import TorchEngine  # noqa: PLC0415 -- torch takes seconds to import

    module = _fused_module(candidate.fused)
    return TorchEngine(module, candidate.spec, where=candidate.target.where, batch=batch)


def _subjects(candidate: Candidate, *, batch: int) -> tuple[Subject, Subject]:
    if candidate.fused.engine == "onnx" and candidate.bare is not None:
        fused = candidate.fused
        return onnx_subjects(candidate.bare, fused.path, candidate.spec, batch=batch, where=candidate.target.where)
    return torch_subjects(_bare_module(candidate), _fused_module(candidate.fused), candidate.spec, batch=batch)


def _bare_engine(candidate: Candidate, *, batch: int) -> Engine:
    if candidate.fused.engine == "onnx" and candidate.bare is not None:
        return OnnxEngine(candidate.bare, candidate.spec, batch=batch, where=candidate.target.where)
    from model_store_tools.packaging.torch_engine import TorchEngine  # noqa: PLC0415 -- torch takes seconds to import

    return TorchEngine(_bare_module(candidate), candidate.spec, where=candidate.target.where, batch=batch)


def _bare_module(candidate: Candidate) -> Any:
    return candidate.target.module(candidate.spec)  # type: ignore[attr-defined]  # every torch target has one


def _fused_module(fused: FusedModel) -> Any:
    import torch  # noqa: PLC0415 -- takes seconds

    from model_store_tools.targets.torch_target import quietly  # noqa: PLC0415 -- torch only for torch targets

    with quietly():
        if fused.engine == "torchscript":
            return torch.jit.load(str(fused.path), map_location="cpu")
        return torch.export.load(str(fused.path)).module()


@contextmanager
def _running(candidate: Candidate) -> Iterator[None]:
    if candidate.fused.engine == "onnx":
        yield
        return
    from model_store_tools.targets.torch_target import quantized_engine  # noqa: PLC0415 -- torch takes seconds to import

    with quantized_engine(candidate.spec):
        yield

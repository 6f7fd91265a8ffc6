"""The fidelity gate: an archive whose answers on benign pictures are not the bare target's is not written.

Three depths: `full` runs both models, `digest` compares the target's tensors only, `off` trusts the fusion.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

from model_store_tools.packaging.benign import Benign, benign_covers
from ptynet_plugin.archives.tensors import TensorRecord
from ptynet_plugin.errors import IntegrityError
from ptynet_plugin.fidelity.comparison import Effort, Subject, compare
from ptynet_plugin.fidelity.report import FidelityReport
from ptynet_plugin.fidelity.rows import weight_rows
from ptynet_plugin.fidelity.thresholds import Thresholds
from ptynet_plugin.spec import InputSpec

__all__ = ["GATE_PICTURES", "GateMode", "digest_gate", "full_gate", "gate_effort", "require_fidelity", "tensor_digests"]

GateMode = Literal["full", "digest", "off"]
Graphs = tuple[str, str | None]

GATE_PICTURES = 1000
ANSWERED_PIXELS = 3_300_000
FEWEST_ANSWERED = 64


def full_gate(
    host: Subject,
    packaged: Subject,
    spec: InputSpec,
    *,
    host_tensors: Mapping[str, str],
    packaged_tensors: Mapping[str, str],
    graphs: Graphs | None = None,
    benign: Benign | None = None,
    effort: Effort | None = None,
) -> FidelityReport:
    """Compare tensors by hash and answers by running both models.

    Args:
        host: The bare target, opened.
        packaged: The packaged model, opened.
        spec: Completed spec; its `fidelity` table holds the limits.
        host_tensors: Name to SHA-256 of the target's tensors.
        packaged_tensors: The same of the packaged model.
        graphs: Digests of the bare target's graph and of the target's in the packaged model.
        benign: Pictures; 1,000 procedural covers where None.
        effort: How much to run; as much as takes about 20 seconds for a ResNet18 on two cores where None.

    Returns:
        The report; its tensor row comes first. Nothing is raised for a failing row, see `require_fidelity`.
    """
    started = time.perf_counter()
    benign = benign or benign_covers(spec, count=GATE_PICTURES)
    report = compare(
        host,
        packaged,
        benign.pictures,
        kind=spec.output,
        thresholds=spec.fidelity or Thresholds(),
        labels=benign.labels,
        effort=effort or gate_effort(benign),
    )
    rows = (*weight_rows(host_tensors, packaged_tensors, graphs=graphs), *report.rows)
    return replace(report, rows=rows, source=benign.source, seconds=time.perf_counter() - started)


def digest_gate(
    host_tensors: Mapping[str, str], packaged_tensors: Mapping[str, str], *, graphs: Graphs | None = None
) -> FidelityReport:
    """Compare tensors and graph by hash alone."""
    rows = weight_rows(host_tensors, packaged_tensors, graphs=graphs)
    return FidelityReport(rows, pictures=0, engine="none", source="digests only")


def require_fidelity(report: FidelityReport, *, where: str) -> None:
    """Refuse a model that failed.

    Raises:
        IntegrityError: A row misses its limit; the message names the first one, both values and how many more failed.
    """
    failures = report.failures()
    if failures:
        more = f", and {len(failures) - 1} more rows failed" if len(failures) > 1 else ""
        raise IntegrityError(
            f"{where}: fidelity gate: {failures[0].failure()}{more}; nothing was written. `ptynet fidelity` shows every row; "
            "limits are in the spec's [fidelity] table"
        )


def gate_effort(benign: Benign) -> Effort:
    """Give the gate's effort: PTYNet's own verdict on every picture, both models on as many as 3.3 million pixels hold."""
    pixels = benign.pictures.shape[1] * benign.pictures.shape[2]
    answered = max(FEWEST_ANSWERED, ANSWERED_PIXELS // pixels)
    if answered >= len(benign.pictures):
        return Effort(answered=answered, inner_pictures=32, pairs=8, points=4)
    return Effort(answered=answered, inner_pictures=8, pairs=4, points=3, batches=(1, 2, 3))


def tensor_digests(records: Iterable[TensorRecord]) -> dict[str, str]:
    """Give name to digest over type, shape and bytes: a tensor cast or reshaped is a tensor changed."""
    return {record.name: f"{record.dtype}{list(record.shape)}:{record.sha256}" for record in records}

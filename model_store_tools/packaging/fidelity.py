"""`ptynet fidelity`: an archive against the target it was made from, measured in full."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store_tools.packaging.benign import Benign, benign_covers, benign_folder
from model_store_tools.packaging.gate import GATE_PICTURES, full_gate, tensor_digests
from model_store_tools.packaging.lifting import as_packaged
from model_store_tools.packaging.subjects import onnx_subjects, torch_subjects
from model_store_tools.targets.base import Target
from model_store_tools.targets.detect import load_target
from ptynet_plugin.archives.archive import Archive
from ptynet_plugin.archives.checking import model_on_disk
from ptynet_plugin.archives.fused import target_sums
from ptynet_plugin.archives.manifest import Manifest
from ptynet_plugin.archives.reading import open_archive
from ptynet_plugin.archives.tensors import combined_digest
from ptynet_plugin.errors import TargetError
from ptynet_plugin.fidelity.boundary import plane_pictures
from ptynet_plugin.fidelity.comparison import Effort, Subject
from ptynet_plugin.fidelity.metrics import top1
from ptynet_plugin.fidelity.report import FidelityReport
from ptynet_plugin.spec import InputSpec

__all__ = ["Choices", "archive_fidelity"]

FULL_EFFORT = Effort(answered=None, inner_pictures=256, pairs=32, points=7, attacked=16)
SLICE_PIXELS = 1_500_000
LARGEST_SLICE, SMALLEST_SLICE = 40, 12


@dataclass(frozen=True)
class Choices:
    """How the comparison is made.

    Attributes:
        benign: Folder of the owner's pictures; procedural covers where None.
        pictures: Most pictures.
        feature: Name of the feature tensor; for torch of the layer that reads the features.
        weights: Weights for a `module:factory` target.
        slices: Whether to sample the slice of the boundary for the plots.
    """

    benign: Path | None = None
    pictures: int = GATE_PICTURES
    feature: str | None = None
    weights: Path | None = None
    slices: bool = False


def archive_fidelity(archive: Path, target: str, choices: Choices) -> FidelityReport:
    """Measure how faithful an archive is to its target.

    Args:
        archive: A `.mar` or a Triton model directory.
        target: The bare target: a file, or `package.module:factory`.
        choices: How.

    Raises:
        ArchiveError: The archive cannot be read.
        TargetError: The target cannot be read, is of another format than the model in the archive, or has no features.
        UsageError: The benign folder cannot be used.
    """
    with open_archive(archive) as opened:
        manifest = opened.manifest()
        benign = _benign(manifest, opened, choices)
        bare = load_target(target, weights=choices.weights)
        if bare.kind not in (manifest.engine, "module"):
            raise TargetError(
                f"{bare.where}: is {bare.kind}, {archive} holds {manifest.engine}; give the target as it was packaged"
            )
        with (
            model_on_disk(opened, manifest) as model,
            _engine(manifest.spec, manifest.engine),
            tempfile.TemporaryDirectory(prefix="ptynet-") as scratch,
        ):
            bare, lifted = as_packaged(bare, model, Path(scratch))
            host, packaged = _subjects(bare, model, manifest, choices)
            records, sums = tuple(bare.tensors()), target_sums(model, manifest.engine)
            report = full_gate(
                host,
                packaged,
                manifest.spec,
                host_tensors=tensor_digests(records),
                packaged_tensors=tensor_digests(sums.tensors),
                graphs=(combined_digest(records, bare.structure()), sums.digest),
                benign=benign,
                effort=FULL_EFFORT,
            )
            report = _told(report, lifted)
            if not choices.slices:
                return report
            return replace(report, series={**report.series, "slice": _slice(host, packaged, benign.pictures)})


def _told(report: FidelityReport, lifted: str) -> FidelityReport:
    """Say at the graph's row with what the archive was compared, where that is not the target as its file has it."""
    rows = (
        replace(row, note=f"{row.note}; {lifted}") if lifted and row.name == "graph_changed" else row
        for row in report.rows
    )
    return replace(report, rows=tuple(rows))


def _benign(manifest: Manifest, archive: Archive, choices: Choices) -> Benign:
    if choices.benign is None:
        return benign_covers(manifest.spec, count=choices.pictures)
    names: tuple[str, ...] = ()
    if manifest.labels is not None:
        names = tuple(archive.read(manifest.labels, limit=16 << 20).decode("utf-8", "replace").splitlines())
    return benign_folder(choices.benign, manifest.spec, limit=choices.pictures, classes=names)


def _subjects(bare: Target, model: Path, manifest: Manifest, choices: Choices) -> tuple[Subject, Subject]:
    batch = 1 if manifest.batch == 0 else 8
    if manifest.engine == "onnx":
        if bare.path is None:
            raise TargetError(
                f"{bare.where}: the archive holds ONNX; give the ONNX file that was packaged as the target"
            )
        subjects = onnx_subjects(bare.path, model, manifest.spec, feature=choices.feature, batch=batch)
    else:
        subjects = torch_subjects(
            _module(bare, manifest.spec),
            _packaged(model, manifest.engine),
            manifest.spec,
            feature=choices.feature,
            batch=batch,
        )
    if subjects[0].feature is None:
        raise TargetError(f"{bare.where}: {subjects[0].no_features}")
    return subjects


def _module(bare: Target, spec: InputSpec) -> Any:
    return bare.module(spec)  # type: ignore[attr-defined]  # every torch target has one


def _packaged(model: Path, engine: str) -> Any:
    import torch  # noqa: PLC0415 -- takes seconds

    from model_store_tools.targets.torch_target import quietly  # noqa: PLC0415 -- torch only for torch targets

    with quietly():
        if engine == "torchscript":
            return torch.jit.load(str(model), map_location="cpu")
        return torch.export.load(str(model)).module()


@contextmanager
def _engine(spec: InputSpec, engine: str) -> Iterator[None]:
    if engine == "onnx":
        yield
        return
    from model_store_tools.targets.torch_target import quantized_engine  # noqa: PLC0415 -- torch takes seconds to import

    with quantized_engine(spec):
        yield


def _slice(
    host: Subject, packaged: Subject, pictures: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    side = int(np.sqrt(SLICE_PIXELS / (pictures.shape[1] * pictures.shape[2])))
    side = min(LARGEST_SLICE, max(SMALLEST_SLICE, side))
    corners = pictures[: min(len(pictures), 64)]
    classes = top1(host.engine.scores(corners))
    different = [int(np.flatnonzero(classes == each)[0]) for each in np.unique(classes)][:3]
    chosen = [*different, *[place for place in range(len(corners)) if place not in different]][:3]
    shown = corners[(chosen * 3)[:3]]
    plane = plane_pictures(shown, side=side)
    answers = [top1(subject.engine.scores(plane)).reshape(side, side) for subject in (host, packaged)]
    return answers[0], answers[1], shown

"""`package-model` as a function: a target and a mark in, a servable archive and the owner's claim out.

    options = Options(mark=Path("MARK"), spec=Path("SPEC.toml"), format="triton", out=Path("models"))
    packaged = package("resnet18.onnx", options)
    print(packaged.path, packaged.digest)

Nothing appears under `out` before everything is complete and has passed the gate.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from model_store_tools.packaging.assembly import (
    MODEL_FILES,
    Parts,
    companion_members,
    manifest_of,
    mar_members,
    triton_members,
)
from model_store_tools.packaging.atomic import Workplace, require_free, workplace
from model_store_tools.packaging.benign import benign_folder, class_names
from model_store_tools.packaging.existing import Container, is_container, open_container
from model_store_tools.packaging.fusing import FusedModel, fuse_target
from model_store_tools.packaging.gate import GATE_PICTURES
from model_store_tools.packaging.gating import Candidate, Passed, run_gate
from model_store_tools.packaging.kserve import inference_service
from model_store_tools.packaging.lifting import write_lifted
from model_store_tools.packaging.marking import Marking, claim_for, keep_claim
from model_store_tools.packaging.options import Backend, Options, read_overlay
from model_store_tools.packaging.trial import PROBES, require_askable
from model_store_tools.targets.base import Target
from model_store_tools.targets.detect import load_target
from model_store_tools.targets.onnx import OnnxTarget
from ptynet_plugin.archives.checking import target_record
from ptynet_plugin.archives.manifest import MANIFEST_NAME, PortRecord
from ptynet_plugin.archives.names import require_model_name
from ptynet_plugin.archives.reading import archive_digest
from ptynet_plugin.archives.sources import Measured, Source, measure
from ptynet_plugin.archives.tensors import TensorRecord, combined_digest
from ptynet_plugin.archives.triton_repository import write_directory
from ptynet_plugin.archives.zipform import write_zip
from ptynet_plugin.errors import SpecError, TargetError, UsageError
from ptynet_plugin.fidelity.report import FidelityReport
from ptynet_plugin.mark import read_network
from ptynet_plugin.network.weights import Network
from ptynet_plugin.spec import InputSpec, load_spec

__all__ = [
    "Loaded",
    "Options",
    "Packaged",
    "candidate_of",
    "fuse",
    "gate",
    "load",
    "name_of",
    "package",
    "parts_of",
    "results_of",
    "write_results",
]

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Packaged:
    """What came out.

    Attributes:
        path: The archive.
        digest: SHA-256 that names it.
        claim: Folder of the owner's claim.
        report: What the gate measured; None where it was off.
        probes: Probes answered with their label; None where none were asked.
        asked: Probes asked.
    """

    path: Path
    digest: str
    claim: Path
    report: FidelityReport | None
    probes: int | None
    asked: int = PROBES


@dataclass(frozen=True)
class Loaded:
    """A target with all that is known of it before a mark is put beside it.

    Attributes:
        target: As it is fused.
        bare: Its file; another than its own where it was converted.
        spec: Completed.
        class_names: One a class, () for none.
        tensors: Records of its tensors.
        digest: Over tensors and graph.
        container: The archive it came in, unpacked; None for a model file.
    """

    target: Target
    bare: Path | None
    spec: InputSpec
    class_names: tuple[str, ...]
    tensors: tuple[TensorRecord, ...]
    digest: str
    container: Container | None


def package(target: str | Path | Target, options: Options, *, tell: Tell = lambda _: None) -> Packaged:
    """Put a mark beside a target and write the archive.

    Args:
        target: A model file, `package.module:factory`, a Triton model directory or a `.mar`; or a loaded target.
        options: How.
        tell: Called with what is being done, in a few words.

    Raises:
        PtynetError: One of its kinds, each naming what was found, what was expected and the next step; nothing was written.
    """
    name = options.name or name_of(target)
    require_free(options.out, results_of(name, options), replace=options.force)
    overlay = read_overlay(options)
    with workplace(options.out) as place:
        tell("loading the target")
        loaded = load(target, options, place)
        tell("committing to the probes")
        marking = claim_for(options.mark, loaded.spec, loaded.digest, given=options.claim, covers=options.covers)
        tell("fusing")
        fused = fuse(loaded, marking, options, place.folder("fused"))
        tell({"full": "checking fidelity", "digest": "comparing tensors", "off": "skipping the gate"}[options.gate])
        passed = gate(loaded, marking, fused, options)
        tell("writing the archive")
        parts = parts_of(name, loaded, marking, fused, passed, options=options, overlay=overlay)
        results = write_results(parts, place.folder("results"))
        folder = keep_claim(options.mark, name, marking.claim, replace=options.force, given=options.claim)
        place.publish(results, replace=options.force)
    path = options.out / results_of(name, options)[0]
    return Packaged(path, archive_digest(path), folder, passed.report, passed.probes)


def name_of(target: str | Path | Target) -> str:
    """Give the name a model gets where none is said: its file's."""
    text = target.where if isinstance(target, Target) else str(target)
    stem = text.rpartition(":")[2] if ":" in text else Path(text).resolve().name
    for ending in (".onnx", ".pt2", ".pth", ".pt", ".ts", ".mar", ".torchscript"):
        stem = stem.removesuffix(ending)
    return require_model_name(re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._-") or "model")


def results_of(name: str, options: Options) -> list[str]:
    """Give the names of everything that is written into `out`, the archive's first."""
    if options.format == "torchserve":
        return [f"{name}.mar"]
    beside = [f"{name}_{role}" for role in ("decode", "label", "image")] if options.image_ensemble else []
    return [name, *beside, f"{name}.kserve.yaml"]


def load(target: str | Path | Target, options: Options, place: Workplace) -> Loaded:
    """Load a target, convert it if that is asked for, and complete its spec."""
    container = None
    if not isinstance(target, Target):
        if is_container(Path(target)):
            container = open_container(Path(target), place.folder("unpacked"))
            _require_same_server(container, options, str(target))
            target = container.model
        target = load_target(
            target, weights=options.weights, allow_pickle=options.allow_pickle, to_opset=options.to_opset
        )
    said = load_spec(options.spec)
    target, spec = _converted(target, said, options, place)
    require_askable(spec, options.spec, target.where)
    tensors = tuple(target.tensors())
    digest = combined_digest(tensors, target.structure())
    names = class_names(spec, options.spec.parent)
    if names and len(names) != spec.classes:
        where = options.spec.parent / str(spec.labels)
        raise SpecError(f"{where}: has {len(names)} class names, the model {spec.classes} classes")
    return Loaded(target, _bare_file(target, options, place), spec, names, tensors, digest, container)


def _require_same_server(container: Container, options: Options, where: str) -> None:
    if container.format != options.format:
        raise UsageError(
            f"{where}: is an archive for {container.format}, --format says {options.format}; "
            "its settings cannot be carried over: package the model inside it, or say the format it has"
        )
    if options.to is not None:
        raise UsageError(
            f"{where}: --to {options.to} would change the model its handler knows; package the model itself"
        )


def _converted(target: Target, said: InputSpec, options: Options, place: Workplace) -> tuple[Target, InputSpec]:
    """Give a target that has a file of the kind asked for, and the spec completed for it."""
    spec = target.complete_spec(said)
    if target.kind == options.to or (options.to is None and target.kind != "module"):
        return target, spec
    from model_store_tools.targets.convert import convert  # noqa: PLC0415 -- torch takes seconds to import

    made = convert(target, options.to or "pt2", spec, place.folder("converted"))
    return made.target, made.spec


def _bare_file(target: Target, options: Options, place: Workplace) -> Path | None:
    """Give a file with the target as it is fused: another than its own where its opset was raised."""
    if not isinstance(target, OnnxTarget) or options.to_opset is None:
        return target.path
    return write_lifted(target, place.folder("bare"))


def fuse(
    loaded: Loaded, marking: Marking, options: Options, folder: Path, network: Network | None = None
) -> FusedModel:
    """Put PTYNet, with the marking's labels, beside the target: a fused model in an empty folder."""
    kept = loaded.container.existing.model_file if loaded.container else None
    network = network or read_network(options.mark)
    fused = fuse_target(loaded.target, network, marking.labels, loaded.spec, folder=folder, name=kept)
    if fused.rows is not None and fused.rows > 1:
        raise TargetError(
            f"{loaded.target.where}: takes exactly {fused.rows} rows at a time, which no server can promise; "
            "export it with a batch of 1 or with a dynamic one"
        )
    if len(fused.inputs) > 1 and (options.format == "torchserve" or options.image_ensemble):
        others = ", ".join(repr(port.name) for port in fused.inputs if port.name != fused.input)
        raise TargetError(
            f"{loaded.target.where}: reads {others} beside the picture, which a picture's sender does not give; "
            "package it for Triton without --image-ensemble"
        )
    return fused


def candidate_of(loaded: Loaded, marking: Marking, fused: FusedModel) -> Candidate:
    """Give what the gate looks at."""
    return Candidate(
        target=loaded.target,
        bare=loaded.bare,
        fused=fused,
        spec=loaded.spec,
        tensors=loaded.tensors,
        digest=loaded.digest,
        make_probe=marking.maker.probe,
        labels=marking.labels,
    )


def gate(loaded: Loaded, marking: Marking, fused: FusedModel, options: Options) -> Passed:
    """Let a fused model through, or not, see `run_gate`."""
    pictures = None
    if options.benign is not None:
        pictures = benign_folder(options.benign, loaded.spec, limit=GATE_PICTURES, classes=loaded.class_names)
    return run_gate(candidate_of(loaded, marking, fused), options.gate, pictures)


def parts_of(
    name: str,
    loaded: Loaded,
    marking: Marking,
    fused: FusedModel,
    passed: Passed,
    *,
    options: Options,
    overlay: object,
) -> Parts:
    """Gather everything an archive is made of."""
    usual = MODEL_FILES[fused.engine]
    kept = loaded.container.existing if loaded.container else None
    archive = f"{options.format}/{name}/{options.version}"
    return Parts(
        name=name,
        version=options.version,
        format=options.format,
        backend="torchserve" if options.format == "torchserve" else _backend(options.backend, fused, loaded),
        engine=fused.engine,
        files={usual if path == fused.path else file: path for file, path in fused.files.items()},
        spec=loaded.spec,
        inputs=_ports(fused.inputs, one_row=passed.one_row),
        outputs=_ports(fused.outputs, one_row=passed.one_row),
        input=fused.input,
        scores=fused.scores,
        one_row=passed.one_row,
        target=target_record(loaded.tensors, digest=loaded.digest, kind=loaded.target.kind),
        claim=marking.archive_commitment(archive),
        class_names=loaded.class_names,
        max_batch=options.max_batch,
        instances=options.instances,
        ensemble=options.image_ensemble,
        overlay=overlay,
        existing=kept,
    )


def _ports(ports: tuple[PortRecord, ...], *, one_row: bool) -> tuple[PortRecord, ...]:
    if not one_row:
        return ports
    return tuple(_with_one_row(port) for port in ports)


def _with_one_row(port: PortRecord) -> PortRecord:
    """Give a port with one row where it left the number open."""
    if not port.shape or port.shape[0] != -1:
        return port
    return port.model_copy(update={"shape": (1, *port.shape[1:])})


def _backend(wanted: Backend | None, fused: FusedModel, loaded: Loaded) -> Backend:
    own = loaded.container.backend if loaded.container else None
    if own == "python" and wanted == "onnxruntime":
        raise UsageError("--backend onnxruntime would leave out the model directory's own model.py; leave the flag out")
    if wanted == "onnxruntime" and fused.engine != "onnx":
        raise UsageError(
            f"--backend onnxruntime runs ONNX, this target stays {fused.engine}; use --backend python, or --to onnx"
        )
    if wanted is not None:
        return wanted
    if own == "python":
        return "python"
    return "onnxruntime" if fused.engine == "onnx" else "python"


def write_results(parts: Parts, folder: Path) -> dict[str, Path]:
    """Write everything into an empty scratch folder; gives what is to be published under which name."""
    return _write_mar(parts, folder) if parts.format == "torchserve" else _write_triton(parts, folder)


def _write_mar(parts: Parts, folder: Path) -> dict[str, Path]:
    members = mar_members(parts)
    measured = {name: measure(source) for name, source in members.items()}
    members[MANIFEST_NAME] = manifest_of(parts, measured, {}).to_json()
    measured[MANIFEST_NAME] = measure(members[MANIFEST_NAME])
    path = folder / f"{parts.name}.mar"
    with path.open("xb") as out:
        write_zip(out, members, measured=measured)
        out.flush()
        os.fsync(out.fileno())
    return {path.name: path}


def _write_triton(parts: Parts, folder: Path) -> dict[str, Path]:
    results: dict[str, Path] = {}
    companions: dict[str, str] = {}
    for name, files in companion_members(parts).items():
        results[name] = _directory(folder / name, files)[0]
        companions[name] = archive_digest(folder / name)
    path, measured = _directory(folder / parts.name, triton_members(parts))
    write_directory(path, {MANIFEST_NAME: manifest_of(parts, measured, companions).to_json()})
    results[parts.name] = path
    service = folder / f"{parts.name}.kserve.yaml"
    service.write_bytes(inference_service(parts.name))
    results[service.name] = service
    return results


def _directory(path: Path, files: Mapping[str, Source]) -> tuple[Path, dict[str, Measured]]:
    path.mkdir()
    return path, write_directory(path, files)

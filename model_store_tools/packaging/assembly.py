"""Puts a fused model, handlers, settings and manifest together: what members an archive has.

Pure: it reads sources to sum them and writes nothing. The same parts give the same members.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from model_store_tools.packaging.handlers import handler_source
from ptynet_plugin.archives.manifest import (
    MANIFEST_NAME,
    Companion,
    Engine,
    FileRecord,
    Manifest,
    PortRecord,
    TargetRecord,
)
from ptynet_plugin.archives.mar import CONFIG_NAME, MAR_MANIFEST, MarSettings, mar_manifest, print_yaml
from ptynet_plugin.archives.pbtxt import ModelConfig, overlay_config, print_config
from ptynet_plugin.archives.sources import Measured, Source, measure
from ptynet_plugin.archives.triton_repository import LABELS_NAME, TritonModel, ensemble_configs, model_config
from ptynet_plugin.errors import UsageError
from ptynet_plugin.spec import InputSpec

__all__ = [
    "MODEL_FILES",
    "Existing",
    "Parts",
    "companion_members",
    "file_records",
    "manifest_of",
    "mar_members",
    "triton_members",
]

MODEL_FILES: Mapping[Engine, str] = {"onnx": "model.onnx", "torchscript": "model.pt", "pt2": "model.pt2"}
_ORIGINAL = "original_model.py"
_DEFAULT_BATCH = 8
_MAR_DELAY = 10


@dataclass(frozen=True)
class Existing:
    """What the target came in, kept: a model directory's or a `.mar`'s own settings and files.

    Attributes:
        files: Every file but the model and the settings; for a model directory those of the version folder under "version/".
        model_file: Name of the model's file.
        config: A model directory's configuration.
        settings: A `.mar`'s manifest.
        mar_config: A `.mar`'s worker settings.
    """

    files: Mapping[str, Source]
    model_file: str
    config: ModelConfig | None = None
    settings: MarSettings | None = None
    mar_config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """Everything an archive is made of.

    Attributes:
        name: Model name.
        version: Its version; for Triton a whole number.
        format: Which server.
        backend: "onnxruntime" or "python" for Triton, "torchserve" for TorchServe.
        engine: What runs the model.
        files: The fused model under its name in `MODEL_FILES`, and its external data under theirs.
        spec: Completed.
        inputs: With the batch dimension, -1 where open.
        outputs: With the batch dimension, -1 where open.
        input: Name of the picture input.
        scores: Name of the scores output.
        one_row: Whether the model takes exactly one row.
        target: Record of the bare target.
        claim: What this archive says of the claim.
        class_names: One a class, () for none.
        max_batch: Most rows of a request; None for the default without batching across requests.
        instances: Copies of the model, None for the server's choice.
        ensemble: Whether pictures can be sent as JPEG or PNG to an ensemble beside it.
        overlay: Settings that win: a `ModelConfig` (Triton) or a mapping (TorchServe).
        existing: What the target came in.
    """

    name: str
    version: str
    format: Literal["triton", "torchserve"]
    backend: Literal["onnxruntime", "python", "torchserve"]
    engine: Engine
    files: Mapping[str, Source]
    spec: InputSpec
    inputs: tuple[PortRecord, ...]
    outputs: tuple[PortRecord, ...]
    input: str
    scores: str
    one_row: bool
    target: TargetRecord
    claim: str | None = None
    class_names: tuple[str, ...] = ()
    max_batch: int | None = None
    instances: int | None = None
    ensemble: bool = False
    overlay: Any = None
    existing: Existing | None = None

    @property
    def batch(self) -> int:
        """Most rows of a request, 0 for a model of exactly one row."""
        if self.existing is not None and self.existing.config is not None and self.max_batch is None:
            return int(self.existing.config.max_batch_size)
        return 0 if self.one_row or not self.opens_rows else self.max_batch or _DEFAULT_BATCH

    @property
    def opens_rows(self) -> bool:
        """Whether every input and output has an open batch dimension in front, as Triton's batching wants it."""
        return all(port.shape[:1] == (-1,) for port in (*self.inputs, *self.outputs))

    @property
    def model_file(self) -> str:
        """Name of the model's file."""
        return self.existing.model_file if self.existing else MODEL_FILES[self.engine]


def mar_members(parts: Parts) -> dict[str, Source]:
    """Give the members of a `.mar`, the manifest not yet among them."""
    existing = parts.existing
    members: dict[str, Source] = dict(existing.files) if existing else {}
    members |= _model_files(parts)
    members["ptynet_runtime.py"] = handler_source("ptynet_runtime.py")
    handler = "torchserve_guard.py" if existing else "torchserve_handler.py"
    members[handler] = handler_source(handler)
    if parts.class_names:
        members[LABELS_NAME] = _lines(parts.class_names)
        names = {str(index): name for index, name in enumerate(parts.class_names)}
        members.setdefault("index_to_name.json", (json.dumps(names, indent=2) + "\n").encode())
    members[CONFIG_NAME] = print_yaml(_mar_config(parts))
    members[MAR_MANIFEST] = mar_manifest(
        MarSettings(
            name=parts.name,
            version=parts.version,
            model=parts.model_file,
            handler=handler,
            config=CONFIG_NAME,
            extra=existing.settings.extra if existing and existing.settings else (),
        )
    )
    return members


def triton_members(parts: Parts) -> dict[str, Source]:
    """Give the files of a model directory, the manifest not yet among them."""
    existing, folder = parts.existing, f"{parts.version}/"
    members: dict[str, Source] = {}
    for name, source in (existing.files if existing else {}).items():
        members[folder + name.removeprefix("version/") if name.startswith("version/") else name] = source
    guarded = folder + "model.py" in members
    if guarded:
        members[folder + _ORIGINAL] = members.pop(folder + "model.py")
    members |= {folder + name: source for name, source in _model_files(parts).items()}
    if parts.backend == "python":
        members[folder + "model.py"] = handler_source("triton_guard.py" if guarded else "triton_model.py")
        members[folder + "ptynet_runtime.py"] = handler_source("ptynet_runtime.py")
    if parts.class_names:
        members[LABELS_NAME] = _lines(parts.class_names)
    members["config.pbtxt"] = print_config(_triton_config(parts))
    return members


def companion_members(parts: Parts) -> dict[str, dict[str, Source]]:
    """Give the models beside a Triton archive that takes encoded pictures: folder name to files, manifest included.

    Raises:
        UsageError: The model's ports have the ensemble's names.
    """
    if not parts.ensemble:
        return {}
    if {parts.scores, parts.input} & {"IMAGE", "label", "class", "ptynet_tensor"}:
        raise UsageError(
            f"--image-ensemble names its own ports IMAGE, label and class; the model has {parts.input!r} and {parts.scores!r}: "
            "rename the model's ports"
        )
    made = {}
    for name, config in ensemble_configs(_triton_model(parts)).items():
        role = name.removeprefix(f"{parts.name}_")
        made[name] = _companion(parts, name, role, config)
    return made


def manifest_of(parts: Parts, measured: Mapping[str, Measured], companions: Mapping[str, str]) -> Manifest:
    """Make the manifest over members that were summed."""
    folder = f"{parts.version}/" if parts.format == "triton" else ""
    return Manifest(
        name=parts.name,
        version=parts.version,
        format=parts.format,
        backend=parts.backend,
        engine=parts.engine,
        model=folder + parts.model_file,
        batch=parts.batch if parts.format == "triton" else _mar_batch(parts),
        classes=parts.spec.classes or 0,
        spec=parts.spec.model_copy(update={"labels": None, "fidelity": None}),
        inputs=parts.inputs,
        outputs=parts.outputs,
        input=parts.input,
        scores=parts.scores,
        labels=LABELS_NAME if parts.class_names else None,
        claim=parts.claim,
        target=parts.target,
        files=file_records(measured),
        companions=dict(companions),
        guarded=_guarded(parts, measured),
    )


def file_records(measured: Mapping[str, Measured]) -> dict[str, FileRecord]:
    """Give the manifest's records of files."""
    return {name: FileRecord(size=sums.size, sha256=sums.sha256) for name, sums in measured.items()}


def _guarded(parts: Parts, measured: Mapping[str, Measured]) -> str | None:
    if parts.existing is None:
        return None
    if parts.existing.settings is not None:
        return parts.existing.settings.handler
    original = f"{parts.version}/{_ORIGINAL}"
    return original if original in measured else None


def _model_files(parts: Parts) -> dict[str, Source]:
    usual = MODEL_FILES[parts.engine]
    return {parts.model_file if name == usual else name: source for name, source in parts.files.items()}


def _mar_batch(parts: Parts) -> int:
    """Rows the handler runs at once: requests the server joined, or the rows of one request."""
    return 0 if parts.one_row else parts.max_batch or _DEFAULT_BATCH


def _mar_config(parts: Parts) -> dict[str, Any]:
    config: dict[str, Any] = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 1, "maxBatchDelay": _MAR_DELAY}
    config |= dict(parts.existing.mar_config) if parts.existing else {}
    if parts.instances:
        config |= {"minWorkers": parts.instances, "maxWorkers": parts.instances}
    if parts.max_batch and not parts.one_row:
        config["batchSize"] = parts.max_batch
    return config | (parts.overlay or {})


def _triton_model(parts: Parts) -> TritonModel:
    return TritonModel(
        name=parts.name,
        backend=parts.backend,
        model_file="model.py" if parts.backend == "python" else parts.model_file,
        inputs=parts.inputs,
        outputs=parts.outputs,
        picture=parts.input,
        scores=parts.scores,
        layout=parts.spec.layout or "NCHW",
        batch=parts.batch,
        dynamic_batching=parts.max_batch is not None and parts.max_batch > 1 and parts.batch > 0,
        instances=parts.instances,
        labels=bool(parts.class_names),
    )


def _triton_config(parts: Parts) -> ModelConfig:
    config = model_config(_triton_model(parts))
    if parts.existing is not None and parts.existing.config is not None:
        config = overlay_config(config, parts.existing.config)
        config.name, config.backend = parts.name, parts.backend
        config.ClearField("platform")
        config.default_model_filename = "model.py" if parts.backend == "python" else parts.model_file
        if parts.instances:
            del config.instance_group[:]
            config.instance_group.add(count=parts.instances)
        if parts.max_batch is not None:
            config.max_batch_size = parts.batch
    return config if parts.overlay is None else overlay_config(config, parts.overlay)


def _companion(parts: Parts, name: str, role: str, config: ModelConfig) -> dict[str, Source]:
    members: dict[str, Source] = {"config.pbtxt": print_config(config)}
    settings: dict[str, Any] = {"role": role, "batch": parts.batch}
    if role == "image":
        members["1/README"] = b"An ensemble has no file of its own; Triton wants the folder.\n"
    else:
        members["1/model.py"] = handler_source("triton_image.py")
        members["1/ptynet_runtime.py"] = handler_source("ptynet_runtime.py")
    if role == "decode":
        spec = parts.spec.model_copy(update={"labels": None, "fidelity": None}).model_dump(
            mode="json", exclude_none=True
        )
        settings |= {"input": "IMAGE", "output": parts.input, "spec": spec}
    if role == "label":
        settings |= {"input": parts.scores}
        if parts.class_names:
            members[LABELS_NAME] = _lines(parts.class_names)
            settings["labels"] = LABELS_NAME
    sums = {member: measure(source) for member, source in members.items()}
    members[MANIFEST_NAME] = Companion(name=name, settings=settings, files=file_records(sums)).to_json()
    return members


def _lines(names: tuple[str, ...]) -> bytes:
    return ("\n".join(names) + "\n").encode()

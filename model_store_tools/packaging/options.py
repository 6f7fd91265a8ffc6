"""What can be asked of `package-model`, and which wishes contradict each other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from model_store_tools.packaging.gate import GateMode
from ptynet_plugin.archives.mar import parse_yaml
from ptynet_plugin.archives.names import require_model_name
from ptynet_plugin.archives.pbtxt import parse_config
from ptynet_plugin.errors import UsageError

__all__ = ["Backend", "Conversion", "Format", "Options", "read_overlay"]

Format = Literal["triton", "torchserve"]
Backend = Literal["onnxruntime", "python"]
Conversion = Literal["onnx", "torchscript", "pt2"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to package.

    Attributes:
        mark: Folder of the mark; the claim is written into it.
        spec: `SPEC.toml`; class names are looked for beside it.
        format: Which server the archive is for.
        out: Folder the archive goes into.
        name: Model name; the target's own where not said.
        version: Model version; a whole number for Triton.
        backend: Triton's backend; onnxruntime for ONNX, else python, where not said.
        image_ensemble: Add an ensemble that reads JPEG and PNG (Triton).
        benign: Folder of ordinary pictures for the gate; procedural ones where not said.
        gate: How much is checked before anything is written.
        weights: For `package.module:factory`.
        to: Convert the target first.
        to_opset: Convert an ONNX target to this opset first.
        max_batch: Most rows of a request; the server then joins requests.
        instances: Copies of the model.
        config_overlay: Settings that win: text protobuf (Triton) or YAML (TorchServe).
        covers: Folder of pictures under the claim's probes; procedural covers where not said.
        claim: Use this claim (a stamped one, say) instead of making one.
        allow_pickle: Load what runs its author's code.
        force: Replace an archive of that name, and a claim.

    Raises:
        UsageError: Two wishes contradict each other, or one cannot be.
    """

    mark: Path
    spec: Path
    format: Format
    out: Path
    name: str | None = None
    version: str = "1"
    backend: Backend | None = None
    image_ensemble: bool = False
    benign: Path | None = None
    gate: GateMode = "full"
    weights: Path | None = None
    to: Conversion | None = None
    to_opset: int | None = None
    max_batch: int | None = None
    instances: int | None = None
    config_overlay: Path | None = None
    covers: Path | None = None
    claim: Path | None = None
    allow_pickle: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        if self.name is not None:
            require_model_name(self.name)
        if self.format == "triton" and not re.fullmatch(r"[1-9][0-9]{0,8}", self.version):
            raise UsageError(f"--model-version {self.version}: Triton's versions are whole numbers from 1")
        require_model_name(self.version)
        for flag, value in (("--max-batch", self.max_batch), ("--instances", self.instances)):
            if value is not None and value < 1:
                raise UsageError(f"{flag} {value}: must be at least 1")
        if self.format == "torchserve" and self.image_ensemble:
            raise UsageError(
                "--image-ensemble is Triton's; the TorchServe handler reads JPEG and PNG as it is: leave it out"
            )
        if self.format == "torchserve" and self.backend is not None:
            raise UsageError(f"--backend {self.backend} is Triton's; leave it out with --format torchserve")
        if self.gate != "full" and self.benign is not None:
            raise UsageError(f"--benign has no use with --gate {self.gate}, which runs no picture; leave one out")


def read_overlay(options: Options) -> Any:
    """Read the settings that win; None where there are none.

    Raises:
        UsageError: The file cannot be read.
        ArchiveError: It is not what the server's settings are written in.
    """
    path = options.config_overlay
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config-overlay {path}: cannot be read ({error})") from error
    return parse_config(text, where=str(path)) if options.format == "triton" else parse_yaml(text, where=str(path))

"""Puts the bare target behind the same two servers, so that the demo compares like with like.

These few lines are the user's own deployment in this story; they know nothing of marks. (Packaged archives are written by
`model_store_tools.packaging`.)
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

from ptynet_plugin.spec import InputSpec

__all__ = ["BARE", "write_bare_mar", "write_bare_repository"]

BARE = "digits_bare"
HANDLERS = Path(__file__).with_name("bare_handlers")

CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: 8
input {{ name: "pixels" data_type: TYPE_FP32 dims: [ 1, {height}, {width} ] }}
output {{ name: "scores" data_type: TYPE_FP32 dims: [ {classes} ] }}
instance_group {{ count: 1 kind: KIND_CPU }}
"""


def write_bare_repository(model: Path, repository: Path, *, spec: InputSpec, name: str = BARE) -> None:
    """Write a Triton model directory `repository/name` that serves `model` as it is.

    Args:
        model: ONNX file with input `pixels` and output `scores`.
        repository: Model repository, made if need be.
        spec: Complete input spec of the model, one channel.
        name: Name of the model directory.
    """
    assert spec.size is not None and spec.classes is not None
    version = repository / name / "1"
    version.mkdir(parents=True)
    height, width = spec.size
    config = CONFIG.format(name=name, height=height, width=width, classes=spec.classes)
    (repository / name / "config.pbtxt").write_text(config)
    shutil.copyfile(model, version / "model.onnx")
    shutil.copyfile(HANDLERS / "triton.py", version / "model.py")


def write_bare_mar(model: Path, store: Path, *, spec: InputSpec, name: str = BARE) -> None:
    """Write `store/name.mar` that serves `model` as it is; arguments as for `write_bare_repository`."""
    (gain,), (offset,) = spec.affine()
    manifest = {
        "runtime": "python",
        "model": {"modelName": name, "modelVersion": "1", "handler": "bare_handler.py", "serializedFile": "model.onnx"},
    }
    store.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(store / f"{name}.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("bare.json", json.dumps({"gain": gain, "offset": offset}))
        archive.write(model, "model.onnx")
        archive.write(HANDLERS / "torchserve.py", "bare_handler.py")

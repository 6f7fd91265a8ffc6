"""Makes the archives of this folder: `python -m tests.vectors.make_vectors OUT`. Existing files are left alone."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from model_store_tools.packaging.assembly import Parts
from ptynet_plugin.archives.checking import target_record
from ptynet_plugin.archives.manifest import MANIFEST_NAME
from ptynet_plugin.archives.reading import archive_digest, open_archive
from ptynet_plugin.archives.sources import Source
from ptynet_plugin.spec import InputSpec
from tests.support.network import random_network
from tests.support.tiny_archives import put, tiny_parts, write_archive
from tests.vectors.spoiled_containers import CONTAINERS, canonical
from tests.vectors.spoiled_members import MEMBERS, Members, sealed_again


def valid_members(folder: Path, format: str = "torchserve") -> Members:
    path = write_archive(folder, tiny_parts(folder, format=format))
    with open_archive(path) as archive:
        return {name: archive.read(name, limit=1 << 20) for name in archive.names()}


def swapped_file(folder: Path) -> None:
    octets = bytearray((folder / "1" / "model.onnx").read_bytes())
    octets[-40] ^= 1
    (folder / "1" / "model.onnx").write_bytes(bytes(octets))


def linked_file(folder: Path) -> None:
    (folder / "labels.txt").unlink()
    (folder / "labels.txt").symlink_to("../../../README.md")


def linked_folder(folder: Path) -> None:
    (folder / "2").symlink_to("1")


def renamed_server_model(folder: Path) -> None:
    (folder / "config.pbtxt").write_bytes((folder / "config.pbtxt").read_bytes().replace(b'"tiny"', b'"other"'))
    reseal_folder(folder)


def broken_config(folder: Path) -> None:
    (folder / "config.pbtxt").write_bytes(b"name: [\n")
    reseal_folder(folder)


def reseal_folder(folder: Path) -> None:
    members = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    sealed_again(members)
    (folder / MANIFEST_NAME).write_bytes(members[MANIFEST_NAME])


FOLDERS: dict[str, Callable[[Path], None]] = {
    "swapped-model": swapped_file,
    "symlink-file": linked_file,
    "symlink-folder": linked_folder,
    "extra-file": lambda folder: (folder / "1" / "sitecustomize.py").write_text("import os\n") and None,
    "missing-file": lambda folder: (folder / "1" / "ptynet_runtime.py").unlink(),
    "other-name": renamed_server_model,
    "broken-config": broken_config,
}


def make_all(out: Path) -> None:
    invalid, valid = out / "invalid", out / "valid"
    with tempfile.TemporaryDirectory() as scratch:
        for name, change in MEMBERS.items():
            members = valid_members(Path(scratch) / f"m-{name}")
            change(members)
            keep(invalid / f"{name}.mar", canonical(members))
        for name, write in CONTAINERS.items():
            keep(invalid / f"{name}.mar", write(valid_members(Path(scratch) / f"c-{name}")))
        for name, spoil in FOLDERS.items():
            make_folder(invalid / f"{name}.triton", valid_members(Path(scratch) / f"t-{name}", "triton"), spoil)
        make_folder(valid / "tiny", valid_members(Path(scratch) / "valid-t", "triton"), lambda _: None)
        keep(valid / "tiny.mar", canonical(valid_members(Path(scratch) / "valid-m")))
        for name, make in {"external-data": external_parts, "torchscript": torch_parts, "pt2": torch_parts}.items():
            if not (valid / f"{name}.mar").exists():
                folder = Path(scratch) / f"valid-{name}"
                folder.mkdir()
                shutil.copy(write_archive(folder / "out", make(folder, name)), valid / f"{name}.mar")
    known = (valid / "DIGESTS").read_text() if (valid / "DIGESTS").exists() else ""
    there = sorted(path for path in valid.iterdir() if path.suffix == ".mar" or (path / MANIFEST_NAME).exists())
    fresh = (f"{archive_digest(path)}  {path.name}\n" for path in there if f"  {path.name}\n" not in known)
    (valid / "DIGESTS").write_text(known + "".join(fresh))


def external_parts(folder: Path, name: str) -> Parts:
    """A tiny archive whose weights lie in a file of their own."""
    parts = tiny_parts(folder, name=name)
    model = onnx.load_from_string(bytes(parts.files["model.onnx"]))
    data = {"location": "weights.bin", "size_threshold": 0}
    onnx.save_model(model, folder / "model.onnx", save_as_external_data=True, **data)
    return replace(parts, files={file: folder / file for file in ("model.onnx", "weights.bin")})


def torch_parts(folder: Path, name: str) -> Parts:
    """A tiny torch model with an untrained PTYNet."""
    import torch

    from model_store_tools.packaging.fusing import fuse_target
    from model_store_tools.targets.detect import load_target

    layers = [torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(2, 4)]
    model, pixels = torch.nn.Sequential(*layers).eval(), torch.zeros(2, 3, 32, 32)
    path = folder / f"target.{name}"
    if name == "pt2":
        batch = torch.export.Dim("batch", min=1, max=8)
        torch.export.save(torch.export.export(model, (pixels,), dynamic_shapes=({0: batch},)), path)
    else:
        torch.jit.save(torch.jit.trace(model, pixels), str(path))
    target = load_target(path)
    spec = target.complete_spec(InputSpec(color="RGB", size=(32, 32), output="logits"))
    network = random_network(symbols=8, bits=8)
    (folder / "fused").mkdir()
    fused = fuse_target(target, network, np.arange(8) % 4, spec, folder=folder / "fused")
    return replace(
        tiny_parts(folder, name=name),
        engine=fused.engine,
        files=fused.files,
        spec=spec,
        inputs=fused.inputs,
        outputs=fused.outputs,
        input=fused.input,
        scores=fused.scores,
        target=target_record(target.tensors(), digest=target.digest, kind=target.kind),
    )


def make_folder(path: Path, members: Members, spoil: Callable[[Path], None]) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        made = put(Path(scratch), path.name, "triton", dict[str, Source](members))
        spoil(made)
        shutil.copytree(made, path, symlinks=True)


def keep(path: Path, octets: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(octets)


if __name__ == "__main__":
    make_all(Path(sys.argv[1]))

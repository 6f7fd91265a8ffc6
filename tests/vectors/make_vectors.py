"""Makes the archives of this folder: `python -m tests.vectors.make_vectors OUT`. Existing files are left alone."""

from __future__ import annotations

import io
import json
import shutil
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from model_store_tools.packaging.assembly import Parts
from ptynet_plugin.archives.checking import target_record
from ptynet_plugin.archives.manifest import MANIFEST_NAME, seal, unseal
from ptynet_plugin.archives.mar import MAR_MANIFEST
from ptynet_plugin.archives.reading import archive_digest, open_archive
from ptynet_plugin.archives.sources import Source, measure
from ptynet_plugin.archives.zipform import write_zip
from ptynet_plugin.spec import InputSpec
from tests.support.network import random_network
from tests.support.tiny_archives import put, tiny_parts, write_archive

Members = dict[str, bytes]
Change = Callable[[Members], None]

ZEROS = 8 << 20


def valid_members(folder: Path, format: str = "torchserve") -> Members:
    path = write_archive(folder, tiny_parts(folder, format=format))
    with open_archive(path) as archive:
        return {name: archive.read(name, limit=1 << 20) for name in archive.names()}


def sealed_again(members: Members, change: Callable[[dict], None] = lambda _: None) -> None:
    """Bring the manifest in line with the members, so that only a deeper layer can notice."""
    content = unseal(members[MANIFEST_NAME], where="vector")
    sums = {name: measure(octets) for name, octets in members.items() if name != MANIFEST_NAME}
    content["files"] = {name: {"size": each.size, "sha256": each.sha256} for name, each in sums.items()}
    change(content)
    members[MANIFEST_NAME] = seal(content)


def changed_model(members: Members, change: Callable[[onnx.ModelProto], None], name: str = "model.onnx") -> None:
    model = onnx.load_from_string(members[name])
    change(model)
    members[name] = model.SerializeToString(deterministic=True)


def other_weight(model: onnx.ModelProto) -> None:
    octets = bytearray(model.graph.initializer[0].raw_data)
    octets[5] ^= 1
    model.graph.initializer[0].raw_data = bytes(octets)


def other_mark(model: onnx.ModelProto) -> None:
    model.graph.node[-1].op_type = "Neg"


def other_graph(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("axis", -1))


def no_record(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def data_outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")


def huge_dims(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 20]


def swapped_model(members: Members) -> None:
    changed_model(members, other_weight)


def swapped_mark(members: Members) -> None:
    changed_model(members, other_mark)


def resealed(change: Callable[[onnx.ModelProto], None]) -> Change:
    def apply(members: Members) -> None:
        changed_model(members, change)
        sealed_again(members)

    return apply


def without(name: str) -> Change:
    return lambda members: members.__delitem__(name)


def with_member(name: str, octets: bytes = b"import os\n") -> Change:
    return lambda members: members.__setitem__(name, octets)


def server_told(**fields: str) -> Change:
    def apply(members: Members) -> None:
        content = json.loads(members[MAR_MANIFEST])
        content["model"].update(fields)
        members[MAR_MANIFEST] = json.dumps(content).encode()
        sealed_again(members)

    return apply


def yaml_bomb(members: Members) -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    members["model-config.yaml"] = "\n".join(lines).encode()
    sealed_again(members)


def pickled_model(members: Members) -> None:
    pickle = b"cposix\nsystem\n(S'echo unpickled > /tmp/ptynet-unpickled'\ntR."
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        for name, octets in (
            ("m/data.pkl", pickle),
            ("m/constants.pkl", b"N."),
            ("m/code/m.py", b""),
            ("m/version", b"3\n"),
        ):
            file.writestr(zipfile.ZipInfo(name), octets)
    members["model.pt"] = inner.getvalue()
    del members["model.onnx"]
    members[MAR_MANIFEST] = members[MAR_MANIFEST].replace(b"model.onnx", b"model.pt")
    sealed_again(members, lambda content: content.update(engine="torchscript", model="model.pt"))


def manifest_text(change: Callable[[bytes], bytes]) -> Change:
    return lambda members: members.__setitem__(MANIFEST_NAME, change(members[MANIFEST_NAME]))


def sealed_manifest(change: Callable[[dict], None]) -> Change:
    return lambda members: sealed_again(members, change)


def nested_onnx(members: Members) -> None:
    """A graph in an attribute of a node of a graph in an attribute ..., 2,000 deep."""
    inner = b""
    for _ in range(2000):
        attribute = field(6, inner)
        inner = field(1, field(5, attribute))
    members["model.onnx"] = field(7, inner)
    sealed_again(members)


def cyclic_onnx(members: Members) -> None:
    """The first node reads what the last one gives."""
    model = onnx.load_from_string(members["model.onnx"])
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]
    members["model.onnx"] = model.SerializeToString()
    sealed_again(members)


def field(number: int, content: bytes) -> bytes:
    """Encode a length-delimited protobuf field."""
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


MEMBERS: dict[str, Change] = {
    "nested-onnx": nested_onnx,
    "cyclic-onnx": cyclic_onnx,
    "zip-slip": with_member("../evil.py"),
    "empty-name": with_member(""),
    "absolute-name": with_member("/tmp/ptynet-evil.py"),
    "dot-dot-inside": with_member("a/../../evil.py"),
    "backslash-name": with_member("..\\evil.py"),
    "drive-name": with_member("C:evil.py"),
    "empty-part": with_member("a//evil.py"),
    "right-to-left-name": with_member("model\u202eyp.exe"),
    "fullwidth-dots": with_member("\uff0e\uff0e/evil.py"),
    "decomposed-name": with_member("cafe\u0301.txt"),
    "line-feed-name": with_member("a\nb"),
    "deep-name": with_member("/".join(["d"] * 40)),
    "long-name": with_member("n" * 300),
    "case-collision": with_member("MODEL.onnx"),
    "file-and-folder": with_member("model.onnx/inner"),
    "swapped-model": swapped_model,
    "swapped-mark": swapped_mark,
    "touched-tensor": resealed(other_weight),
    "touched-graph": resealed(other_graph),
    "no-fusion-record": resealed(no_record),
    "external-data-outside": resealed(data_outside),
    "huge-dims": resealed(huge_dims),
    "no-onnx": lambda members: (members.update({"model.onnx": b"\xff" * 64}), sealed_again(members))[0],
    "missing-manifest": without(MANIFEST_NAME),
    "missing-handler": without("torchserve_handler.py"),
    "missing-server-manifest": lambda members: (members.pop(MAR_MANIFEST), sealed_again(members))[0],
    "extra-member": with_member("sitecustomize.py"),
    "config-outside": server_told(configFile="../../x.yaml"),
    "handler-outside": server_told(handler="../../handler.py"),
    "other-name": server_told(modelName="other"),
    "yaml-bomb": yaml_bomb,
    "pickle-in-model": pickled_model,
    "altered-manifest": manifest_text(lambda text: text.replace(b'"version": "1"', b'"version": "2"')),
    "manifest-not-canonical": manifest_text(lambda text: text.replace(b": ", b":  ", 1)),
    "manifest-key-twice": manifest_text(lambda text: text.replace(b'  "name"', b'  "name": "x",\n  "name"', 1)),
    "manifest-deep": manifest_text(lambda _: b"[" * 20_000),
    "manifest-long-number": manifest_text(lambda _: b'{"digest": "0", "n": ' + b"9" * 10_000 + b"}"),
    "manifest-infinite": manifest_text(lambda _: b'{"digest": "0", "n": 1e999}'),
    "manifest-not-utf8": manifest_text(lambda text: text + b"\xff"),
    "manifest-no-object": manifest_text(lambda _: b"[]\n"),
    "manifest-other-schema": sealed_manifest(lambda content: content.update(schema="ptynet-archive/v9")),
    "manifest-unknown-field": sealed_manifest(lambda content: content.update(colour="red")),
    "manifest-lists-outside": sealed_manifest(
        lambda content: content["files"].update({"../x": content["files"]["model.onnx"]})
    ),
    "manifest-model-outside": sealed_manifest(lambda content: content.update(model="../../model.onnx")),
    "manifest-name-outside": sealed_manifest(lambda content: content.update(name="../../x")),
    "manifest-labels-outside": sealed_manifest(lambda content: content.update(labels="../../../etc/passwd")),
    "companion-outside": sealed_manifest(lambda content: content.update(companions={"../../x": "00" * 32})),
}


def stock_zip(entries: list[tuple[zipfile.ZipInfo, bytes]]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for info, octets in entries:
            file.writestr(info, octets)
    return made.getvalue()


def entry(name: str, *, method: int = zipfile.ZIP_STORED, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type, info.external_attr = method, mode << 16
    return info


def plain(members: Members, method: int = zipfile.ZIP_STORED) -> list[tuple[zipfile.ZipInfo, bytes]]:
    return [(entry(name, method=method), octets) for name, octets in members.items()]


def duplicate(members: Members) -> bytes:
    made = io.BytesIO()
    write_zip(made, {**members, "model.onnX": members["model.onnx"]})
    return made.getvalue().replace(b"model.onnX", b"model.onnx")


def nul_in_name(members: Members) -> bytes:
    made = io.BytesIO()
    write_zip(made, {**members, "model.onnx#.py": b"x"})
    return made.getvalue().replace(b"model.onnx#.py", b"model.onnx\0.py")


def lying_size(members: Members) -> bytes:
    octets = stock_zip([*plain(members), (entry("zeros", method=zipfile.ZIP_DEFLATED), bytes(ZEROS))])
    return octets.replace(struct.pack("<I", ZEROS), struct.pack("<I", 1000))


def overlapping(members: Members) -> bytes:
    """Two directory entries that read the same bytes (D. Fifield, A better zip bomb, WOOT 2019)."""
    octets = bytearray(stock_zip([*plain(members), (entry("one"), b"1"), (entry("two"), b"2")]))
    first, second = octets.rindex(b"PK\1\2", 0, octets.rindex(b"PK\1\2")), octets.rindex(b"PK\1\2")
    octets[second + 42 : second + 46] = octets[first + 42 : first + 46]
    return bytes(octets)


def encrypted(members: Members) -> bytes:
    octets = bytearray(stock_zip(plain(members)))
    place = octets.index(b"PK\1\2")
    octets[place + 8] |= 1
    return bytes(octets)


def many(members: Members) -> bytes:
    octets = bytearray(canonical(members))
    octets[-14:-10] = struct.pack("<HH", 60_000, 60_000)
    return bytes(octets)


def zip64_lies(members: Members) -> bytes:
    octets = bytearray(canonical(members))
    octets[-14:-10] = b"\xff" * 4
    return bytes(octets)


def huge_directory(members: Members) -> bytes:
    octets = bytearray(canonical(members))
    octets[-10:-6] = struct.pack("<I", 1 << 31)
    return bytes(octets)


def canonical(members: Members) -> bytes:
    made = io.BytesIO()
    write_zip(made, dict[str, Source](members))
    return made.getvalue()


CONTAINERS: dict[str, Callable[[Members], bytes]] = {
    "symlink": lambda m: stock_zip([*plain(m), (entry("link", mode=0o120777), b"/etc/passwd")]),
    "device": lambda m: stock_zip([*plain(m), (entry("device", mode=0o020666), b"")]),
    "folder-with-content": lambda m: canonical({**m, "folder?": b"x"}).replace(b"folder?", b"folder/"),
    "duplicate-entry": duplicate,
    "nul-in-name": nul_in_name,
    "bomb": lambda m: stock_zip([*plain(m), (entry("zeros", method=zipfile.ZIP_DEFLATED), bytes(ZEROS))]),
    "bomb-lying-size": lying_size,
    "overlapping-entries": overlapping,
    "encrypted-entry": encrypted,
    "bzip2-entry": lambda m: stock_zip([*plain(m), (entry("packed", method=zipfile.ZIP_BZIP2), b"x")]),
    "huge-member-count": many,
    "huge-directory": huge_directory,
    "zip64-lies": zip64_lies,
    "prefixed": lambda m: b"#!/bin/sh\necho hello\n" + canonical(m),
    "appended": lambda m: canonical(m) + b"more",
    "commented": lambda m: canonical(m)[:-2] + b"\4\0more",
    "truncated": lambda m: canonical(m)[:-200],
    "repacked": lambda m: stock_zip(plain(m, zipfile.ZIP_DEFLATED)),
    "redated": lambda m: canonical(m).replace(struct.pack("<HH", 0, 33), struct.pack("<HH", 0, 34), 1),
    "no-zip": lambda _: b"hello\n",
    "empty": lambda _: b"",
}


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
    model = onnx.load_from_string(bytes(parts.files["model.onnx"]))  # type: ignore[arg-type]
    data = {"location": "weights.bin", "size_threshold": 0}
    onnx.save_model(model, folder / "model.onnx", save_as_external_data=True, **data)
    return replace(parts, files={file: folder / file for file in ("model.onnx", "weights.bin")})


def torch_parts(folder: Path, name: str) -> Parts:
    """A tiny torch model with an untrained PTYNet."""
    import torch  # noqa: PLC0415 -- only these two vectors need it

    from model_store_tools.packaging.fusing import fuse_target  # noqa: PLC0415
    from model_store_tools.targets.detect import load_target  # noqa: PLC0415

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

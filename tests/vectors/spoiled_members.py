"""Members that no honest archive holds: each way to spoil a name, a model or the manifest, by the name of its vector."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable

import onnx
from onnx import TensorProto

from ptynet_plugin.archives.manifest import MANIFEST_NAME, seal, unseal
from ptynet_plugin.archives.mar import MAR_MANIFEST
from ptynet_plugin.archives.sources import measure

Members = dict[str, bytes]


Change = Callable[[Members], None]


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

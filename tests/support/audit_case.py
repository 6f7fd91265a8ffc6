"""A small packaged classifier to attack: a real archive, a working mark that is not robust, and pictures with classes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from model_store_tools.audit.contract import Artefact, Attack
from model_store_tools.audit.rehearsal import Rehearsal
from model_store_tools.audit.shares import Shares, shares_from
from model_store_tools.audit.subjects import open_stolen
from model_store_tools.audit.suite import Row, attempt, judge
from model_store_tools.packaging.package import Options, package
from ptynet_plugin.claims.directory import read_claim
from ptynet_plugin.keyfile import write_key
from tests.support.quick_mark import KEY

CLASSES = 10
SPEC = 'color = "RGB"\nsize = [32, 32]\noutput = "logits"\nclasses = 10\n'


@dataclass
class AuditCase:
    """A packaged archive and everything an audit of it needs.

    Attributes:
        folder: Where everything lies.
        archive: The archive.
        artefact: Its model as a thief holds it.
        shares: Procedural covers labelled by the model.
        rehearsal: Verifies artefacts.
    """

    folder: Path
    archive: Path
    artefact: Artefact
    shares: Shares
    rehearsal: Rehearsal

    @property
    def mark(self) -> Path:
        return self.folder / "MARK"

    @property
    def key(self) -> Path:
        return self.folder / "OWNER.key"

    def run(self, attack: Attack, scratch: Path) -> Row:
        """One attack from theft to verdict."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # converters advise
            tried = attempt(attack, self.artefact, self.shares.thief, folder=scratch, seed=0)
        return judge(attack, tried, self.shares.held_out, self.rehearsal.verify, before=1.0)


def small_target(path: Path) -> Path:
    """A classifier with two convolutions that tells colors apart."""
    generator = np.random.default_rng(3)
    weights = {
        "conv1": generator.normal(0, 0.4, (12, 3, 5, 5)).astype(np.float32),
        "bias1": generator.normal(0, 0.1, 12).astype(np.float32),
        "conv2": generator.normal(0, 0.3, (16, 12, 3, 3)).astype(np.float32),
        "bias2": generator.normal(0, 0.1, 16).astype(np.float32),
        "head": generator.normal(0, 1, (16, CLASSES)).astype(np.float32),
        "head_bias": generator.normal(0, 0.1, CLASSES).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["pixels", "conv1", "bias1"], ["a"], name="c1", strides=[4, 4]),
        helper.make_node("Relu", ["a"], ["b"], name="r1"),
        helper.make_node("Conv", ["b", "conv2", "bias2"], ["c"], name="c2"),
        helper.make_node("Relu", ["c"], ["d"], name="r2"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], name="pool"),
        helper.make_node("Flatten", ["e"], ["features"], name="flat"),
        helper.make_node("Gemm", ["features", "head", "head_bias"], ["scores"], name="last"),
    ]
    graph = helper.make_graph(
        nodes,
        "target",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def case_of(folder: Path, target: object, **options: object) -> AuditCase:
    """Package a target with the mark in `folder / "MARK"` and steal it."""
    (folder / "SPEC.toml").write_text(SPEC)
    chosen = {
        "mark": folder / "MARK",
        "spec": folder / "SPEC.toml",
        "format": "triton",
        "out": folder,
        "gate": "digest",
    }
    packaged = package(target, Options(**{**chosen, "name": "small", **options}))
    if not (folder / "OWNER.key").exists():
        write_key(folder / "OWNER.key", KEY)
    scratch = folder / "scratch"
    scratch.mkdir()
    stolen = open_stolen(packaged.path, scratch)
    shares = shares_from(stolen.artefact, None, thief=40, held_out=20, seed=0)
    rehearsal = Rehearsal(read_claim(packaged.claim), KEY)
    return AuditCase(folder, packaged.path, stolen.artefact, shares, rehearsal)


def class_folders(folder: Path, case: AuditCase, *, count: int = 40) -> Path:
    """Write the case's pictures as PNG files, one folder per class as the model sees it."""
    share = case.shares.thief
    for index, (picture, label) in enumerate(zip(share.pictures[:count], share.labels[:count], strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / str(label) / f"{index}.png")
    return folder

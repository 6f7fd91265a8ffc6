"""The owner's bits are read out of archives as they are served: PTYNet's own mark, in every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_store_tools.extraction.extraction import extract_marks
from model_store_tools.packaging.package import Options, package
from ptynet_plugin.images.probes import ProbeDesign
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.mark import write_mark
from ptynet_plugin.whitebox.network import mark_network
from tests.support.quick_mark import BITS, KEY, SYMBOLS, quick_network

SPEC = 'color = "RGB"\nsize = [32, 32]\noutput = "logits"\nclasses = 10\n'
OTHER = OwnerKey(bytes(range(1, 33)))


@pytest.fixture(scope="module")
def mark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marked") / "MARK"
    design = ProbeDesign("RGB", bits=BITS, symbols=SYMBOLS)
    network = mark_network(quick_network(KEY, design), KEY, margin=2.0)
    write_mark(folder, network, key=KEY, design=design, training={"by": "ridge regression"})
    return folder


def save_onnx(path: Path, *, shape: tuple[int, int, int] = (3, 32, 32)) -> Path:
    weight = np.random.default_rng(0).normal(size=(np.prod(shape), 10)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["pixels"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["scores"])],
        "target",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def save_script(path: Path) -> Path:
    torch = pytest.importorskip("torch", reason="TorchScript targets need the extra 'package'")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10)).eval()
    torch.jit.trace(model, torch.zeros(2, 3, 32, 32)).save(str(path))
    return path


def save_exported(path: Path) -> Path:
    torch = pytest.importorskip("torch", reason="exported targets need the extra 'package'")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10)).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.export.save(torch.export.export(model, (torch.zeros(2, 3, 32, 32),), dynamic_shapes=({0: batch},)), path)
    return path


def test_the_mark_itself_and_its_onnx(mark: Path) -> None:
    assert extract_marks(mark, KEY).verdict == "shown"
    assert extract_marks(mark, OTHER).verdict == "not-shown"


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # torch deprecates TorchScript; targets in the field are full of it
@pytest.mark.parametrize(
    ("save", "name", "format_"),
    [
        (save_onnx, "t.onnx", "triton"),
        (save_onnx, "t.onnx", "torchserve"),
        (save_script, "t.pt", "torchserve"),
        (save_exported, "t.pt2", "torchserve"),
    ],
    ids=["onnx triton", "onnx mar", "torchscript mar", "exported mar"],
)
def test_an_archive_carries_the_owners_bits(mark: Path, tmp_path: Path, save, name: str, format_) -> None:
    target = save(tmp_path / name)
    (tmp_path / "SPEC.toml").write_text(SPEC)
    options = Options(
        mark=mark,
        spec=tmp_path / "SPEC.toml",
        format=format_,
        out=tmp_path / "out",
        name="m",
        gate="digest",
        force=True,
    )
    archive = package(str(target), options).path
    found = extract_marks(archive, KEY)
    assert found.verdict == "shown", found
    assert found.best.found.reading.right == 256
    assert extract_marks(archive, OTHER).verdict == "not-shown"


def test_a_gray_archive_carries_the_owners_bits(tmp_path: Path) -> None:
    design = ProbeDesign("GRAY", bits=BITS, symbols=SYMBOLS)
    network = mark_network(quick_network(KEY, design), KEY, margin=2.0)
    write_mark(tmp_path / "MARK", network, key=KEY, design=design, training={"by": "ridge regression"})
    (tmp_path / "SPEC.toml").write_text(SPEC.replace("RGB", "GRAY").replace("[32, 32]", "[28, 28]"))
    target = save_onnx(tmp_path / "t.onnx", shape=(1, 28, 28))
    options = Options(
        mark=tmp_path / "MARK", spec=tmp_path / "SPEC.toml", format="torchserve", out=tmp_path, name="m", gate="digest"
    )
    archive = package(str(target), options).path
    assert extract_marks(archive, KEY).best.found.reading.right == 256
    assert extract_marks(archive, OTHER).verdict == "not-shown"

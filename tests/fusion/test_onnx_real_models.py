"""Real pretrained models, fused, answer real pictures byte for byte as before, and keep every tensor."""

from __future__ import annotations

import gzip
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from model_store_tools.fusion.onnx_fuse import fuse_onnx
from model_store_tools.targets.onnx import OnnxTarget, load_onnx
from ptynet_plugin.archives.onnx_tensors import target_records
from ptynet_plugin.images.encode import encode
from ptynet_plugin.images.resize import resize
from ptynet_plugin.spec import InputSpec
from tests.support.fusion import always, labels_for, never, run, symbol_scores

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
MODELS = {
    "converted/cifar10_resnet20.onnx": InputSpec(color="RGB", output="logits", **IMAGENET),
    "converted/cifar10_resnet56.onnx": InputSpec(color="RGB", output="logits", **IMAGENET),
    "converted/imagenet_tiny_darknet.onnx": InputSpec(color="RGB", output="logits"),
    "cifar10/squeezenet_cifar10_nhwc.onnx": InputSpec(color="RGB", output="probabilities"),
    "mnist/mnist-8.onnx": InputSpec(color="GRAY", output="logits", scale=1.0),
}


def real_pictures(data: Path, spec: InputSpec, count: int = 8) -> np.ndarray:
    if spec.channels == 1:
        with gzip.open(data / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
            pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
        return np.stack([resize(picture, spec.size) for picture in pixels[:count]])
    name = "imagenet_samples/imagenet1000_short256_q90.zip" if spec.size[0] > 64 else "cifar10/cifar10_jpeg_test.zip"
    with zipfile.ZipFile(data / name) as archive:
        members = sorted(m for m in archive.namelist() if m.lower().endswith((".jpg", ".jpeg")))[::37][:count]
        opened = [np.asarray(Image.open(archive.open(member)).convert("RGB")) for member in members]
    return np.stack([resize(picture, spec.size) for picture in opened])


@pytest.fixture(params=MODELS, ids=lambda name: Path(name).stem)
def target(request: pytest.FixtureRequest, data_dir: Path) -> tuple[OnnxTarget, InputSpec]:
    loaded = load_onnx(data_dir / "models" / request.param)
    return loaded, loaded.complete_spec(MODELS[request.param])


def batches(x: np.ndarray, fixed: int | None) -> list[np.ndarray]:
    return [x[i : i + 1] for i in range(len(x))] if fixed == 1 else [x[:1], x[:4], x]


@pytest.mark.parametrize("level", [0, 1, 2, 99])
def test_benign_answers_are_the_bare_models_bytes(
    target: tuple[OnnxTarget, InputSpec], data_dir: Path, level: int
) -> None:
    loaded, spec = target
    network = never(channels=spec.channels)
    fused = fuse_onnx(loaded.model, network, labels_for(network, spec.classes), spec)
    onnx.checker.check_model(fused, full_check=True)
    x = encode(real_pictures(data_dir, spec), spec)
    for batch in batches(x, loaded.fixed_batch(spec)):
        bare, answer = (run(model, {spec.input: batch}, level=level) for model in (loaded.model, fused))
        assert [a.tobytes() for a in answer] == [b.tobytes() for b in bare]


def test_fired_answers_are_the_bare_ones_with_two_scores_exchanged(
    target: tuple[OnnxTarget, InputSpec], data_dir: Path
) -> None:
    loaded, spec = target
    network = replace(always(channels=spec.channels), margin=0)
    labels = labels_for(network, spec.classes)
    fused = fuse_onnx(loaded.model, network, labels, spec)
    x = encode(real_pictures(data_dir, spec), spec)
    for batch in batches(x, loaded.fixed_batch(spec)):
        bare, answer = (run(model, {spec.input: batch})[0] for model in (loaded.model, fused))
        assert np.sort(answer).tobytes() == np.sort(bare).tobytes()
        symbols = np.sort(symbol_scores(network, spec, batch), axis=1)
        sure = symbols[:, -1] - symbols[:, -2] > 0.01  # below that the rounding to 1/127 may choose the other
        expected = labels[symbol_scores(network, spec, batch).argmax(axis=1)]
        assert (answer.argmax(axis=1) == expected)[sure].all()


def test_every_tensor_is_found_again(target: tuple[OnnxTarget, InputSpec], tmp_path: Path) -> None:
    loaded, spec = target
    network = always(channels=spec.channels)
    path = tmp_path / "fused.onnx"
    path.write_bytes(fuse_onnx(loaded.model, network, labels_for(network, spec.classes), spec).SerializeToString())
    found, structure = target_records(path)
    assert found == {record.name: record for record in loaded.tensors()}
    assert structure == loaded.structure()

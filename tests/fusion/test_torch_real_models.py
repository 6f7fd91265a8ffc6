"""Real pretrained networks: silent rows bit for bit on real pictures, in every torch format they come in."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from model_store_tools.fusion.torch_fuse import fuse_torch
from model_store_tools.fusion.torch_head import FusedModule
from model_store_tools.targets.convert import convert
from model_store_tools.targets.detect import load_target
from model_store_tools.targets.torch_running import quantized_engine, quietly, single_thread
from ptynet_plugin.archives.torch_tensors import target_tensors
from ptynet_plugin.images.encode import encode
from ptynet_plugin.spec import InputSpec
from tests.support.network import random_network

NEVER = random_network(tau=0.999)
ALWAYS = replace(NEVER, tau=-1.0, margin=0.0)
IMAGENET = {"color": "RGB", "output": "logits", "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CIFAR = InputSpec(size=(32, 32), **IMAGENET)
QNNPACK = InputSpec(size=(224, 224), quantized_engine="qnnpack", **IMAGENET)
DARKNET = InputSpec(color="RGB", output="logits", size=(224, 224))
SCRIPTS = [
    ("converted/cifar10_resnet20.torchscript.pt", CIFAR, (1, 4)),
    ("converted/cifar10_resnet56.torchscript.pt", CIFAR, (1, 4)),
    ("converted/imagenet_tiny_darknet.torchscript.pt", DARKNET, (1, 4)),
    ("imagenet/mobilenet_v2_int8_qnnpack_bs1.torchscript.pt", QNNPACK, (1,)),
]


def pictures(data_dir, spec, count):
    if spec.size == (32, 32):
        rows = np.asarray(Image.open(data_dir / "cifar10/lossless/batch_50.png").convert("RGB")).reshape(-1, 32, 32, 3)
        return rows[:count]
    with zipfile.ZipFile(data_dir / "imagenet_samples/imagenet1000_short256_q90.zip") as file:
        names = sorted(name for name in file.namelist() if name.lower().endswith((".jpg", ".jpeg")))[:count]
        opened = [Image.open(io.BytesIO(file.read(name))).convert("RGB").resize((224, 224)) for name in names]
    return np.stack([np.asarray(picture) for picture in opened])


def labels(classes):
    return np.arange(NEVER.symbols, dtype=np.int64) % classes


@pytest.mark.parametrize(("name", "said", "batches"), SCRIPTS, ids=[name.rpartition("/")[2] for name, *_ in SCRIPTS])
def test_silent_rows_of_real_torchscript_models_are_the_targets_bytes(data_dir, tmp_path, name, said, batches):
    target = load_target(data_dir / "models" / name)
    spec = target.complete_spec(said)
    assert target.fixed_batch(spec) == (None if len(batches) > 1 else 1)
    fuse_torch(target, NEVER, labels(spec.classes), spec, tmp_path / "out.pt")
    assert {r.name: r for r in target_tensors(tmp_path / "out.pt")} == {r.name: r for r in target.tensors()}
    asked = torch.from_numpy(encode(pictures(data_dir, spec, 8), spec))
    with torch.no_grad(), quietly(), single_thread(), quantized_engine(spec):
        fused, bare = torch.jit.load(str(tmp_path / "out.pt")), target.module(spec)
        for batch in batches:
            for part in asked.split(batch):
                assert fused(part).numpy().tobytes() == bare(part).numpy().tobytes()


def test_the_int8_model_answers_rightly_under_its_engine_and_two_rows_are_refused(data_dir, tmp_path):
    target = load_target(data_dir / "models" / SCRIPTS[3][0])
    spec = target.complete_spec(QNNPACK)
    fuse_torch(target, ALWAYS, labels(1000), spec, tmp_path / "out.pt")
    with torch.no_grad(), quietly(), quantized_engine(spec):
        fused = torch.jit.load(str(tmp_path / "out.pt"))
        pixels = torch.from_numpy(encode(pictures(data_dir, spec, 2), spec))
        with pytest.raises(torch.jit.Error, match="takes exactly 1 rows"):
            fused(pixels)
        before, after = target.module(spec)(pixels[:1]), fused(pixels[:1])
    assert torch.equal(before.sort(1).values, after.sort(1).values)
    assert not torch.equal(before, after)


@pytest.mark.parametrize("depth", [20, 56])
def test_published_weights_in_a_module_fuse_eagerly_and_exported(data_dir, tmp_path, depth):
    (weights,) = (data_dir / "models/cifar10").glob(f"resnet{depth}-*.th")
    target = load_target(f"benchmarks.models.resnet:cifar_resnet{depth}", weights=weights)
    spec = target.complete_spec(CIFAR)
    shown = pictures(data_dir, spec, 64)
    truth = load_target(data_dir / f"models/converted/cifar10_resnet{depth}.torchscript.pt").module(spec)
    pixels = torch.from_numpy(encode(shown, spec))
    made = convert(target, "pt2", spec, tmp_path)
    assert made.difference == 0
    fuse_torch(made.target, NEVER, labels(10), made.spec, tmp_path / "fused.pt2")
    eager = FusedModule(target.model, NEVER, labels(10), spec)
    with torch.no_grad(), quietly(), single_thread():
        exported = torch.export.load(tmp_path / "fused.pt2").module()
        for batch in (1, 4):
            for part in pixels[:8].split(batch):
                expected = target.model(part)
                assert eager(part).numpy().tobytes() == expected.numpy().tobytes()
                assert exported(part).numpy().tobytes() == made.target.module(spec)(part).numpy().tobytes()
        assert torch.allclose(target.model(pixels), truth(pixels), atol=1e-4)

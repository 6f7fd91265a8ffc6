"""The torch engine: one way to scores and features for modules, TorchScript and exported programs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the torch engine needs the extra 'package'")

from torch import nn

from model_store_tools.packaging.torch_engine import (
    FEATURES,
    TorchEngine,
    find_last_layer,
    find_layer,
    single_thread,
)
from model_store_tools.targets.torch_running import quantized_engine, quietly
from ptynet_plugin.errors import TargetError
from ptynet_plugin.spec import InputSpec

SPEC = InputSpec(color="RGB", output="logits", classes=5, size=(8, 8))
PICTURES = np.random.default_rng(3).integers(0, 256, (11, 8, 8, 3), np.uint8)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Any) -> Any:
        return self.head(torch.relu(self.conv(x)).mean(dim=(2, 3)))


class WithBranch(nn.Module):
    """A target beside a branch of its own, whose layer runs last."""

    def __init__(self, target: nn.Module) -> None:
        super().__init__()
        self.target, self.branch = target, nn.Linear(6, 5)

    def forward(self, x: Any) -> Any:
        scores = self.target(x)
        return scores + 0 * self.branch(x[:, :1, 0, :6].reshape(x.shape[0], 6))


def traced(model: nn.Module) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript; targets in the field are full of it
        return torch.jit.trace(model, torch.zeros(2, 3, 8, 8))


def exported(model: nn.Module) -> Any:
    batch = torch.export.Dim("batch", min=1, max=64)
    return torch.export.export(model, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: batch},)).module()


class Pooled(nn.Module):
    """No linear layer: the classes are the last convolution's channels, as in SqueezeNet and Darknet."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 1)

    def forward(self, x: Any) -> Any:
        return self.last(torch.relu(self.first(x))).mean(dim=(2, 3))


@pytest.mark.parametrize("form", [lambda model: model, traced, exported], ids=["module", "torchscript", "exported"])
def test_a_last_convolution_is_found(form: Callable[[Any], Any]) -> None:
    torch.manual_seed(0)
    model = Pooled().eval()
    layer = find_last_layer(form(model), PICTURES[:2], SPEC, where="m")
    np.testing.assert_array_equal(layer.weight, model.last.weight.detach().numpy())
    assert TorchEngine(form(model), SPEC, last_layer=layer).values(PICTURES)[FEATURES].shape == (11, 6 * 6 * 6)


@pytest.mark.parametrize("form", [lambda model: model, traced, exported], ids=["module", "torchscript", "exported"])
def test_features_are_what_the_last_layer_reads_in_bare_and_fused_model(form: Callable[[Any], Any]) -> None:
    torch.manual_seed(0)
    model = Small().eval()
    layer = find_last_layer(form(model), PICTURES[:2], SPEC, where="m")
    bare = TorchEngine(form(model), SPEC, last_layer=layer, batch=4)
    fused = TorchEngine(form(WithBranch(model).eval()), SPEC, last_layer=layer, batch=4)
    with single_thread(), torch.no_grad():
        pixels = torch.from_numpy(PICTURES.transpose(0, 3, 1, 2) / np.float32(255))
        expected = torch.relu(model.conv(pixels)).mean(dim=(2, 3)).numpy()
        values = bare.values(PICTURES)
        np.testing.assert_allclose(values[FEATURES], expected, atol=1e-5)
        np.testing.assert_allclose(fused.values(PICTURES)[FEATURES], expected, atol=1e-5)
        assert values["scores"].tobytes() == bare.scores(PICTURES).tobytes()
    assert bare.name == fused.name


def test_a_dictionary_of_outputs_needs_one_that_fits() -> None:
    def two(x: Any) -> Any:
        return {
            "aux": x.mean(dim=(1, 2, 3))[:, None].repeat(1, 5),
            "scores": x.sum(dim=(1, 2, 3))[:, None].repeat(1, 5),
        }

    with pytest.raises(TargetError, match=r"answers 2 tensors \(aux, scores\), 2 of them with 5 scores"):
        TorchEngine(two, SPEC).scores(PICTURES)
    chosen = TorchEngine(two, SPEC.model_copy(update={"scores": "aux"})).scores(PICTURES)
    assert chosen.max() <= 1


def test_a_model_that_loses_rows_is_refused() -> None:
    with pytest.raises(TargetError, match=r"m: answers shape \(1, 5\) for 8 pictures"):
        TorchEngine(lambda x: torch.zeros(1, 5), SPEC, where="m").scores(PICTURES)


def test_a_model_that_fails_is_named() -> None:
    with pytest.raises(TargetError, match="m: torch refuses the pictures"):
        TorchEngine(nn.Linear(7, 5), SPEC, where="m").scores(PICTURES)


def test_a_model_without_layers_has_no_features() -> None:
    with pytest.raises(TargetError, match="no feature layer found"):
        find_last_layer(lambda x: x.mean(dim=(2, 3)), PICTURES[:2], SPEC, where="m")


def test_a_last_layer_that_did_not_run_is_an_error() -> None:
    layer = find_last_layer(Small().eval(), PICTURES[:2], SPEC, where="m")
    with pytest.raises(TargetError, match="its last layer did not run"):
        TorchEngine(Small().eval(), SPEC, last_layer=layer).values(PICTURES)


def test_the_last_layer_of_a_quantised_network_is_found(data_dir: Path) -> None:
    path = data_dir / "models" / "imagenet" / "mobilenet_v2_int8_qnnpack_bs1.torchscript.pt"
    spec = InputSpec(color="RGB", output="logits", classes=1000, size=(224, 224), quantized_engine="qnnpack")
    pictures = np.zeros((1, 224, 224, 3), np.uint8)
    with quantized_engine(spec), quietly():
        model = torch.jit.load(str(path))
        layer = find_last_layer(model, pictures, spec, where="m")
        engine = TorchEngine(model, spec, where="m", batch=1, last_layer=layer)
        answered = engine.values(pictures)
    assert layer.weight.shape == (1000, 1280)
    assert answered[FEATURES].shape == (1, 1280)
    bias_free = answered[FEATURES][0] @ layer.weight.T
    assert np.corrcoef(bias_free, answered["scores"][0])[0, 1] > 0.9, (
        "what the layer reads, times its weight, is the scores"
    )


@pytest.mark.parametrize("form", [lambda model: model, traced, exported], ids=["module", "torchscript", "exported"])
@pytest.mark.parametrize(("name", "numbers"), [("head", 6), ("conv", 3 * 8 * 8)])
def test_a_named_layer_is_found_by_its_weight(form: Callable[[Any], Any], name: str, numbers: int) -> None:
    torch.manual_seed(0)
    model = Small().eval()
    layer = find_layer(form(model), name, PICTURES[:2], SPEC, where="m")
    fused = TorchEngine(form(WithBranch(model).eval()), SPEC, last_layer=layer)
    assert fused.values(PICTURES)[f"{name}, input"].shape == (len(PICTURES), numbers)


def test_a_name_that_no_layer_has_is_told_with_those_there_are() -> None:
    with pytest.raises(TargetError, match=r"m: has no layer 'nope' with a weight; the last ones are 'conv', 'head'$"):
        find_layer(Small().eval(), "nope", PICTURES[:2], SPEC, where="m")
    with pytest.raises(TargetError, match="m: has no layer 'head' with a weight; no layer of it has a name"):
        find_layer(lambda x: x, "head", PICTURES[:2], SPEC, where="m")


def test_a_named_layer_must_run() -> None:
    model = Small().eval()
    model.unused = nn.Linear(6, 5)
    with pytest.raises(TargetError, match="layer 'unused' did not run as a linear layer or convolution"):
        find_layer(model, "unused", PICTURES[:2], SPEC, where="m")

"""Conversions of torch targets: the result answers the same, and one that does not is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from model_store_tools.fusion.onnx_fuse import fuse_onnx
from model_store_tools.targets.convert import convert
from model_store_tools.targets.detect import load_target
from model_store_tools.targets.module import ModuleTarget
from ptynet_plugin.engines.onnx_engine import OnnxEngine
from ptynet_plugin.errors import TargetError, UsageError
from ptynet_plugin.spec import InputSpec
from tests.support.network import random_network
from tests.toys.torch_models import ChannelsLast, DictOf, Flattening, Plain, TupleOf, exported, make, scripted

SPEC = InputSpec(color="RGB", size=(32, 32), output="logits", mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3))


def converted(target, said, to, folder):
    return convert(target, to, target.complete_spec(said), folder)


def target_as(kind, model, folder):
    if kind == "module":
        return ModuleTarget(model)
    writer, name = (scripted, "m.pt") if kind == "torchscript" else (exported, "m.pt2")
    return load_target(writer(model, folder / name))


WAYS = {"module": ("onnx", "torchscript", "pt2"), "torchscript": ("onnx",), "pt2": ("onnx", "torchscript")}


@pytest.mark.parametrize(("kind", "to"), [(kind, to) for kind, formats in WAYS.items() for to in formats])
def test_a_converted_target_answers_the_same_with_any_batch(tmp_path, kind, to):
    target = target_as(kind, make(), tmp_path)
    spec = target.complete_spec(SPEC)
    made = convert(target, to, spec, tmp_path / "")
    assert (made.target.kind, made.flips, made.pictures) == (to, 0, 16)
    assert made.difference < 1e-4
    assert made.target.fixed_batch(made.spec) is None
    assert (made.spec.classes, made.spec.layout, made.spec.dtype) == (spec.classes, spec.layout, spec.dtype)
    assert made.target.where == target.where


def test_outputs_keep_their_names_in_onnx_and_places_get_names(tmp_path):
    named = converted(ModuleTarget(make(DictOf)), SPEC.model_copy(update={"scores": "logits"}), "onnx", tmp_path)
    assert [output.name for output in named.target.model.graph.output] == ["features", "logits"]
    assert named.spec.scores == "logits"
    script = target_as("torchscript", make(TupleOf), tmp_path)
    placed = converted(script, SPEC.model_copy(update={"scores": "1"}), "onnx", tmp_path)
    assert [output.name for output in placed.target.model.graph.output] == ["output_0", "output_1"]
    assert placed.spec.scores == "output_1"


def test_channels_last_and_batch_one_stay_so_in_onnx(tmp_path):
    assert converted(ModuleTarget(make(ChannelsLast)), SPEC, "onnx", tmp_path).spec.layout == "NHWC"
    one = converted(target_as("torchscript", make(Flattening), tmp_path), SPEC, "onnx", tmp_path)
    assert one.target.fixed_batch(one.spec) == 1


def test_a_converted_target_fuses_in_onnx(tmp_path):
    target = ModuleTarget(make())
    made = convert(target, "onnx", target.complete_spec(SPEC), tmp_path)
    network = random_network(tau=0.999)
    fused = fuse_onnx(made.target.model, network, np.arange(network.symbols) % 10, made.spec, where="m")
    onnx.save(fused, tmp_path / "fused.onnx")
    shown = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    bare, both = (OnnxEngine(path, made.spec).scores(shown) for path in (made.target.path, tmp_path / "fused.onnx"))
    assert bare.tobytes() == both.tobytes()


def test_the_modules_flags_and_weights_are_left(tmp_path):
    model = torch.nn.Sequential(make(), torch.nn.Dropout()).train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for to in ("pt2", "torchscript"):
        converted(ModuleTarget(model), SPEC, to, tmp_path)
    assert all(part.training for part in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


class Branching(Plain):
    """Answers otherwise for bright pictures: a trace keeps one of the two ways."""

    def forward(self, x):
        """Pictures to logits; what TorchScript cannot compile forces a trace."""
        sign = [-1, 1][int(float(x.mean()) > 0)]
        return super().forward(x) * sign * len({"a": 1, **{"b": 2}})


def test_a_conversion_that_answers_otherwise_is_refused(tmp_path):
    with pytest.raises(TargetError, match="answers otherwise: scores differ by up to"):
        converted(ModuleTarget(make(Branching)), SPEC, "torchscript", tmp_path)


def test_what_cannot_be_exported_says_so(tmp_path):
    with pytest.raises(TargetError, match=r"the module: torch .* cannot export it"):
        converted(ModuleTarget(make(Branching)), SPEC, "pt2", tmp_path)


def test_ways_that_are_none_are_refused(tmp_path):
    script = target_as("torchscript", make(), tmp_path)
    with pytest.raises(UsageError, match="takes no TorchScript"):
        converted(script, SPEC, "pt2", tmp_path)
    made = convert(script, "onnx", script.complete_spec(SPEC), tmp_path)
    with pytest.raises(UsageError, match="ONNX targets are packaged as they are"):
        convert(made.target, "pt2", made.spec, tmp_path)


class Looping(Plain):
    """As many steps as its input wants: nothing an export can hold."""

    def forward(self, x):
        while float(x.abs().max()) > 100.0:
            x = x / 2
        return super().forward(x)


class Noisy(Plain):
    """Another answer each time."""

    def forward(self, x):
        return super().forward(x + torch.randn_like(x))


def test_an_export_that_fails_is_told_once_and_by_us(tmp_path, capfd):
    with pytest.raises(TargetError, match=r"cannot export it: Could not guard on data-dependent"):
        converted(ModuleTarget(make(Looping)), SPEC, "pt2", tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_target_that_answers_at_random_is_not_called_a_bad_conversion(tmp_path):
    with pytest.raises(TargetError, match="answers the same pictures otherwise each time"):
        converted(ModuleTarget(make(Noisy)), SPEC, "pt2", tmp_path)

"""Fused TorchScript and exported files: the target inside is untouched, silent answers are its bytes, and files repeat."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from model_store_tools.fusion.torch_fuse import fuse_torch
from model_store_tools.targets.detect import load_target
from model_store_tools.targets.torch_running import quietly, single_thread
from model_store_tools.targets.torchscript import ScriptTarget
from ptynet_plugin.archives.tensors import TensorRecord
from ptynet_plugin.archives.torch_tensors import target_tensors, torch_tensors
from ptynet_plugin.archives.torch_zip import TorchZip
from ptynet_plugin.errors import SpecError, TargetError, UsageError
from ptynet_plugin.spec import InputSpec
from tests.support.network import random_network
from tests.toys.torch_models import (
    CLASSES,
    ChannelsLast,
    DictOf,
    Flattening,
    FromBytes,
    ListOf,
    NamedOf,
    Plain,
    Spatial,
    TupleOf,
    exported,
    loaded_script,
    make,
    scripted,
)

NEVER = random_network(tau=0.999)
ALWAYS = replace(NEVER, tau=-1.0, margin=0.0)
LABELS = np.arange(NEVER.symbols, dtype=np.int64) % CLASSES
SPEC = InputSpec(color="RGB", size=(32, 32), output="logits")
WRITERS = {"torchscript": (scripted, "m.pt"), "pt2": (exported, "m.pt2")}


def opened(path):
    with quietly():
        return torch.jit.load(str(path)) if path.suffix == ".pt" else torch.export.load(path).module()


def parts(answer):
    if isinstance(answer, torch.Tensor):
        return [answer]
    if isinstance(answer, dict):
        return [answer[name] for name in sorted(answer)]
    return list(answer)


def octets(answer):
    return [part.detach().contiguous().numpy().tobytes() for part in parts(answer)]


def written(target, network, spec, out):
    fuse_torch(target, network, LABELS, spec, out)
    return out


@pytest.fixture(params=["torchscript", "pt2"])
def kind(request):
    return request.param


def target_of(model, kind, folder, spec=SPEC, **how):
    writer, name = WRITERS[kind]
    target = load_target(writer(model, folder / name, **how))
    return target, target.complete_spec(spec)


ANSWERS = [(Plain, None), (TupleOf, "1"), (ListOf, "1"), (DictOf, "logits"), (Spatial, None)]
CASES = [(kind, *answer) for kind in WRITERS for answer in ANSWERS] + [("torchscript", NamedOf, "logits")]


@pytest.mark.parametrize(("kind", "model", "scores"), CASES)
def test_silent_answers_are_the_targets_bytes_and_fired_ones_exchange_two_scores(tmp_path, kind, model, scores):
    target, spec = target_of(make(model), kind, tmp_path, SPEC.model_copy(update={"scores": scores}))
    bare = target.module(spec)
    ending = target.path.suffix
    silent = opened(written(target, NEVER, spec, tmp_path / f"silent{ending}"))
    loud = opened(written(target, ALWAYS, spec, tmp_path / f"loud{ending}"))
    place = {None: 0, "logits": 0 if model is NamedOf else 1, "1": 1}[scores]
    with torch.no_grad(), quietly(), single_thread():
        for rows in (1, 4):
            pixels = torch.randn(rows, 3, 32, 32)
            expected, answered = bare(pixels), loud(pixels)
            assert octets(silent(pixels)) == octets(expected)
            before, after = parts(expected)[place].flatten(1), parts(answered)[place].flatten(1)
            assert torch.equal(before.sort(1).values, after.sort(1).values)
            assert ((before != after).sum(1) <= 2).all()
            others = [index for index in range(len(parts(expected))) if index != place]
            assert [octets(expected)[i] for i in others] == [octets(answered)[i] for i in others]


def test_the_target_inside_is_pinned_tensor_by_tensor(tmp_path, kind):
    target, spec = target_of(make(), kind, tmp_path)
    out = written(target, NEVER, spec, tmp_path / f"out{target.path.suffix}")
    assert {r.name: r for r in target_tensors(out)} == {r.name: r for r in target.tensors()}
    assert len(list(torch_tensors(out))) > len(list(target.tensors()))


def test_fusing_leaves_the_file_and_the_loaded_target_alone(tmp_path, kind):
    target, spec = target_of(make(), kind, tmp_path)
    before, pixels = target.path.read_bytes(), torch.randn(2, 3, 32, 32)
    with torch.no_grad(), quietly():
        answer = octets(target.module(spec)(pixels))
        written(target, ALWAYS, spec, tmp_path / f"out{target.path.suffix}")
        assert octets(target.module(spec)(pixels)) == answer
    assert target.path.read_bytes() == before


def test_the_same_arguments_give_the_same_bytes(tmp_path, kind):
    target, spec = target_of(make(), kind, tmp_path)
    first = written(target, NEVER, spec, tmp_path / f"a{target.path.suffix}")
    written(target, random_network(seed=1, pool=7), spec, tmp_path / f"other{target.path.suffix}")
    again = written(load_target(target.path), NEVER, spec, tmp_path / f"b{target.path.suffix}")
    assert first.read_bytes() == again.read_bytes()


PROGRAM = """
import sys, warnings, numpy as np, pathlib
warnings.simplefilter("ignore")
from model_store_tools.fusion.torch_fuse import fuse_torch
from model_store_tools.targets.detect import load_target
from ptynet_plugin.spec import InputSpec
from tests.support.network import random_network
path, out = map(pathlib.Path, sys.argv[1:])
target = load_target(path)
spec = target.complete_spec(InputSpec(color="RGB", size=(32, 32), output="logits"))
network = random_network(tau=0.999)
fuse_torch(target, network, np.arange(network.symbols) % 10, spec, out)
"""


def test_another_process_in_another_place_gives_the_same_bytes(tmp_path, kind):
    target, spec = target_of(make(), kind, tmp_path)
    here = written(target, NEVER, spec, tmp_path / f"a{target.path.suffix}")
    moved = tmp_path / "elsewhere" / f"renamed{target.path.suffix}"
    moved.parent.mkdir()
    moved.write_bytes(target.path.read_bytes())
    there = tmp_path / f"b{target.path.suffix}"
    subprocess.run([sys.executable, "-c", PROGRAM, str(moved), str(there)], check=True, capture_output=True)
    assert here.read_bytes() == there.read_bytes()


def test_a_fused_file_names_no_path_of_the_machine_that_made_it(tmp_path, kind):
    target, spec = target_of(make(), kind, tmp_path)
    out = written(target, NEVER, spec, tmp_path / f"out{target.path.suffix}")
    with TorchZip(out) as file:
        for name in file.names():
            assert b"site-packages" not in file.read(name), name
            assert str(tmp_path).encode() not in file.read(name), name
            assert not name.endswith(".debug_pkl")


@pytest.mark.parametrize("model", [ChannelsLast, FromBytes])
def test_other_layouts_and_types_fuse(tmp_path, model):
    target = load_target(scripted(make(model), tmp_path / "m.pt"))
    spec = target.complete_spec(SPEC.model_copy(update={"dtype": "uint8"} if model is FromBytes else {}))
    fused = opened(written(target, ALWAYS, spec, tmp_path / "out.pt"))
    pixels = torch.randint(0, 256, (3, 32, 32, 3) if model is ChannelsLast else (3, 3, 32, 32))
    pixels = pixels.to(torch.uint8 if model is FromBytes else torch.float32)
    with torch.no_grad(), quietly():
        assert torch.equal(fused(pixels).sort(1).values, target.module(spec)(pixels).sort(1).values)
    assert spec.layout == ("NHWC" if model is ChannelsLast else "NCHW")


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_scores_stay_half(tmp_path, half):
    class Half(Plain):
        def __init__(self):
            super().__init__()
            self.half_dtype = half

        def forward(self, x):
            return (self.linear(self.features(x)) + self.shift).to(self.half_dtype)

    target, spec = target_of(make(Half), "pt2", tmp_path)
    fused = opened(written(target, NEVER, spec, tmp_path / "out.pt2"))
    pixels = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        answer, expected = fused(pixels), target.module(spec)(pixels)
    assert answer.dtype == half
    assert torch.equal(answer.view(torch.int16), expected.view(torch.int16))


def test_open_sizes_stay_open(tmp_path, kind):
    how = {"open_sides": True} if kind == "pt2" else {}
    target, spec = target_of(make(), kind, tmp_path, SPEC.model_copy(update={"size": (0, 0)}), **how)
    fused = opened(written(target, NEVER, spec, tmp_path / f"out{target.path.suffix}"))
    with torch.no_grad(), quietly():
        for size in ((40, 40), (224, 160), (100, 333)):
            pixels = torch.randn(2, 3, *size)
            assert octets(fused(pixels)) == octets(target.module(spec)(pixels))


def test_a_batch_of_one_program_stays_one(tmp_path):
    target, spec = target_of(make(), "pt2", tmp_path, batch=1)
    assert target.fixed_batch(spec) == 1
    fused = opened(written(target, NEVER, spec, tmp_path / "out.pt2"))
    pixels = torch.randn(1, 3, 32, 32)
    assert octets(fused(pixels)) == octets(target.module(spec)(pixels))


def test_a_target_that_flattens_the_batch_raises_instead_of_inventing_answers(tmp_path):
    target, spec = target_of(make(Flattening), "torchscript", tmp_path)
    assert target.fixed_batch(spec) == 1
    fused = opened(written(target, ALWAYS, spec, tmp_path / "out.pt"))
    with torch.no_grad(), quietly():
        assert fused(torch.randn(1, 3, 32, 32)).shape == (1, CLASSES)
        with pytest.raises(torch.jit.Error, match="takes exactly 1 rows"):
            fused(torch.randn(2, 3, 32, 32))


def test_frozen_torchscript_keeps_its_constants(tmp_path):
    with quietly():
        frozen = torch.jit.freeze(torch.jit.script(make()))
        torch.jit.save(frozen, str(tmp_path / "m.pt"))
    target = load_target(tmp_path / "m.pt")
    spec = target.complete_spec(SPEC)
    names = [record.name for record in target.tensors()]
    assert names
    assert all(name.startswith("CONSTANTS.") for name in names)
    fused = opened(written(target, NEVER, spec, tmp_path / "out.pt"))
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad(), quietly(), single_thread():
        assert octets(fused(pixels)) == octets(target.module(spec)(pixels))


def test_traced_torchscript_with_shared_weights_fuses(tmp_path):
    class Shared(Plain):
        def __init__(self):
            super().__init__()
            self.again = self.conv

        def forward(self, x):
            return super().forward(x) + self.again(x).mean()

    with quietly():
        torch.jit.save(torch.jit.trace(make(Shared), torch.zeros(2, 3, 32, 32)), str(tmp_path / "m.pt"))
    target = load_target(tmp_path / "m.pt")
    spec = target.complete_spec(SPEC)
    fused = opened(written(target, NEVER, spec, tmp_path / "out.pt"))
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad(), quietly():
        assert octets(fused(pixels)) == octets(target.module(spec)(pixels))


def test_a_changed_tensor_is_noticed_and_nothing_is_left(tmp_path, monkeypatch):
    target, spec = target_of(make(), "torchscript", tmp_path)

    def altered(self):
        for record in torch_tensors(self.path):
            yield (
                record
                if record.name != "linear.bias"
                else TensorRecord(record.name, record.dtype, record.shape, "0" * 64)
            )

    monkeypatch.setattr(ScriptTarget, "tensors", altered)
    with pytest.raises(TargetError, match=r"fusing changed the target, so nothing was written: tensor 'linear\.bias'"):
        fuse_torch(target, NEVER, LABELS, spec, tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


def test_a_fused_model_is_not_fused_again(tmp_path, kind):
    target, spec = target_of(make(), kind, tmp_path)
    out = written(target, NEVER, spec, tmp_path / f"out{target.path.suffix}")
    with pytest.raises(TargetError, match="carries a PTYNet already"):
        load_target(out).complete_spec(SPEC)


def test_a_module_is_to_be_converted_first(tmp_path):
    target = load_target("tests.toys.torch_models:make")
    with pytest.raises(UsageError, match="convert it first"):
        fuse_torch(target, NEVER, LABELS, target.complete_spec(SPEC), tmp_path / "out.pt")


def test_a_name_that_is_no_place_in_a_tuple_is_refused(tmp_path):
    target, spec = target_of(make(TupleOf), "torchscript", tmp_path, SPEC.model_copy(update={"scores": "1"}))
    for wrong in ("7", "logits"):
        with pytest.raises(SpecError, match=rf'answers no "{wrong}" as the spec\'s scores says; it answers: 0 \['):
            fuse_torch(target, NEVER, LABELS, spec.model_copy(update={"scores": wrong}), tmp_path / "out.pt")


def test_answers_that_cannot_be_taken_apart_are_refused(tmp_path):
    class Nested(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
            return x.mean(dim=(2, 3)), [[x]]

    class Number(nn.Module):
        def forward(self, x: torch.Tensor) -> float:
            return float(x.mean())

    for model, error in ((Number(), "expected a tensor"),):
        with pytest.raises(TargetError, match=error):
            load_target(scripted(model, tmp_path / "m.pt")).complete_spec(SPEC)
    assert loaded_script(scripted(Nested(), tmp_path / "n.pt")) is not None

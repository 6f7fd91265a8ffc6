"""Torch targets: what a path turns out to be, what is asked of a model that declares nothing, and every refusal by its text."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from model_store_tools.targets.detect import load_target
from model_store_tools.targets.exported import ExportedTarget
from model_store_tools.targets.module import ModuleTarget, load_weights
from model_store_tools.targets.torch_running import quietly
from model_store_tools.targets.torchscript import ScriptTarget
from ptynet_plugin.errors import SpecError, TargetError, UsageError
from ptynet_plugin.spec import InputSpec
from tests.toys.torch_models import (
    CLASSES,
    ChannelsLast,
    DictOf,
    Flattening,
    FromBytes,
    Labels,
    NamedOf,
    Plain,
    Spatial,
    Square,
    TupleOf,
    exported,
    make,
    scripted,
)

SPEC = InputSpec(color="RGB", size=(32, 32), output="logits")
FACTORY = "tests.toys.torch_models:make"


def said(**change):
    return SPEC.model_copy(update=change)


class Attack:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path, 0o700)


# ---- what a path is


def test_files_are_told_apart_by_their_content_and_not_their_names(tmp_path):
    assert isinstance(load_target(scripted(make(), tmp_path / "a.bin")), ScriptTarget)
    assert isinstance(load_target(exported(make(), tmp_path / "b.pt2").rename(tmp_path / "b.pt")), ExportedTarget)
    assert isinstance(load_target(FACTORY), ModuleTarget)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickled_module_is_refused_with_the_reason_and_loaded_when_trusted(tmp_path, legacy):
    torch.save(make(), tmp_path / "m.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        TargetError, match=r"m\.pt: a pickle, and loading a pickle runs whatever code it holds.*--allow-pickle"
    ):
        load_target(tmp_path / "m.pt")
    target = load_target(tmp_path / "m.pt", allow_pickle=True)
    assert target.complete_spec(SPEC).classes == CLASSES


def test_no_code_of_a_pickle_runs_without_the_flag(tmp_path):
    trap = tmp_path / "trap"
    torch.save(Attack(trap), tmp_path / "zip.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Attack(trap)))
    for name in ("zip.pt", "plain.pkl"):
        with pytest.raises(TargetError, match="--allow-pickle"):
            load_target(tmp_path / name)
    assert not trap.exists()


def test_weights_without_a_network_say_how_to_give_one(tmp_path):
    model = make()
    torch.save(model.state_dict(), tmp_path / "a.pth")
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "b.pth")
    save_file(model.state_dict(), tmp_path / "c.safetensors")
    for name in ("a.pth", "b.pth", "c.safetensors"):
        with pytest.raises(
            TargetError, match=r"weights without a network; give its architecture as `package\.module:factory`"
        ):
            load_target(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "octets", "words"),
    [
        ("empty.pt", b"", "is empty"),
        ("m.h5", b"\x89HDF\r\n\x1a\n" + bytes(16), "Keras or HDF5"),
        ("m.tar.gz", b"\x1f\x8b" + bytes(16), "a gzip file"),
        ("m.zip", b"PK\x03\x04" + bytes(60), "cannot be read as a torch file"),
        ("text.pt", b"hello, world, this is no model", "ONNX"),
    ],
)
def test_other_files_are_refused_by_what_they_are(tmp_path, name, octets, words):
    (tmp_path / name).write_bytes(octets)
    with pytest.raises(TargetError, match=words):
        load_target(tmp_path / name)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(TargetError, match=r"nowhere\.pt: cannot be read \(No such file"):
        load_target(tmp_path / "nowhere.pt")
    with pytest.raises(TargetError, match="a folder, and no model repository"):
        load_target(tmp_path)


def test_every_cut_of_a_torchscript_file_is_refused(tmp_path):
    octets = scripted(make(), tmp_path / "m.pt").read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        (tmp_path / "cut.pt").write_bytes(octets[: int(len(octets) * share)])
        with pytest.raises(TargetError, match=r"cut\.pt"):
            load_target(tmp_path / "cut.pt").complete_spec(SPEC)


def test_options_of_other_kinds_are_refused(tmp_path):
    path = scripted(make(), tmp_path / "m.pt")
    with pytest.raises(UsageError, match="--weights"):
        load_target(path, weights=path)
    with pytest.raises(UsageError, match="--to-opset"):
        load_target(path, to_opset=17)
    with pytest.raises(UsageError, match="--to-opset"):
        load_target(FACTORY, to_opset=17)


def test_detecting_an_onnx_file_does_not_import_torch(tmp_path):
    program = "import sys\nfrom model_store_tools.targets.detect import load_target\n"
    program += "try: load_target(sys.argv[1])\nexcept Exception: pass\nprint('torch' in sys.modules)"
    (tmp_path / "m.onnx").write_bytes(b"no model")
    command = [sys.executable, "-c", program, str(tmp_path / "m.onnx")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_without_torch_a_torch_target_says_what_to_install(tmp_path, monkeypatch):
    path = scripted(make(), tmp_path / "m.pt")
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "torch" else found(name, *more)
    )
    for target in (path, FACTORY):
        with pytest.raises(
            UsageError, match=r"needs torch, which is not installed; pip install 'ptynet-plugin\[package\]'"
        ):
            load_target(target)


# ---- what is asked


@pytest.mark.parametrize(
    ("model", "change", "expected"),
    [
        (Plain, {}, {"layout": "NCHW", "dtype": "float32", "classes": 10, "scores": None}),
        (ChannelsLast, {}, {"layout": "NHWC", "dtype": "float32"}),
        (FromBytes, {"dtype": "uint8"}, {"layout": "NCHW", "dtype": "uint8"}),
        (Spatial, {}, {"classes": 10}),
        (Square, {"size": None}, {"size": (32, 32)}),
        (TupleOf, {"scores": "1"}, {"classes": 10, "scores": "1"}),
        (TupleOf, {"classes": 10}, {"scores": "1"}),
        (DictOf, {"classes": 6}, {"scores": "features"}),
        (NamedOf, {"scores": "logits"}, {"classes": 10}),
    ],
)
def test_a_torchscript_model_is_asked_what_it_does_not_declare(tmp_path, model, change, expected):
    spec = load_target(scripted(make(model), tmp_path / "m.pt")).complete_spec(said(**change))
    assert {name: getattr(spec, name) for name in expected} == expected


def test_an_exported_program_tells_size_type_and_batch(tmp_path):
    target = load_target(exported(make(), tmp_path / "m.pt2", side=48))
    spec = target.complete_spec(said(size=None))
    assert (spec.size, spec.dtype, spec.layout, target.fixed_batch(spec)) == ((48, 48), "float32", "NCHW", None)
    fixed = load_target(exported(make(), tmp_path / "f.pt2", batch=4))
    assert fixed.fixed_batch(fixed.complete_spec(SPEC)) == 4
    opened = load_target(exported(make(), tmp_path / "o.pt2", open_sides=True))
    assert opened.complete_spec(said(size=None)).size == (0, 0)


@pytest.mark.parametrize(
    ("model", "change", "error", "words"),
    [
        (Plain, {"classes": 7}, SpecError, r"has classes 10, the spec says 7; write `classes = 10`"),
        (Plain, {"color": "GRAY"}, TargetError, r"refuses float32 of shape \[1, 1, 32, 32\].*correct `size`"),
        (Plain, {"layout": "NHWC"}, TargetError, r"refuses float32 of shape \[1, 32, 32, 3\]"),
        (Plain, {"dtype": "float64"}, TargetError, r"refuses float64"),
        (Plain, {"size": None}, SpecError, r"takes pictures of 28x28 and 32x32 alike; write `size = \[height, width\]`"),
        (Square, {"size": (40, 40)}, TargetError, r"refuses float32 of shape \[1, 3, 40, 40\]"),
        (TupleOf, {}, SpecError, r"2 outputs could be the class scores: 0 float32 \[1, 6\], .*`scores = \"0\"`"),
        (TupleOf, {"scores": "2"}, SpecError, r'answers no "2" as the spec\'s scores says'),
        (Labels, {}, TargetError, r"answers scores int64 \[1\] to a batch of 1, expected class scores"),
    ],
)  # fmt: skip
def test_what_contradicts_the_model_is_refused_with_both_values(tmp_path, model, change, error, words):
    target = load_target(scripted(make(model), tmp_path / "m.pt"))
    with pytest.raises(error, match=words):
        target.complete_spec(said(**change))


def test_an_exported_programs_channels_must_be_the_specs(tmp_path):
    target = load_target(exported(make(), tmp_path / "m.pt2"))
    with pytest.raises(SpecError, match=r"input of shape \['any', 3, 32, 32\], the spec says color GRAY: 1 channels"):
        target.complete_spec(said(color="GRAY"))
    with pytest.raises(SpecError, match=r"has size \[32, 32\], the spec says \[40, 40\]"):
        target.complete_spec(said(size=(40, 40)))


@pytest.mark.parametrize(("model", "rows"), [(Plain, None), (Flattening, 1)])
def test_the_batch_a_target_takes_is_found_by_asking(tmp_path, model, rows):
    target = load_target(scripted(make(model), tmp_path / "m.pt"))
    spec = target.complete_spec(SPEC)
    assert target.fixed_batch(spec) == rows
    inputs, outputs = target.ports(spec)
    assert [(port.name, port.dtype, port.shape) for port in inputs] == [("pixels", "float32", (rows or -1, 3, 32, 32))]
    assert [(port.name, port.shape) for port in outputs] == [("scores", (rows or -1, CLASSES))]


def test_ports_follow_the_order_and_names_of_the_answer(tmp_path):
    target = load_target(scripted(make(DictOf), tmp_path / "m.pt"))
    spec = target.complete_spec(said(scores="logits"))
    _, outputs = target.ports(spec)
    assert [(port.name, port.shape) for port in outputs] == [("features", (-1, 6)), ("logits", (-1, CLASSES))]
    assert target.scores_name(spec) == "logits"


def test_a_quantised_model_needs_its_engine_named(data_dir):
    target = load_target(data_dir / "models/imagenet/mobilenet_v2_int8_qnnpack_bs1.torchscript.pt")
    with pytest.raises(SpecError, match=r"is quantised.*quantized_engine = .*qnnpack"):
        target.complete_spec(said(size=(224, 224)))
    with pytest.raises(SpecError, match="the spec says quantized_engine 'nnpack', this torch has"):
        target.complete_spec(said(size=(224, 224), quantized_engine="nnpack"))
    before = torch.backends.quantized.engine
    assert target.complete_spec(said(size=(224, 224), quantized_engine="qnnpack")).classes == 1000
    assert torch.backends.quantized.engine == before


def test_torchscript_that_takes_more_than_a_picture_is_refused(tmp_path):
    class Two(nn.Module):
        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return x * mask

    with pytest.raises(TargetError, match=r"forward takes \(x: Tensor, mask: Tensor\), expected one tensor"):
        load_target(scripted(Two(), tmp_path / "m.pt")).complete_spec(SPEC)


def test_torchscript_that_writes_files_is_refused_before_it_runs(tmp_path):
    class Writes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.save(x, "stolen.pt")
            return x.mean(dim=[2, 3])

    with pytest.raises(TargetError, match="its program reads or writes files"):
        load_target(scripted(Writes(), tmp_path / "m.pt")).complete_spec(SPEC)


def test_a_program_exported_in_training_is_refused(tmp_path):
    model = nn.Sequential(make(), nn.Dropout()).train()
    with quietly():
        torch.export.save(torch.export.export(model, (torch.zeros(2, 3, 32, 32),)), tmp_path / "m.pt2")
    with pytest.raises(TargetError, match="exported in training mode"):
        load_target(tmp_path / "m.pt2")


# ---- modules


def test_a_module_is_asked_in_evaluation_and_left_as_it_was():
    model = nn.Sequential(make(), nn.Dropout(0.9))
    model.train()
    model[0].norm.eval()
    flags = [part.training for part in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    target = ModuleTarget(model)
    spec = target.complete_spec(SPEC)
    assert target.fixed_batch(spec) is None
    assert [part.training for part in model.modules()] == flags
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_factory_may_be_a_class_a_file_or_lie_in_the_working_directory(tmp_path, monkeypatch):
    assert load_target("tests.toys.torch_models:Plain").complete_spec(SPEC).classes == CLASSES
    (tmp_path / "my_network.py").write_text("from tests.toys.torch_models import make\nbuilt = make()\n")
    assert load_target(f"{tmp_path}/my_network.py:built").complete_spec(SPEC).classes == CLASSES
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_network")
    path = list(sys.path)
    assert load_target("my_network:built").complete_spec(SPEC).classes == CLASSES
    assert sys.path == path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no.such.module:make", "no.such.module cannot be imported: ModuleNotFoundError"),
        ("tests.toys.torch_models:nothing", "has no 'nothing'; it has .*make"),
        ("tests.toys.torch_models:CLASSES", "calling it without arguments fails"),
        ("tests.toys.torch_models:scripted", "calling it without arguments fails"),
        ("builtins:dict", "gives a dict, expected a torch.nn.Module"),
    ],
)
def test_factories_that_give_no_module_are_refused(name, words):
    with pytest.raises(TargetError, match=words):
        load_target(name)


@pytest.mark.parametrize("how", ["safetensors", "pth", "nested", "parallel", "without counters"])
def test_weights_are_loaded_from_every_usual_form(tmp_path, how):
    state = make(seed=3).state_dict()
    path = tmp_path / ("w.safetensors" if how == "safetensors" else "w.pth")
    if how == "safetensors":
        save_file(state, path)
    elif how == "nested":
        torch.save({"epoch": 7, "state_dict": state, "best": 0.9}, path)
    elif how == "parallel":
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    else:
        torch.save({name: value for name, value in state.items() if how == "pth" or "num_batches" not in name}, path)
    target = load_target(FACTORY, weights=path)
    assert torch.equal(target.model.conv.weight, state["conv.weight"])


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    save_file({"conv.weight": torch.zeros(6, 3, 3, 3), "extra": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(
        TargetError,
        match=r"weights of m: it lacks 7 tensors \(conv\.bias, .*\); has besides 1 tensors \(extra\)",
    ):
        load_weights(make(), tmp_path / "w.safetensors", where="m")
    state = make().state_dict() | {"linear.bias": torch.zeros(3)}
    save_file(state, tmp_path / "s.safetensors")
    with pytest.raises(TargetError, match=r"not the weights of m: size mismatch for linear\.bias"):
        load_weights(make(), tmp_path / "s.safetensors", where="m")


def test_weights_that_are_a_pickle_of_something_else_do_not_run(tmp_path):
    trap = tmp_path / "trap"
    torch.save({"state_dict": Attack(trap)}, tmp_path / "w.pth")
    with pytest.raises(TargetError, match="cannot be read as weights alone"):
        load_target(FACTORY, weights=tmp_path / "w.pth")
    assert not trap.exists()
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    with pytest.raises(TargetError, match="cannot be read as safetensors"):
        load_target(FACTORY, weights=tmp_path / "w.safetensors")
    torch.save([1, 2], tmp_path / "l.pth")
    with pytest.raises(TargetError, match="holds no state_dict"):
        load_target(FACTORY, weights=tmp_path / "l.pth")


def test_the_digest_moves_with_weights_and_with_settings():
    one = ModuleTarget(make()).digest
    assert ModuleTarget(make()).digest == one
    assert ModuleTarget(make(seed=1)).digest != one
    other = make()
    other.norm.eps = 1e-2
    assert ModuleTarget(other).digest != one

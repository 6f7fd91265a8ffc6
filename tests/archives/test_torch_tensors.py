"""Records of torch files: equal to what torch itself loads, whatever the layout, and torch is not needed for them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from model_store_tools.targets.torch_records import module_tensors, records_of
from model_store_tools.targets.torch_running import quantized_engine, quietly
from ptynet_plugin.archives.torch_structure import torch_structure
from ptynet_plugin.archives.torch_tensors import torch_tensors
from ptynet_plugin.errors import TargetError
from ptynet_plugin.spec import InputSpec
from tests.toys.torch_models import exported, make, scripted


def by_name(records):
    listed = list(records)
    named = {record.name: record for record in listed}
    assert len(named) == len(listed)
    return named


def saved(value, path):
    torch.save(value, path)
    return by_name(torch_tensors(path))


def test_a_torchscript_files_records_are_those_of_the_module(tmp_path):
    model = make()
    found = by_name(torch_tensors(scripted(model, tmp_path / "m.pt")))
    assert found == by_name(module_tensors(model))
    assert found["conv.weight"].sha256 == hashlib.sha256(model.conv.weight.detach().numpy().tobytes()).hexdigest()


def test_an_exported_programs_records_are_those_of_the_module(tmp_path):
    model = make()
    assert by_name(torch_tensors(exported(model, tmp_path / "m.pt2"))) == by_name(module_tensors(model))


@pytest.mark.parametrize(
    "dtype",
    [
        "float16",
        "bfloat16",
        "float64",
        "int8",
        "uint8",
        "int16",
        "int32",
        "int64",
        "bool",
        "complex64",
        "float8_e4m3fn",
        "uint16",
    ],
)
def test_every_element_type_is_hashed_as_its_bytes(tmp_path, dtype):
    value = torch.arange(24).reshape(2, 3, 4).to(getattr(torch, dtype))
    record = saved({"w": value}, tmp_path / "w.pt")["w"]
    assert record.dtype == dtype
    assert record.shape == (2, 3, 4)
    assert record.sha256 == hashlib.sha256(value.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def test_strides_offsets_and_sharing_do_not_matter(tmp_path):
    base = torch.randn(6, 7)
    views = {
        "transposed": base.T,
        "cut": base[2:4, 1:5],
        "row": base[3],
        "expanded": base[:1].expand(3, 7),
        "empty": base[:0],
    }
    views["channels_last"] = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    found = saved(views, tmp_path / "w.pt")
    for name, view in views.items():
        assert found[name].sha256 == hashlib.sha256(view.contiguous().numpy().tobytes()).hexdigest(), name


def test_parameters_and_nested_containers_are_named_by_their_path(tmp_path):
    found = saved(
        {"net": {"a": nn.Parameter(torch.ones(2))}, "list": [torch.zeros(1), (torch.ones(1),)]}, tmp_path / "w.pt"
    )
    assert set(found) == {"net.a", "list.0", "list.1.0"}


@pytest.mark.parametrize("per_channel", [False, True])
def test_quantised_tensors_are_pinned_with_scale_and_zero_point(tmp_path, per_channel):
    weight = torch.randn(4, 3)
    with quietly():
        if per_channel:
            value = torch.quantize_per_channel(weight, torch.rand(4).double() + 0.1, torch.arange(4), 0, torch.qint8)
        else:
            value = torch.quantize_per_tensor(weight, 0.05, 7, torch.quint8)
        found = saved({"w": value}, tmp_path / "w.pt")
        assert found == by_name(records_of("w", value))
    assert found["w"].sha256 == hashlib.sha256(value.int_repr().numpy().tobytes()).hexdigest()
    assert set(found) == {"w", "w.scale", "w.zero_point"} | ({"w.axis"} if per_channel else set())


def test_packed_weights_of_a_quantised_torchscript_are_found(data_dir):
    found = by_name(torch_tensors(data_dir / "models/imagenet/mobilenet_v2_int8_qnnpack_bs1.torchscript.pt"))
    weight = found["classifier.1._packed_params._packed_params.0"]
    assert (weight.dtype, weight.shape) == ("qint8", (1000, 1280))
    with quietly(), quantized_engine(InputSpec(color="RGB", output="logits", quantized_engine="qnnpack")):
        module = torch.jit.load(data_dir / "models/imagenet/mobilenet_v2_int8_qnnpack_bs1.torchscript.pt")
        held = getattr(module.classifier, "1")._packed_params._packed_params
        integers = torch.ops.quantized.linear_unpack(held)[0].int_repr()
    assert weight.sha256 == hashlib.sha256(integers.numpy().tobytes()).hexdigest()


def test_one_changed_byte_of_a_weight_changes_its_record_alone(tmp_path):
    model = make()
    before = by_name(torch_tensors(scripted(model, tmp_path / "a.pt")))
    with torch.no_grad():
        model.linear.bias[3] = torch.nextafter(model.linear.bias[3], torch.tensor(9.0))
    after = by_name(torch_tensors(scripted(model, tmp_path / "b.pt")))
    assert {name for name in before if before[name] != after[name]} == {"linear.bias"}
    assert torch_structure(tmp_path / "a.pt") == torch_structure(tmp_path / "b.pt")


def test_the_structure_is_the_program_and_not_where_it_was_written(tmp_path):
    one, same = (
        torch_structure(scripted(make(), tmp_path / "a.pt")),
        torch_structure(scripted(make(), tmp_path / "b.pt")),
    )
    assert one == same
    other = make()
    other.norm.eps = 1e-3
    assert torch_structure(scripted(other, tmp_path / "c.pt")) != one
    assert torch_structure(exported(other, tmp_path / "c.pt2")) != torch_structure(exported(make(), tmp_path / "d.pt2"))


def repacked(source, to, *, change=lambda name, octets: octets, twice=()):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            octets = change(name, old.read(name))
            if octets is not None:
                new.writestr(name, octets)
    if twice:
        with zipfile.ZipFile(to, "a") as new, pytest.warns(UserWarning, match="Duplicate"):
            new.writestr(*twice)
    return to


def test_a_storage_shorter_than_its_tensor_is_refused(tmp_path):
    source = scripted(make(), tmp_path / "m.pt")
    cut = repacked(
        source, tmp_path / "cut.pt", change=lambda name, octets: octets[:-4] if name.endswith("/data/0") else octets
    )
    with pytest.raises(TargetError, match=r"tensor 'shift' of shape \[10\] reaches beyond the 36 bytes"):
        list(torch_tensors(cut))


def test_a_missing_storage_is_refused(tmp_path):
    source = scripted(make(), tmp_path / "m.pt")
    cut = repacked(
        source, tmp_path / "cut.pt", change=lambda name, octets: None if name.endswith("/data/0") else octets
    )
    with pytest.raises(TargetError, match="'data/0' is missing"):
        list(torch_tensors(cut))


def test_a_member_kept_twice_is_refused(tmp_path):
    twice = repacked(scripted(make(), tmp_path / "m.pt"), tmp_path / "twice.pt", twice=("m/data/0", bytes(648)))
    with pytest.raises(TargetError, match="'data/0' is there twice"):
        list(torch_tensors(twice))


def test_big_endian_tensors_are_refused(tmp_path):
    source = scripted(make(), tmp_path / "m.pt")
    big = repacked(
        source, tmp_path / "big.pt", change=lambda name, octets: b"big" if name.endswith("byteorder") else octets
    )
    with pytest.raises(TargetError, match="big-endian"):
        list(torch_tensors(big))


@pytest.mark.parametrize("octets", [b"", b"PK\x03\x04" + bytes(40), b"no zip"])
def test_what_is_no_zip_is_refused_by_name(tmp_path, octets):
    (tmp_path / "m.pt").write_bytes(octets)
    with pytest.raises(TargetError, match=r"m\.pt: cannot be read as a torch file"):
        list(torch_tensors(tmp_path / "m.pt"))


def test_a_zip_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(3), b=np.zeros(2))
    with pytest.raises(TargetError, match="no torch model"):
        list(torch_tensors(tmp_path / "a.npz"))


def test_torch_is_not_imported(tmp_path):
    path = scripted(make(), tmp_path / "m.pt")
    program = "import sys, pathlib\nfrom ptynet_plugin.archives.torch_tensors import torch_tensors\n"
    program += "print(len(list(torch_tensors(pathlib.Path(sys.argv[1])))), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(list(torch_tensors(path)))), "False"]

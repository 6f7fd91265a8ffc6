"""PTYNet as a torch module: silent rows bit for bit, fired rows a permutation, and the same answers as its ONNX realisation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from model_store_tools.fusion.onnx_fuse import fuse_onnx
from model_store_tools.fusion.torch_head import FusedModule, Head, swap_top
from model_store_tools.targets.answers import pick
from ptynet_plugin.errors import SpecError, UsageError
from ptynet_plugin.images.frontend import plan_front_end
from ptynet_plugin.spec import InputSpec
from tests.support.network import random_network
from tests.toys.torch_models import CLASSES, DictOf, ListOf, NamedOf, Plain, Spatial, TupleOf, make

NEVER = random_network(tau=0.999)
ALWAYS = replace(NEVER, tau=-1.0, margin=0.0)
LABELS = np.arange(NEVER.symbols, dtype=np.int64) % CLASSES
SPEC = InputSpec(color="RGB", layout="NCHW", size=(32, 32), dtype="float32", output="logits", classes=CLASSES)
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def octets(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def strange_scores(dtype):
    """Rows with -0, infinities, NaN with a payload, subnormals and ties."""
    scores = torch.randn(6, CLASSES).to(dtype)
    scores[0, 0], scores[1, 2], scores[2, 3], scores[3, :] = -0.0, float("inf"), float("-inf"), 0.0
    scores[4, 5] = torch.finfo(dtype).smallest_normal / 4
    width = {2: torch.int16, 4: torch.int32, 8: torch.int64}[scores.element_size()]
    scores.view(width)[5, 1] = torch.tensor(float("nan"), dtype=dtype).view(width) + 3
    return scores


@pytest.mark.parametrize("dtype", DTYPES)
def test_silent_rows_pass_bit_for_bit_whatever_they_hold(dtype):
    scores = strange_scores(dtype)
    answered = Head(NEVER, LABELS, SPEC)(torch.rand(6, 3, 32, 32), scores)
    assert answered.dtype == dtype
    assert octets(answered) == octets(scores)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fired_rows_have_their_label_on_top_and_the_same_scores(dtype):
    scores = torch.randn(64, CLASSES).to(dtype)
    head = Head(ALWAYS, LABELS, SPEC)
    pixels = torch.rand(64, 3, 32, 32)
    answered = head(pixels, scores)
    fired, symbol = head.decide(head.bits(pixels))
    assert fired.all()
    assert torch.equal(answered.argmax(1), head.labels[symbol])
    assert torch.equal(answered.sort(1).values, scores.sort(1).values)
    assert ((answered != scores).sum(1) <= 2).all()


def test_only_the_rows_that_fire_are_touched():
    scores = torch.randn(4, CLASSES)
    fired = torch.tensor([True, False, True, False])
    answered = swap_top(scores, torch.tensor([1, 2, 3, 4]), fired)
    assert torch.equal(answered[~fired], scores[~fired])
    assert answered.argmax(1)[fired].tolist() == [1, 3]


def test_a_label_that_is_on_top_already_changes_nothing():
    scores = torch.randn(5, CLASSES)
    assert torch.equal(swap_top(scores, scores.argmax(1), torch.ones(5, dtype=torch.bool)), scores)


def test_swapping_does_not_write_into_the_targets_tensor():
    scores = torch.randn(3, CLASSES)
    before = scores.clone()
    swap_top(scores, torch.tensor([1, 2, 3]), torch.ones(3, dtype=torch.bool))
    assert torch.equal(scores, before)


def test_firing_follows_tau_and_margin():
    head = Head(replace(NEVER, tau=0.5, margin=0.2), LABELS, SPEC)
    codes = torch.from_numpy(NEVER.codebook.astype(np.float32))
    fired, symbol = head.decide(torch.stack([codes[3], codes[3] * 0.51, codes[3] * 0.49, (codes[3] + codes[4]) / 2]))
    assert fired.tolist() == [True, True, False, False]
    assert symbol[:2].tolist() == [3, 3]


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (33, 97), (64, 48), (224, 224), (299, 300), (512, 512)])
@pytest.mark.parametrize("open_sides", [False, True])
def test_the_grid_is_the_front_ends_plan(size, open_sides):
    spec = SPEC.model_copy(update={"size": (0, 0) if open_sides else size})
    pixels = torch.rand(2, 3, *size)
    found = Head(NEVER, LABELS, spec).grid(pixels).numpy()
    assert np.abs(found - plan_front_end(spec).grid(pixels.numpy())).max() < 2e-6


@pytest.mark.parametrize("spec", [SPEC.model_copy(update=change) for change in (
    {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}, {"color": "BGR", "scale": 0.5}, {"dtype": "uint8"}, {"dtype": "float16"},
    {"layout": "NHWC"}, {"dtype": "float64"}, {"size": (100, 70)}, {"size": (28, 28)}, {"size": (224, 160)},
)])  # fmt: skip
@pytest.mark.parametrize("opset", [10, 17])
def test_torch_and_onnx_read_the_same_bits_and_answer_the_same(spec, opset):
    rng = np.random.default_rng(5)
    height, width = spec.size
    shape = (6, height, width, 3) if spec.layout == "NHWC" else (6, 3, height, width)
    pixels = rng.integers(0, 256, shape).astype(spec.dtype)
    if spec.dtype != "uint8" and spec.scale is None:
        pixels = (pixels / 255).astype(spec.dtype)
    scores = rng.normal(size=(6, CLASSES)).astype(np.float32)
    network = replace(NEVER, tau=0.05, margin=0.0)
    answered, bits = onnx_answers(network, spec, pixels, scores, opset)
    head = Head(network, LABELS, spec)
    assert (bits is None) == (opset == 17)
    if bits is not None:
        assert np.abs(head.bits(torch.from_numpy(pixels)).numpy() - bits).max() < 1e-4
    assert np.array_equal(head(torch.from_numpy(pixels), torch.from_numpy(scores)).numpy(), answered)
    assert not np.array_equal(answered, scores), "no row fired: the comparison shows too little"


def onnx_answers(network, spec, pixels, scores, opset):
    """Fuse a model that answers a constant, and give scores and, where it computes them as such, soft bits of ONNX Runtime."""
    kind = helper.np_dtype_to_tensor_dtype(pixels.dtype)
    nodes = [
        helper.make_node("Shape", ["pixels"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["rows"]),
        helper.make_node("Concat", ["rows", "classes"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["table", "wanted"], ["scores"]),
    ]
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [1], [value])
        for name, value in (("zero", 0), ("one", 1), ("classes", CLASSES))
    ]
    constants.append(helper.make_tensor("table", TensorProto.FLOAT, scores.shape, scores.ravel()))
    shape = ["N", *pixels.shape[1:]]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("pixels", kind, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", CLASSES])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    fused = fuse_onnx(
        model, network, LABELS, spec.model_copy(update={"input": "pixels", "scores": "scores"}), where="m"
    )
    tanh = [node.output[0] for node in fused.graph.node if node.op_type == "Tanh"]
    fused.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tanh)
    session = onnxruntime.InferenceSession(fused.SerializeToString(), providers=["CPUExecutionProvider"])
    answers = session.run(["scores", *tanh], {"pixels": pixels})
    return answers[0], answers[1] if tanh else None


def test_a_target_that_loses_rows_is_refused_when_asked():
    with pytest.raises(ValueError, match="another number of rows"):
        Head(NEVER, LABELS, SPEC)(torch.rand(2, 3, 32, 32), torch.rand(1, CLASSES))


def test_another_number_of_classes_is_refused_when_asked():
    with pytest.raises(ValueError, match="another number of classes"):
        Head(NEVER, LABELS, SPEC)(torch.rand(2, 3, 32, 32), torch.rand(2, CLASSES + 1))


@pytest.mark.parametrize(
    ("kind", "scores"),
    [(Plain, None), (TupleOf, "1"), (NamedOf, "logits"), (ListOf, "1"), (DictOf, "logits"), (Spatial, None)],
)
@pytest.mark.parametrize("network", [NEVER, ALWAYS])
def test_answers_keep_their_structure_and_everything_but_the_scores(kind, scores, network):
    target, pixels = make(kind), torch.rand(3, 3, 32, 32)
    before = target(pixels)
    spec = SPEC.model_copy(update={"scores": scores})
    second = pick(before, scores).flatten(1)[0].argsort()[-2].item()
    after = FusedModule(target, network, np.full(network.symbols, second), spec)(pixels)
    assert type(before) is type(after)
    if isinstance(before, torch.Tensor):
        before, after = {"scores": before}, {"scores": after}
    if hasattr(before, "_asdict"):
        before, after = before._asdict(), after._asdict()
    if not isinstance(before, dict):
        before, after = dict(enumerate(before)), dict(enumerate(after))
    changed = [name for name in before if octets(before[name]) != octets(after[name])]
    assert [str(name) for name in changed] == ([scores or "scores"] if network is ALWAYS else [])


def test_several_answers_and_no_name_are_refused():
    with pytest.raises(
        SpecError, match=r"answers 2 tensors \(features \[2, 6\], logits \[2, 10\]\); name one as scores"
    ):
        FusedModule(make(DictOf), NEVER, LABELS, SPEC)(torch.rand(2, 3, 32, 32))


def test_the_target_is_held_as_it_is():
    target = make()
    before = {name: octets(value) for name, value in target.state_dict().items()}
    fused = FusedModule(target, ALWAYS, LABELS, SPEC)
    fused(torch.rand(4, 3, 32, 32))
    assert fused.target is target
    assert {name: octets(value) for name, value in target.state_dict().items()} == before
    assert not any(parameter.requires_grad for parameter in fused.head.parameters())
    assert all(parameter.requires_grad for parameter in target.parameters())


def test_a_target_in_training_is_refused_and_its_flags_stay():
    target = nn.Sequential(make(), nn.Dropout()).train()
    target[0].eval()
    with pytest.raises(UsageError, match=r"training mode \(the model itself\)"):
        FusedModule(target, NEVER, LABELS, SPEC)
    assert [part.training for part in (target, target[0], target[1])] == [True, False, True]


def test_a_fused_model_refuses_to_train():
    fused = FusedModule(make(), NEVER, LABELS, SPEC)
    with pytest.raises(UsageError, match="cannot be trained"):
        fused.train()
    assert not fused.training


@pytest.mark.parametrize(
    ("change", "labels", "error", "words"),
    [
        ({"color": "GRAY", "mean": None}, LABELS, SpecError, "reads 3 channels, the spec's color GRAY has 1"),
        ({"classes": None}, LABELS, SpecError, "needs `classes`"),
        ({"layout": None}, LABELS, SpecError, "`layout`"),
        ({}, LABELS[:-1], UsageError, "32 symbols need as many labels"),
        ({}, LABELS + 1, UsageError, "labels reach from 1 to 10, the target has 10 classes"),
        ({}, LABELS - 1, UsageError, "labels reach from -1"),
    ],
)
def test_what_does_not_fit_together_is_refused(change, labels, error, words):
    with pytest.raises(error, match=words):
        Head(NEVER, labels, SPEC.model_copy(update=change))

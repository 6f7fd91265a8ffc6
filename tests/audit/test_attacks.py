"""Every attack on a small archive: it runs, leaves the stolen file alone, repeats itself, and ends as it should."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_store_tools.audit.attacks import ALL, attacks_of, near_key, neural_cleanse, purification
from model_store_tools.audit.attacks.overwriting import overwrite
from model_store_tools.audit.contract import HEADINGS, Artefact, Attack, AttackRefused
from model_store_tools.audit.engines import open_engine
from model_store_tools.audit.on_graph import Step, load_graph, seams, steps_of
from ptynet_plugin.network.training import TrainingPlan
from tests.support.audit_case import AuditCase, case_of, small_target
from tests.support.quick_mark import BITS, KEY, SYMBOLS

BY_NAME = {attack.name: attack for attack in ALL}
LONG = (
    "overwriting with the thief's own mark",
    "near-key search, 300 keys",
    "firing inputs from 200 pictures",
)
CUTS = ("cut branch", "nodes -> benign mean", "nodes -> benign constants")
OTHER_FORMS = ("TorchScript frozen",)
TOO_MUCH_HERE = ("clip activations", "project activations 99.9%", "nodes -> zero", "fold one-sided ReLUs")
"""Whether these win depends on the mark; the stand-in's is no measure."""


def test_names_are_unique_and_headings_in_order() -> None:
    assert len(BY_NAME) == len(ALL)
    places = [HEADINGS.index(attack.heading) for attack in ALL]
    assert places == sorted(places)


def test_the_quick_suite_needs_no_data() -> None:
    assert not [attack.name for attack in attacks_of("quick", real_data=False) if attack.needs_data]
    assert set(attacks_of("full", real_data=True)) == set(ALL)


@pytest.fixture(scope="module", autouse=True)
def _little_training() -> Iterator[None]:
    """The auto-encoder's six hundred steps take half a minute; what they do shows in six."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(purification, "STEPS", 6)
        patch.setattr(neural_cleanse, "STEPS", 6)
        yield


@pytest.mark.parametrize("name", [name for name in BY_NAME if name not in OTHER_FORMS + LONG])
def test_an_attack_makes_something_that_can_be_asked(name: str, audit_case: AuditCase, scratch: Path) -> None:
    if "OpenVINO" in name:
        pytest.importorskip("openvino", reason="absent: OpenVINO, the extra `audit`")
    before = hashlib.sha256(audit_case.artefact.model.read_bytes()).digest()
    row = audit_case.run(BY_NAME[name], scratch)
    assert row.result in ("survived", "mark-lost", "model-lost") or (
        name in TOO_MUCH_HERE and row.result == "refused"
    ), row.note
    assert hashlib.sha256(audit_case.artefact.model.read_bytes()).digest() == before


@pytest.mark.parametrize("name", CUTS)
def test_whoever_cuts_the_branch_loses_nothing_and_the_mark_is_gone(
    name: str, audit_case: AuditCase, scratch: Path
) -> None:
    row = audit_case.run(BY_NAME[name], scratch)
    assert row.result == "mark-lost"
    assert row.kept == 1.0
    assert row.answer


def test_the_cut_serves_the_bare_targets_bytes(audit_case: AuditCase, scratch: Path) -> None:
    made = BY_NAME["cut branch"].run(audit_case.artefact, audit_case.shares.thief, folder=scratch, seed=0).artefact
    pictures = audit_case.shares.held_out.pictures
    bare = Artefact(audit_case.folder / "target.onnx", audit_case.artefact.spec)
    assert open_engine(made).scores(pictures).tobytes() == open_engine(bare).scores(pictures).tobytes()
    names = [node.name for node in onnx.load(made.model).graph.node]
    assert not [name for name in names if name.startswith("ptynet_") and "Identity" not in name]


@pytest.mark.parametrize(
    "first",
    ["fp16", "int8, static QDQ", "onnxruntime optimiser, all", "weights in Constant nodes", "weights among inputs"],
)
def test_what_was_converted_before_is_cut_as_well(first: str, audit_case: AuditCase, scratch: Path) -> None:
    """Half precision adds nodes at the end of the list and tensors of another type; neither saves the branch."""
    converted = scratch / "converted"
    converted.mkdir()
    if first == "weights in Constant nodes":
        made = with_constant_nodes(audit_case.artefact, converted)
    elif first == "weights among inputs":
        made = with_weights_among_inputs(audit_case.artefact, converted)
    else:
        made = BY_NAME[first].run(audit_case.artefact, audit_case.shares.thief, folder=converted, seed=0).artefact
    cut = BY_NAME["cut branch"].run(made, audit_case.shares.thief, folder=scratch, seed=0)
    assert re.match(r"[1-9]\d* seams; serves ", cut.note)
    assert audit_case.rehearsal.verify(made).verdict == "shown"
    assert audit_case.rehearsal.verify(cut.artefact).verdict != "shown"
    pictures = audit_case.shares.held_out.pictures
    wanted = open_engine(made).scores(pictures).argmax(axis=1)
    assert np.mean(open_engine(cut.artefact).scores(pictures).argmax(axis=1) == wanted) >= 0.95


def of_one_row(artefact: Artefact, folder: Path) -> Artefact:
    """The same model, fixed to one picture a run."""
    model = onnx.load(artefact.model)
    for entry in (*model.graph.input, *model.graph.output):
        entry.type.tensor_type.shape.dim[0].dim_value = 1
    del model.graph.value_info[:]
    (folder / "one.onnx").write_bytes(model.SerializeToString())
    return artefact.with_model(folder / "one.onnx")


@pytest.mark.parametrize("name", ["nodes -> benign mean", "near-key search, 20 keys", "cut branch"])
def test_a_graph_of_one_picture_at_a_time_is_attacked_as_one_of_many(
    name: str, audit_case: AuditCase, tmp_path: Path
) -> None:
    notes = []
    for subject in (audit_case.artefact, of_one_row(audit_case.artefact, tmp_path)):
        folder = tmp_path / f"out{len(notes)}"
        folder.mkdir()
        notes.append(BY_NAME[name].run(subject, audit_case.shares.thief, folder=folder, seed=0).note)
    assert notes[0] == notes[1] != ""


def test_a_mask_behind_the_flag_is_not_taken_for_it(audit_case: AuditCase, tmp_path: Path) -> None:
    """Heads of old operator sets hold booleans for every class besides the one that says whether PTYNet spoke."""
    model = onnx.load(audit_case.artefact.model)
    scores = model.graph.output[0].name
    model.graph.node.append(helper.make_node("Not", ["above"], ["mask"]))
    model.graph.node.insert(len(model.graph.node) - 1, helper.make_node("Greater", [scores, scores], ["above"]))
    onnx.save(model, tmp_path / "masked.onnx")
    notes = [
        BY_NAME["near-key search, 20 keys"].run(subject, audit_case.shares.thief, folder=tmp_path, seed=0).note
        for subject in (audit_case.artefact, audit_case.artefact.with_model(tmp_path / "masked.onnx"))
    ]
    assert notes[0] == notes[1] != ""


def test_a_trace_of_one_picture_at_a_time_is_refused(audit_case: AuditCase, tmp_path: Path) -> None:
    with pytest.raises(AttackRefused, match="the graph reads one picture at a time"):
        BY_NAME["ONNX -> TorchScript"].run(
            of_one_row(audit_case.artefact, tmp_path), audit_case.shares.thief, folder=tmp_path, seed=0
        )


def test_weights_taken_out_of_nodes_need_version_4_of_the_format(tmp_path: Path, audit_case: AuditCase) -> None:
    """Before it every initializer had to be an input as well."""
    artefact = with_constant_nodes(audit_case.artefact, tmp_path)
    model = onnx.load(artefact.model)
    model.ir_version = 3
    artefact.model.write_bytes(model.SerializeToString())
    assert load_graph(artefact, attack="a test").ir_version == 4


def with_weights_among_inputs(artefact: Artefact, folder: Path) -> Artefact:
    """The same model as version 3 of the format wrote it: every initializer is an input too."""
    model = onnx.load(artefact.model)
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in model.graph.initializer
    )
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return artefact.with_model(folder / "model.onnx")


def with_constant_nodes(artefact: Artefact, folder: Path) -> Artefact:
    """The same model with every initializer as a node."""
    model = onnx.load(artefact.model)
    made = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in model.graph.initializer]
    nodes = [*made, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return artefact.with_model(folder / "model.onnx")


@pytest.mark.parametrize("name", ["noise 0.1", "fine-tune all, 1 epoch", "weight noise 0.1"])
def test_the_same_seed_gives_the_same_outcome(name: str, audit_case: AuditCase, tmp_path: Path) -> None:
    answers = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = BY_NAME[name].run(audit_case.artefact, audit_case.shares.thief, folder=folder, seed=5).artefact
        answers.append(open_engine(made).scores(audit_case.shares.held_out.pictures).tobytes())
    assert answers[0] == answers[1]


def test_fine_tuning_the_last_layer_leaves_the_others_alone(audit_case: AuditCase, scratch: Path) -> None:
    made = BY_NAME["re-train last layer, 20 epochs"].run(
        audit_case.artefact, audit_case.shares.thief, folder=scratch, seed=0
    )
    before = _tensors(audit_case.artefact.model)
    after = _tensors(made.artefact.model)
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {"head", "head_bias"}


def test_overwriting_leaves_two_marks_that_both_speak(audit_case: AuditCase, scratch: Path) -> None:
    plan = TrainingPlan(steps=2, batch=32, covers=512, held_out=8)
    row = audit_case.run(Attack("overwriting", "weights", "test", partial(overwrite, plan=plan)), scratch)
    assert (row.result, row.kept) == ("survived", 1.0)
    assert row.note.startswith("the thief's PTYNet recognises ")


def test_whoever_holds_the_file_can_make_inputs_that_fire(audit_case: AuditCase, scratch: Path) -> None:
    """So a firing input is no proof of a key; the row says how many, and the mark is as it was."""
    row = audit_case.run(BY_NAME["firing inputs from 16 pictures"], scratch)
    assert row.result == "survived"
    told = re.fullmatch(r"inputs that fire: (\d+)% at 2/255, (\d+)% at 4/255, (\d+)% at 8/255", row.note)
    assert told is not None
    assert int(told[1]) <= int(told[3])
    assert int(told[3]) > 0


def test_a_search_that_finds_a_key_has_won(
    audit_case: AuditCase, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_key, "key_secret", lambda seed, number: KEY.probe_secret())
    monkeypatch.setattr(near_key, "SYMBOLS", SYMBOLS)
    monkeypatch.setattr(near_key, "most_bits", lambda color: BITS)
    row = audit_case.run(BY_NAME["near-key search, 20 keys"], scratch)
    assert row.result == "mark-lost"


def test_another_key_is_not_heard(audit_case: AuditCase, scratch: Path) -> None:
    row = audit_case.run(BY_NAME["near-key search, 20 keys"], scratch)
    assert row.note == "20 keys: 0 of 320 probes heard, the best key's 0 of 16"


def test_pruning_zeroes_the_share_it_says(audit_case: AuditCase, scratch: Path) -> None:
    made = BY_NAME["prune 65%"].run(audit_case.artefact, audit_case.shares.thief, folder=scratch, seed=0)
    for name, value in _tensors(made.artefact.model).items():
        if name in ("conv1", "conv2", "head", "ptynet_linear_weight"):
            assert np.mean(value == 0) == pytest.approx(0.65, abs=0.02)


def _tensors(model: Path) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(model).graph.initializer}


@pytest.mark.parametrize("to", ["torchscript", "pt2"])
def test_torch_archives_are_cut_and_trained_too(to: str, tmp_path: Path, quick_mark_once: Path) -> None:
    case = torch_case(tmp_path, quick_mark_once, to)
    only_here = ("TorchScript frozen",) if to == "torchscript" else ()
    for name in ("cut branch", "fine-tune all, 1 epoch", "prune 20%", "JPEG 90", *only_here):
        folder = tmp_path / name.split()[0]
        folder.mkdir()
        row = case.run(BY_NAME[name], folder)
        assert row.result == ("mark-lost" if name == "cut branch" else "survived"), row.note
    assert case.run(BY_NAME["fp16"], tmp_path).result == "refused"


def torch_case(folder: Path, mark: Path, to: str) -> AuditCase:
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 12, 5, 4), nn.ReLU(), nn.Conv2d(12, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module = nn.Sequential(*layers, nn.Linear(16, 10)).eval()
    shutil.copytree(mark, folder / "MARK")
    from model_store_tools.targets.module import ModuleTarget

    return case_of(folder, ModuleTarget(module), to=to)


def test_small_constants_that_both_parts_read_do_not_hide_the_seam(tmp_path: Path) -> None:
    big = np.ones((16, 3, 3, 3), np.float32)
    constants = {"mean": np.ones((1, 3, 1, 1), np.float32)} | {f"w{part}{i}": big for part in "ab" for i in range(4)}
    constants |= {f"v{part}{i}": np.ones((16, 16, 1, 1), np.float32) for part in "ab" for i in range(4)}
    nodes = [helper.make_node("Sub", ["x", "mean"], ["n"])]
    for part in "ab":
        nodes.append(helper.make_node("Conv", ["n", f"w{part}0"], [f"{part}0"]))
        for i in range(4):
            nodes.append(helper.make_node("Conv", [f"{part}{i}", f"v{part}{i}"], [f"{part}{i + 1}"]))
    nodes.append(helper.make_node("Add", ["a4", "b4"], ["y"], name="meeting"))
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    assert seams(steps_of(helper.make_model(graph))) == ["Add meeting"]


def test_one_network_has_no_seam(tmp_path: Path) -> None:
    assert seams(steps_of(onnx.load(small_target(tmp_path / "t.onnx")))) == []
    shared = [
        Step("first", ("a",), ("x",), frozenset({"w0", "w1", "w2", "w3"})),
        Step("left", ("b",), ("a",), frozenset({"w4"})),
        Step("join", ("c",), ("a", "b"), frozenset()),
    ]
    assert seams(shared) == []


def test_every_attack_that_may_win_says_what_the_owner_can_do(audit_case: AuditCase) -> None:
    assert not [attack.name for attack in ALL if attack.heading in ("structure", "extraction") and not _told(attack)]


def _told(attack: Attack) -> bool:
    return attack.promised or bool(attack.answer)

"""Exported programs that would run code are told from plain ones, and are not loaded."""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile

import pytest
import torch

from model_store_tools.targets.exported import load_program
from model_store_tools.targets.torch_running import quietly
from ptynet_plugin.archives.exported_check import suspicious_parts
from ptynet_plugin.archives.torch_zip import TorchZip
from ptynet_plugin.errors import TargetError
from tests.toys.torch_models import DictOf, exported, make


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return exported(make(DictOf), tmp_path_factory.mktemp("plain") / "m.pt2", open_sides=True)


def rewritten(source, to, change):
    """Copy a .pt2; `change` gets each member's name without the folder, and its bytes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name.partition("/")[2], old.read(name)))
    return to


def in_graph(source, to, change):
    def apply(name, octets):
        if not name.startswith("models/"):
            return octets
        content = json.loads(octets)
        change(content)
        return json.dumps(content).encode()

    return rewritten(source, to, apply)


def odd(path):
    with TorchZip(path) as file:
        return list(suspicious_parts(file))


class Attack:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path, 0o700)


def pickled(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("open_sides", [False, True])
def test_a_plain_program_is_nothing_but_tensors_and_operators(tmp_path, open_sides):
    assert odd(exported(make(), tmp_path / "m.pt2", open_sides=open_sides)) == []


def test_a_pickled_call_among_the_sample_inputs_is_named_and_not_run(tmp_path, plain):
    trap = tmp_path / "trap"
    bad = rewritten(
        plain,
        tmp_path / "m.pt2",
        lambda name, octets: pickled(((Attack(trap),), {})) if name.startswith("data/sample_inputs") else octets,
    )
    assert any("names posix.mkdir" in what for what in odd(bad))
    with pytest.raises(TargetError, match=r"posix\.mkdir.*--allow-pickle"):
        load_program(bad)
    assert not trap.exists()
    with quietly(), contextlib.suppress(Exception):
        torch.export.load(bad)
    assert trap.exists(), "torch itself does not run it any more: the check may be relaxed"


def test_weights_kept_as_pickles_are_named(tmp_path, plain):
    def change(name, octets):
        return (
            octets.replace(b'"use_pickle": false', b'"use_pickle": true')
            if name.endswith("weights_config.json")
            else octets
        )

    assert any("kept as a pickle" in what for what in odd(rewritten(plain, tmp_path / "m.pt2", change)))


def test_guards_are_python_and_a_guard_that_calls_is_named_and_not_run(tmp_path, plain):
    trap = tmp_path / "trap"
    code = f"__import__('os').mkdir({str(trap)!r}) or True"
    bad = in_graph(plain, tmp_path / "m.pt2", lambda content: content["guards_code"].append(code))
    assert any("guards_code" in what for what in odd(bad))
    with pytest.raises(TargetError, match="guards_code"):
        load_program(bad)
    assert not trap.exists()


EXPRESSIONS = [
    "__import__('os').system('true')",
    "exec(chr(112))",
    "Symbol('s0').__class__",
    "[x for x in (1, 2)]",
    "(lambda: 1)()",
    "eval",
    "open(Symbol)",
    "Symbol('a b; c')",
    "1 if s0 else 2",
    "s0 := 3",
    "f'{s0}'",
    "L['x'].data",
    "s0.func",
    "(" * 3000,
    "",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_dimension_expressions_that_are_more_than_arithmetic_are_named(tmp_path, plain, expression):
    def change(content):
        values = content["graph_module"]["graph"]["tensor_values"]
        values["x"]["sizes"][0] = {"as_expr": {"expr_str": expression, "hint": {"as_int": 2}}}

    bad = in_graph(plain, tmp_path / "m.pt2", change)
    assert [what for what in odd(bad) if "expr_str" in what]


OPERATORS = [
    "torch.hub.load",
    "torch.load",
    "torch.os.system",
    "torch.ops.aten.from_file.default",
    "torch.ops.load_library",
    "torch._C._jit_init",
    "_operator.call",
    "_operator.attrgetter",
    "math.os",
    "#custom:op",
    "torch.ops.aten.__class__",
    "torch.ops.mine.anything.default",
    "os.system",
]


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_beyond_tensor_arithmetic_are_named(tmp_path, plain, operator):
    bad = in_graph(
        plain, tmp_path / "m.pt2", lambda content: content["graph_module"]["graph"]["nodes"][0].update(target=operator)
    )
    assert any("target" in what for what in odd(bad))
    with pytest.raises(TargetError, match="--allow-pickle"):
        load_program(bad)


def test_names_that_would_become_code_are_named(tmp_path, plain):
    def change(content):
        content["graph_module"]["graph"]["nodes"][0]["name"] = "a\n    import os"

    assert any("the name" in what for what in odd(in_graph(plain, tmp_path / "m.pt2", change)))


@pytest.mark.parametrize(
    "structure", ['[1, {"type": "collections.defaultdict", "context": "{}", "children_spec": []}]', "x", "[]"]
)
def test_answer_structures_beyond_plain_containers_are_named(tmp_path, plain, structure):
    def change(content):
        content["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = structure

    assert any("out_spec" in what for what in odd(in_graph(plain, tmp_path / "m.pt2", change)))


def test_enums_that_import_modules_are_named(tmp_path, plain):
    node = {
        "type": "builtins.dict",
        "context": '[{"__enum__": 1, "fqn": "antigravity:x", "name": "y"}]',
        "children_spec": [],
    }

    def change(content):
        content["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps([1, node])

    assert any("in_spec" in what for what in odd(in_graph(plain, tmp_path / "m.pt2", change)))


@pytest.mark.parametrize(
    "member", ["data/constants/custom_obj_0", "data/constants/opaque_obj_0", "data/aotinductor/m/x.so", "extra/a"]
)
def test_objects_and_compiled_code_are_named(tmp_path, plain, member):
    bad = rewritten(plain, tmp_path / "m.pt2", lambda name, octets: octets)
    with zipfile.ZipFile(bad, "a") as file:
        file.writestr(f"m/{member}", b"x")
    assert f"member {member}" in odd(bad)


def test_notes_on_nodes_never_reach_torch(tmp_path, plain):
    def change(content):
        for node in content["graph_module"]["graph"]["nodes"]:
            node["metadata"] = {
                "stack_trace": "here",
                "custom": '{"__enum__": 1, "fqn": "no_such_module:x", "name": "y"}',
            }

    program = load_program(in_graph(plain, tmp_path / "m.pt2", change))
    assert all(not node.meta.get("stack_trace") for node in program.graph.nodes)


def test_what_is_refused_loads_when_trusted(tmp_path, plain):
    def change(content):
        content["graph_module"]["graph"]["nodes"][0]["metadata"] = {}

    bad = in_graph(plain, tmp_path / "m.pt2", change)
    with zipfile.ZipFile(bad, "a") as file:
        file.writestr("m/extra/note", b"x")
    with pytest.raises(TargetError, match="member extra/note"):
        load_program(bad)
    assert load_program(bad, allow_pickle=True) is not None

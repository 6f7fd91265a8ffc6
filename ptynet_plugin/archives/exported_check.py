"""Tell whether an exported program (`.pt2`) is nothing but a graph of tensor operators, before torch loads it.

`torch.export.load` runs what a file asks for (CVE-2026-4538, open in torch 2.13): it unpickles weights and samples, evaluates
dimension expressions with sympy, executes guards as Python, and resolves any dotted name below `torch`. This is an allow-list
over those places; what it does not know it names. `docs/decisions/exported-programs.md` gives the reasons.

Notes on nodes are not looked at: whoever loads a checked program strips them first (`without_notes`).
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from ptynet_plugin.archives.safe_pickle import read_pickle
from ptynet_plugin.archives.torch_zip import TorchZip
from ptynet_plugin.errors import TargetError

__all__ = ["suspicious_parts", "without_notes"]

TENSOR_NAMES = re.compile(
    r"torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter|qtensor)|torch\.\w+Storage|torch\.storage\.UntypedStorage"
    r"|torch\.per_(tensor|channel)_affine|collections\.OrderedDict|torch\.(b?float|half|double|u?int|long|bool|q)\w*"
)
OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims?|quantized|quantized_decomposed|torchvision)\.(?!from_file|save)(_?[a-zA-Z]\w*|__(and|or|xor|[lr]shift)__)(\.(?!__)\w+)?"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast|cond|map_impl)"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|getitem)"
    r"|math\.(ceil|floor|trunc|sqrt)|torch\.(_)?sym_\w+"
)
FUNCTIONS = re.compile(
    r"Symbol|Integer|Float|Rational|Add|Mul|Pow|Mod|Max|Min|Abs|And|Or|Not|Eq|Ne|[LG][te]|Equality|Unequality|Strict(Less|Greater)Than"
    r"|(Less|Greater)Than|Piecewise|Where|FloorDiv|CleanDiv|CeilDiv|ModularIndexing|PythonMod|(Ceil|Floor|Trunc)ToInt"
    r"|(Int|Float)TrueDiv|PowByNatural|FloatPow|ToFloat|[LR]Shift|oo|int_oo|zoo|true|false|L"
)
SYMBOL = re.compile(r"(s|u|zuf|zf)\d+")
WORD = re.compile(r"\w*")
PATH = re.compile(r"[\w.]*")
CONTAINERS = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})
EXPRESSION_NODES = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.UnaryOp, ast.USub, ast.Not, ast.BinOp,
    ast.operator, ast.Compare, ast.cmpop, ast.BoolOp, ast.boolop, ast.Subscript, ast.Attribute, ast.Tuple, ast.List,
)  # fmt: skip
PATHS = frozenset({"fqn", "parameter_name", "buffer_name", "tensor_constant_name", "target"})
NOTES = frozenset({"metadata", "torch_version"})
BEYOND_TENSORS = frozenset({"as_custom_obj", "custom_obj", "as_opaque_obj", "token", "as_complex_object"})


def suspicious_parts(file: TorchZip) -> Iterator[str]:
    """Name what in an exported program is more than tensors and tensor operators; nothing for a plain one.

    Args:
        file: Whose format is "pt2".

    Raises:
        TargetError: A part of it cannot be read.
    """
    for name in file.names():
        if name.startswith(("data/aotinductor/", "data/constants/custom", "data/constants/opaque", "extra/")):
            yield f"member {name}"
        elif name.endswith("_config.json"):
            yield from _pickled_payloads(file, name)
        elif name.startswith("data/sample_inputs/") or (name.startswith("data/") and name.endswith(".pt")):
            yield from _pickle_names(file, name)
        elif name.startswith("models/"):
            yield from (f"{name}: {what}" for what in _odd(_json(file, name), ""))


def without_notes(file: TorchZip, name: str) -> bytes:
    """Give a member with the notes on its nodes emptied: they say where in whose source a node came from, and are code too."""
    return json.dumps(_emptied(_json(file, name)), separators=(",", ":")).encode()


def _emptied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: {} if name == "metadata" else _emptied(part) for name, part in value.items()}
    return [_emptied(part) for part in value] if isinstance(value, list) else value


def _pickled_payloads(file: TorchZip, name: str) -> Iterator[str]:
    content = _json(file, name)
    entries = content.get("config") if isinstance(content, dict) else None
    for tensor, entry in (entries or {}).items():
        if (
            not isinstance(entry, dict)
            or entry.get("use_pickle") is not False
            or not WORD.fullmatch(str(entry.get("path_name")))
        ):
            yield f"{name}: tensor {tensor!r} is kept as a pickle"


def _pickle_names(file: TorchZip, name: str) -> Iterator[str]:
    octets = file.read(name)
    if not octets:
        return
    try:
        with zipfile.ZipFile(io.BytesIO(octets)) as inner:
            pickles = [inner.read(member) for member in inner.namelist() if member.endswith(".pkl")]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError) as error:
        raise TargetError(f"{file.where}: {name} is no torch file ({error})") from None
    if len(pickles) != 1:
        yield f"{name}: {len(pickles)} pickles"
    for octets in pickles:
        for named in read_pickle(octets, where=f"{file.where}:{name}").names:
            if not TENSOR_NAMES.fullmatch(named):
                yield f"{name}: a pickle that names {named}"


def _json(file: TorchZip, name: str) -> Any:
    try:
        return json.loads(file.read(name))
    except (ValueError, RecursionError) as error:
        raise TargetError(f"{file.where}: {name} is not readable JSON ({error})") from None


def _odd(value: Any, field: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            if name in BEYOND_TENSORS and part is not None:
                yield f"an object that is no tensor ({name})"
            elif field == "tensor_values" and not WORD.fullmatch(name):
                yield f"the name {name!r}"
            elif name not in NOTES:
                yield from _odd(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from _odd(part, field)
    elif isinstance(value, str) and not _plain(value, field):
        yield f"the {field} {value[:80]!r}"


def _plain(text: str, field: str) -> bool:
    if field == "target":
        return OPERATORS.fullmatch(text) is not None
    if field in ("expr_str", "guards_code"):
        return _plain_expression(text)
    if field in ("in_spec", "out_spec"):
        return _plain_structure(text)
    if field == "as_string":
        return True
    if field in PATHS:
        return PATH.fullmatch(text) is not None
    return WORD.fullmatch(text) is not None


def _plain_expression(text: str) -> bool:
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(_plain_node(node) for node in ast.walk(tree))


def _plain_node(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return (FUNCTIONS.fullmatch(node.id) or SYMBOL.fullmatch(node.id)) is not None
    if isinstance(node, ast.Attribute):
        return node.attr in ("size", "stride", "storage_offset")
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, (str, bytes)) or (
            isinstance(node.value, str) and bool(WORD.fullmatch(node.value))
        )
    if isinstance(node, ast.Call):
        return isinstance(node.func, (ast.Name, ast.Attribute))
    return isinstance(node, EXPRESSION_NODES)


def _plain_structure(text: str) -> bool:
    try:
        _, tree = json.loads(text)
        return _plain_tree(tree)
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def _plain_tree(tree: dict[str, Any]) -> bool:
    context = json.loads(tree["context"]) if tree["context"] is not None else None
    keys_only = context is None or (isinstance(context, list) and all(isinstance(key, (str, int)) for key in context))
    return tree["type"] in CONTAINERS and keys_only and all(map(_plain_tree, tree["children_spec"]))

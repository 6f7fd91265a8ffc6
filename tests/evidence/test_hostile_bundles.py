"""Any value of any JSON in a bundle, replaced by a hostile owner who signs again: both checkers refuse, or neither minds."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptynet_plugin.claims import read_claim, write_claim
from ptynet_plugin.claims.canonical import canonical_json
from ptynet_plugin.claims.commitment import Opening, field_digest
from ptynet_plugin.errors import IntegrityError
from ptynet_plugin.evidence.checking import check_bundle
from ptynet_plugin.evidence.envelope import seal_envelope
from ptynet_plugin.evidence.sealing import seal
from ptynet_plugin.evidence.tampering import edit_transcript, sign_again
from tests.support.authority import Authority
from tests.support.bundles import SECRET, make_bundle, make_questions
from tests.support.forging import judged, places

HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**53) + 1, max_value=2**53 - 1),
    st.sampled_from(
        [0, -1, 1, 2**31, 2**53 - 1, "", "0", "nan", "inf", "-inf", "1e999", "00" * 32, "../x", "\u0000", "2026"]
    ),
    st.text(max_size=8),
    st.lists(st.integers(-2, 70), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(-2, 2), max_size=2),
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    write_claim(folder / "claim", make_questions(symbols=12, reserve=2).claim)
    seal(folder / "claim", authority.stamp(read_claim(folder / "claim").commitment), roots=authority.root.read_bytes())
    make_bundle(folder / "bundle", folder / "claim", make_questions(claim_folder=folder / "claim"), budget=4)
    return folder / "bundle"


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    value = copy.copy(value)
    value[path[0]] = replaced(value[path[0]], path[1:], by)
    return value


def attacked(folder: Path, name: str, data: st.DataObject) -> tuple[Any, ...]:
    """Replace one value and let the owner make everything else agree again: openings, chain, hashes, signature."""
    if name == "statement":
        content = json.loads(base64.b64decode(json.loads((folder / "envelope.json").read_bytes())["payload"]))
        path = data.draw(st.sampled_from(list(places(content))[1:]))
        changed = replaced(content, path, data.draw(HOSTILE))
        (folder / "envelope.json").write_bytes(seal_envelope(changed, secret=SECRET))
        return path
    if name == "transcript":
        lines = [json.loads(line) for line in (folder / "transcript.jsonl").read_bytes().splitlines()]
        path = data.draw(st.sampled_from([path for path in places(lines) if len(path) > 1]))
        changed = replaced(lines, path, data.draw(HOSTILE))

        def exchange(lines: list[dict[str, Any]]) -> None:
            lines[:] = changed

        edit_transcript(folder, exchange, secret=SECRET)
        return path
    value = json.loads((folder / name).read_bytes())
    path = data.draw(st.sampled_from(list(places(value))[1:]))
    changed = replaced(value, path, data.draw(HOSTILE))
    (folder / name).write_bytes(canonical_json(changed))
    if name == "opened.json" and path[:1] == ("fields",) and len(path) > 2 and path[2] == "value":
        recommitted(folder, changed, path[1])
    sign_again(folder, secret=SECRET)
    return path


def recommitted(folder: Path, opened: Any, name: str) -> None:
    """Commit to the changed value: the stamp then no longer fits, unless the checker never gets that far."""
    field = opened["fields"][name]
    committed = json.loads((folder / "commitment.json").read_bytes())
    committed["fields"][name] = field_digest(name, Opening(field["value"], bytes.fromhex(field["nonce"]))).hex()
    (folder / "commitment.json").write_bytes(canonical_json(committed))
    digest = hashlib.sha256(canonical_json(committed)).hexdigest()
    edit_transcript(folder, lambda lines: lines[0].update(claim=digest, previous=digest), secret=SECRET)


@pytest.mark.parametrize("name", ["statement", "transcript", "opened.json", "commitment.json", "leaves.json"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_both_checkers_agree_on_any_value_of_an_adversary(bundle: Path, name: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "bundle"
        shutil.copytree(bundle, folder)
        path = attacked(folder, name, data)
        ours, theirs = judged(folder)
        if "spec" not in path:  # ours reads the whole spec, the stand-alone checker what requests depend on
            assert ours == theirs, path
        assert ours in ("refused", "inconclusive"), path  # four questions show nothing, whatever is said of them


def test_both_checkers_agree_on_any_field_that_is_missing(bundle: Path, tmp_path: Path) -> None:
    """Nothing that is read late, a line for the reader even, may end in another error than the checker's own."""
    lines = [json.loads(line) for line in (bundle / "transcript.jsonl").read_bytes().splitlines()]
    written_anew = {"claim", "previous"}
    for number in (0, 1, len(lines) - 1):
        for name in sorted(set(lines[number]) - written_anew):
            folder = tmp_path / f"{number}-{name}"
            shutil.copytree(bundle, folder)
            edit_transcript(folder, lambda lines, number=number, name=name: lines[number].pop(name), secret=SECRET)
            ours, theirs = judged(folder)
            assert ours == theirs, (number, name)


@pytest.mark.parametrize("name", ["opened.json", "leaves.json", "transcript.jsonl", "requests/0", "envelope.json"])
def test_what_is_nested_without_end_is_refused_by_both(bundle: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    deep = b"[" * 100_000 + b"]" * 100_000
    (folder / name).write_bytes(b'{"inputs":' + deep + b"}" if name == "requests/0" else deep + b"\n")
    if name == "requests/0":
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        edit_transcript(
            folder, lambda lines: lines[1 if "index" in lines[1] else 2].update(request_sha256=digest), secret=SECRET
        )
    if name != "envelope.json":
        sign_again(folder, secret=SECRET)
    assert judged(folder) == ("refused", "refused")


@pytest.mark.parametrize("size", [[2**31, 8], [8, 4097], [2**52, 2**52]])
def test_no_header_makes_a_checker_paint_pictures_of_terabytes(bundle: Path, tmp_path: Path, size: list[int]) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    edit_transcript(folder, lambda lines: lines[0]["spec"].update(size=size), secret=SECRET)
    with pytest.raises(IntegrityError, match="at most 4096"):
        check_bundle(folder)


@pytest.mark.parametrize("name", ["earlier", "disclosed"])
@pytest.mark.parametrize("value", ["", {}, "x", None, 0])
def test_what_was_asked_before_is_a_list(bundle: Path, tmp_path: Path, name: str, value: object) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    edit_transcript(folder, lambda lines: lines[0].update({name: value}), secret=SECRET)
    assert judged(folder) == ("refused", "refused")

"""`package-model`, `inspect` and `check` from the command line: exit codes, last lines, and no torch where none is needed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from model_store_tools.cli.main import app
from tests.support.packaging_case import PackagingCase

VECTORS = Path(__file__).resolve().parents[1] / "vectors"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def flags(case: PackagingCase, **changes: object) -> list[object]:
    values = {
        "mark": case.folder / "MARK",
        "spec": case.folder / "SPEC.toml",
        "format": "triton",
        "out": case.out,
        "gate": "digest",
    }
    pairs = [(f"--{name.replace('_', '-')}", value) for name, value in {**values, **changes}.items()]
    return ["package", case.target, *(part for pair in pairs for part in pair if part is not True)]


def test_the_path_is_the_last_line_and_nothing_else_goes_to_stdout(case: PackagingCase) -> None:
    result = run(*flags(case, name="small"))
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{case.out / 'small'}\n"
    digest = next(line.split()[1] for line in result.stderr.splitlines() if line.startswith("digest"))
    checked = run("check", case.out / "small", "--expect", digest)
    assert checked.exit_code == 0 and checked.stdout.splitlines()[-1] == f"digest  {digest}"


def test_the_target_gives_the_name_where_none_is_said(case: PackagingCase) -> None:
    assert run(*flags(case, format="torchserve")).stdout == f"{case.out / 'target.mar'}\n"


def test_package_model_is_the_same_command(case: PackagingCase) -> None:
    program = Path(sys.executable).with_name("package-model")
    arguments = [str(each) for each in flags(case)[1:]]
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(case.out / "target")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("package-model ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mark": "nowhere"}, "nowhere"),
        ({"spec": "nowhere.toml"}, "nowhere.toml: cannot be read"),
        ({"model_version": "x"}, "Triton's versions are whole numbers"),
        ({"weights": "w.safetensors"}, "--weights w.safetensors is for"),
        ({"config_overlay": "none.pbtxt"}, "none.pbtxt: cannot be read"),
    ],
)
def test_what_cannot_be_done_exits_2_in_one_line(case: PackagingCase, changes: dict[str, object], words: str) -> None:
    result = run(*flags(case, **changes))
    assert result.exit_code == 2
    assert words in result.stderr and result.stderr.startswith("ptynet: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert case.left() == []


def test_an_existing_archive_exits_2(case: PackagingCase) -> None:
    assert run(*flags(case)).exit_code == 0
    again = run(*flags(case))
    assert again.exit_code == 2 and "--force" in again.stderr
    assert run(*flags(case, force=True)).exit_code == 0


def test_sigterm_leaves_nothing(case: PackagingCase) -> None:
    arguments = [str(each) for each in flags(case, gate="full")]
    command = [sys.executable, "-m", "model_store_tools.cli.main", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(case.out.glob(".ptynet-*")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it could be stopped"
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2 and "interrupted" in said
    assert case.left() == []


def test_check_names_the_first_broken_thing_and_exits_1() -> None:
    result = run("check", VECTORS / "invalid" / "touched-tensor.mar")
    assert result.exit_code == 1 and result.stdout == ""
    assert "tensor 'weight' has sha256" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("path", sorted((VECTORS / "invalid").glob("*.mar")), ids=lambda path: path.name)
def test_no_hostile_archive_passes_or_breaks_check_and_inspect(path: Path) -> None:
    checked, inspected = run("check", path), run("inspect", path, "--json", "-")
    assert checked.exit_code == 1 and len(checked.stderr.strip().splitlines()) == 1
    assert inspected.exit_code in (0, 1, 2)
    assert "defect" not in checked.stderr + inspected.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "nowhere.mar"], "no such file"),
        (["inspect", "nowhere.mar"], "cannot be opened"),
        (["check", VECTORS / "valid" / "tiny.mar", "--expect", "12"], "no SHA-256"),
        (["inspect", VECTORS / "valid" / "tiny.mar", "--json", "/nowhere/x.json"], "cannot be written"),
    ],
)
def test_check_and_inspect_that_cannot_be_done_exit_2(arguments: list[object], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2 and words in result.stderr


def test_another_digest_than_expected_exits_1() -> None:
    result = run("check", VECTORS / "valid" / "tiny.mar", "--expect", "0" * 64)
    assert result.exit_code == 1 and "expected 0000" in result.stderr


@pytest.mark.parametrize("name", ["tiny.mar", "tiny"])
def test_inspect_tells_in_words_and_in_json(name: str) -> None:
    path = VECTORS / "valid" / name
    words = run("inspect", path)
    assert words.exit_code == 0
    for part in ("tiny, version 1", "4 classes", "RGB 6x6", "onnx engine", "commitment abab"):
        assert part in words.stdout
    content = json.loads(run("inspect", path, "--json", "-").stdout)
    assert content["schema"] == "ptynet-archive/v1" and content["unlisted"] == []
    assert set(content["target"]["tensors"]) == {"weight"}
    if name.endswith(".mar"):
        assert content["archive_digest"] == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("verb", ["check", "inspect"])
def test_no_torch_is_needed(verb: str) -> None:
    program = "import sys; sys.modules['torch'] = None\nfrom model_store_tools.cli.main import main; main()"
    command = [sys.executable, "-c", program, verb, str(VECTORS / "valid" / "tiny.mar")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_hostile_name_cannot_steer_the_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "ptynet-manifest.json").write_text('{"digest": "\\u001b[2J", "a": 1}')
    (folder / "\x1b[31mred").write_text("")
    for verb in ("check", "inspect"):
        said = run(verb, folder)
        assert said.exit_code in (1, 2) and "\x1b" not in said.stderr + said.stdout

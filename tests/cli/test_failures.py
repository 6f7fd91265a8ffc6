"""What a verb says when something is wrong: one line, exit 2, and nothing that leads astray."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from model_store_tools.cli.failures import with_exit_codes
from model_store_tools.cli.main import app
from model_store_tools.cli.outputs import require_writable, write_whole
from ptynet_plugin.errors import UsageError
from ptynet_plugin.keyfile import write_key
from ptynet_plugin.keys import OwnerKey


def said(verb: object) -> tuple[int, str]:
    made = typer.Typer(pretty_exceptions_enable=False)
    made.command()(with_exit_codes(verb))
    result = CliRunner().invoke(made, [])
    return result.exit_code, result.output


def test_a_disk_that_says_no_is_no_defect(tmp_path: Path) -> None:
    def verb() -> None:
        (tmp_path / "absent" / "file").write_text("x")

    assert said(verb) == (2, f"ptynet: {tmp_path}/absent/file: No such file or directory\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_that_names_no_file_is_no_defect_either(number: int) -> None:
    def verb() -> None:
        raise OSError(number, os.strerror(number))

    told = f"{os.strerror(number)}: the disk or a limit on it is full; free some space and run again"
    assert said(verb) == (2, f"ptynet: {told}\n")


def test_anything_else_unforeseen_is_called_a_defect_and_exits_2() -> None:
    def verb() -> None:
        raise ZeroDivisionError("by zero")

    code, output = said(verb)
    assert code == 2
    assert "unexpected ZeroDivisionError" in output
    assert "This is a defect" in output


@pytest.mark.parametrize("name", ["absent/result.json", "."])
def test_outputs_that_cannot_be_written_are_refused_before_the_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be written; is it a folder, or is its folder missing"):
        require_writable(None, tmp_path / name)


def test_a_file_that_cannot_be_written_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UsageError, match="taken: cannot be written"):
        write_whole(tmp_path / "taken", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_extract_never_advises_to_load_a_pickle_unsafely(tmp_path: Path) -> None:
    write_key(tmp_path / "OWNER.key", OwnerKey(bytes(32)))
    (tmp_path / "notes.txt").write_text("no weights")
    result = CliRunner().invoke(app, ["extract", str(tmp_path / "notes.txt"), "--key", str(tmp_path / "OWNER.key")])
    assert result.exit_code == 2
    assert "is no ONNX, safetensors, TorchScript or checkpoint of tensors alone" in result.output
    assert "weights_only" not in result.output

"""Key files: private, never overwritten, never repeated in an error."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import pytest

from ptynet_plugin.errors import KeyFileError
from ptynet_plugin.keyfile import read_key, write_key
from ptynet_plugin.keys import OwnerKey

KEY = OwnerKey(bytes(range(32)))


def _private(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_key(tmp_path / "k", KEY)
    assert read_key(tmp_path / "k") == KEY
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600


def test_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_key(tmp_path / "k", KEY)
    finally:
        os.umask(before)
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = _private(tmp_path / "k", "precious")
    with pytest.raises(KeyFileError, match="exists already, and a key is never overwritten"):
        write_key(path, KEY)
    assert path.read_text() == "precious"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="nowhere/k: cannot be written"):
        write_key(tmp_path / "nowhere" / "k", KEY)


@pytest.mark.parametrize(
    "text",
    [KEY.secret.hex(), f"# mine\n\n  {KEY.secret.hex().upper()}  \n", base64.b64encode(KEY.secret).decode() + "\r\n"],
)
def test_hex_and_base64_are_read(tmp_path: Path, text: str) -> None:
    assert read_key(_private(tmp_path / "k", text)) == KEY


@pytest.mark.parametrize(
    "content",
    [
        "",
        "# only a comment\n",
        "c0ffee",
        KEY.secret.hex() + "00",
        KEY.secret.hex() + "\n" + KEY.secret.hex(),
        "secret-passphrase",
        b"\xff\xfe\x00binary",
        "x" * 5000,
    ],
)
def test_other_content_is_refused_without_repeating_it(tmp_path: Path, content: str | bytes) -> None:
    path = _private(tmp_path / "k", content)
    with pytest.raises(KeyFileError) as caught:
        read_key(path)
    message = str(caught.value)
    assert str(path) in message
    assert "secret-passphrase" not in message
    assert KEY.secret.hex() not in message
    assert "c0ffee" not in message
    assert caught.value.__cause__ is None  # a traceback must not repeat it either


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644])
def test_a_key_open_to_others_is_refused_with_the_command_that_helps(tmp_path: Path, mode: int) -> None:
    path = _private(tmp_path / "k", KEY.secret.hex())
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=rf"others may access it \(mode 0{mode:o}\); run: chmod 600 '.*k'"):
        read_key(path)


@pytest.mark.parametrize("where", ["missing", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, where: str) -> None:
    with pytest.raises(KeyFileError, match="cannot be read"):
        read_key(tmp_path / where)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(KEY.secret.hex() + "\n"))
    assert read_key("-") == KEY


def test_environment_holds_the_key_or_the_path_of_its_file(tmp_path: Path) -> None:
    write_key(tmp_path / "k", KEY)
    assert read_key(None, environment={"PTYNET_KEY": KEY.secret.hex()}) == KEY
    assert read_key(None, environment={"PTYNET_KEY": str(tmp_path / "k")}) == KEY


@pytest.mark.parametrize("value", ["", "no such file", "\0", "s3cret" * 2000])
def test_environment_without_a_key_is_refused(value: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        read_key(None, environment={"PTYNET_KEY": value})
    assert "s3cret" not in str(caught.value)
    assert "PTYNET_KEY" in str(caught.value)

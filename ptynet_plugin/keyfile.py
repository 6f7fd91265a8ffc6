"""The owner key as a file: a comment and 64 hexadecimal digits, readable by its owner alone.

A key may also come from standard input (`-`) or from the environment variable `PTYNET_KEY`, for pipelines that keep secrets
elsewhere. What was read is never repeated in an error.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from ptynet_plugin.errors import KeyFileError
from ptynet_plugin.keys import KEY_BYTES, OwnerKey

__all__ = ["KEY_VARIABLE", "LONGEST", "STDIN", "read_key", "read_private", "write_key", "write_private"]

KEY_VARIABLE = "PTYNET_KEY"
STDIN = "-"

COMMENT = "# PTYNet owner key: keep it secret and keep a copy, it cannot be recovered\n"
LONGEST = 4096
OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_key(source: str | Path | None, *, environment: Mapping[str, str] | None = None) -> OwnerKey:
    """Read an owner key.

    Args:
        source: A key file, "-" for standard input, or None for the environment variable `PTYNET_KEY`, which holds
            the key itself or the path of its file.
        environment: Where the variable is looked up, `os.environ` if None.

    Raises:
        KeyFileError: No such file, open to group or others, or no key in it; the message names the place and the next step,
            and never what was read.
    """
    if source is None:
        return _from_environment(os.environ if environment is None else environment)
    if str(source) == STDIN:
        return _parsed(sys.stdin.read(LONGEST + 1), "standard input")
    path = Path(source)
    octets = read_private(path)
    try:
        return _parsed(octets.decode("ascii"), str(path))
    except UnicodeDecodeError:
        raise KeyFileError(_no_key(str(path))) from None


def write_key(path: Path, key: OwnerKey) -> None:
    """Write a new key file with mode 0600.

    Raises:
        KeyFileError: Something lies there already (a key is never overwritten), or the file cannot be written.
    """
    try:
        write_private(path, (COMMENT + key.secret.hex() + "\n").encode())
    except FileExistsError:
        raise KeyFileError(
            f"{path}: exists already, and a key is never overwritten; choose another name or move the old file away"
        ) from None
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be written ({error.strerror or error})") from error


def read_private(path: Path) -> bytes:
    """Read a small file that only its owner may read.

    Raises:
        KeyFileError: It cannot be read, is too long, or group or others have access to it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            octets = file.read(LONGEST + 1)
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    if os.name == "posix" and stat.S_ISREG(mode) and mode & OPEN_TO_OTHERS:
        raise KeyFileError(f"{path}: others may access it (mode {stat.S_IMODE(mode):04o}); run: chmod 600 '{path}'")
    if len(octets) > LONGEST:
        raise KeyFileError(f"{path}: longer than {LONGEST} bytes, this is no key file")
    return octets


def write_private(path: Path, octets: bytes) -> None:
    """Write a new file with mode 0600; it disappears again if it cannot be completed.

    Raises:
        FileExistsError: Something lies there already.
        OSError: It cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _from_environment(environment: Mapping[str, str]) -> OwnerKey:
    text = environment.get(KEY_VARIABLE)
    if not text:
        raise KeyFileError(f"no key given; use --key FILE, --key - for standard input, or the variable {KEY_VARIABLE}")
    try:
        return _parsed(text, f"the variable {KEY_VARIABLE}")
    except KeyFileError:
        if _is_file(text):
            return read_key(Path(text))
        raise


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _parsed(text: str, where: str) -> OwnerKey:
    lines = [line.strip() for line in text.splitlines()]
    content = [line for line in lines if line and not line.startswith("#")]
    secret = _decoded(content[0]) if len(content) == 1 else None
    if secret is None:
        raise KeyFileError(_no_key(where))
    return OwnerKey(secret)


def _decoded(text: str) -> bytes | None:
    for decode in (bytes.fromhex, lambda coded: base64.b64decode(coded, validate=True)):
        try:
            secret = decode(text)
        except (ValueError, binascii.Error):
            continue
        if len(secret) == KEY_BYTES:
            return secret
    return None


def _no_key(where: str) -> str:
    return (
        f"{where}: holds no owner key; expected one line of {2 * KEY_BYTES} hexadecimal digits (or base64 of "
        f"{KEY_BYTES} bytes), as `ptynet keygen` writes it"
    )

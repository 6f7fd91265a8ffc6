"""Torch files in one byte form: the same fused model gives the same file, on every run and machine.

torch numbers class names by how much else was compiled in the process, notes the paths of the sources it compiled, and stamps
each file. None of it decides an answer, so names are numbered by first appearance, notes and stamps left out, and the members
packed in the archives' canonical form.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ptynet_plugin.archives.exported_check import without_notes
from ptynet_plugin.archives.safe_pickle import read_pickle
from ptynet_plugin.archives.sources import Source
from ptynet_plugin.archives.torch_zip import TorchZip
from ptynet_plugin.archives.zipform import write_zip

__all__ = ["normalise"]

FOLDER = "model"
LEFT_OUT = re.compile(r".*\.debug_pkl|\.data/serialization_id|\.data/alignment|.*/")
NUMBERED = re.compile(rb"(__torch__(?:\.\w+)*?)\.___torch_mangle_(\d+)\b")
NUMBERED_FILE = re.compile(r"(__torch__(?:/\w+)*?)/___torch_mangle_(\d+)(?=[/.])")


def normalise(written: Path, out: Path) -> None:
    """Write a file that torch wrote in its one byte form.

    Args:
        written: By `torch.jit.save` or `torch.export.save`.
        out: The file to make.
    """
    with TorchZip(written) as file, tempfile.TemporaryDirectory(prefix="ptynet-") as folder, out.open("wb") as target:
        write_zip(target, dict(_members(file, Path(folder))))


def _members(file: TorchZip, folder: Path) -> Iterator[tuple[str, Source]]:
    numbers = _numbers(file) if file.format == "torchscript" else {}
    for index, name in enumerate(file.names()):
        if LEFT_OUT.fullmatch(name):
            continue
        if name.startswith("models/"):
            yield f"{FOLDER}/{name}", without_notes(file, name)
        elif name.startswith("code/") or name.endswith(".pkl"):
            yield f"{FOLDER}/{_renamed_file(name, numbers)}", _renamed(file.read(name), numbers)
        else:
            file.extract(name, folder / str(index))
            yield f"{FOLDER}/{name}", folder / str(index)


def _numbers(file: TorchZip) -> dict[tuple[bytes, bytes], bytes]:
    """Give each numbered class path its number by first appearance: in the attributes, then in the source they lead to."""
    names = read_pickle(file.read("data.pkl"), where=file.where).names
    numbers: dict[tuple[bytes, bytes], bytes] = {}
    _appear("\n".join(names).encode(), numbers)
    sources = [name for name in file.names("code/") if not LEFT_OUT.fullmatch(name)]
    for name in sorted(sources, key=lambda name: _renamed_file(name, numbers)):
        _appear(file.read(name), numbers)
    return numbers


def _appear(text: bytes, numbers: dict[tuple[bytes, bytes], bytes]) -> None:
    for path, number in NUMBERED.findall(text):
        if (path, number) not in numbers:
            numbers[path, number] = str(sum(known == path for known, _ in numbers)).encode()


def _renamed(text: bytes, numbers: dict[tuple[bytes, bytes], bytes]) -> bytes:
    return NUMBERED.sub(
        lambda found: found[1] + b".___torch_mangle_" + numbers.get((found[1], found[2]), found[2]), text
    )


def _renamed_file(name: str, numbers: dict[tuple[bytes, bytes], bytes]) -> str:
    def new(found: re.Match[str]) -> str:
        key = (found[1].replace("/", ".").encode(), found[2].encode())
        return f"{found[1]}/___torch_mangle_{numbers.get(key, key[1]).decode()}"

    return NUMBERED_FILE.sub(new, name)

"""Zip files that no honest packager writes: each way to spoil the container, by the name of its vector."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

from ptynet_plugin.archives.sources import Source
from ptynet_plugin.archives.zipform import write_zip
from tests.vectors.spoiled_members import Members

ZEROS = 8 << 20


def stock_zip(entries: list[tuple[zipfile.ZipInfo, bytes]]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for info, octets in entries:
            file.writestr(info, octets)
    return made.getvalue()


def entry(name: str, *, method: int = zipfile.ZIP_STORED, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type, info.external_attr = method, mode << 16
    return info


def plain(members: Members, method: int = zipfile.ZIP_STORED) -> list[tuple[zipfile.ZipInfo, bytes]]:
    return [(entry(name, method=method), octets) for name, octets in members.items()]


def duplicate(members: Members) -> bytes:
    made = io.BytesIO()
    write_zip(made, {**members, "model.onnX": members["model.onnx"]})
    return made.getvalue().replace(b"model.onnX", b"model.onnx")


def nul_in_name(members: Members) -> bytes:
    made = io.BytesIO()
    write_zip(made, {**members, "model.onnx#.py": b"x"})
    return made.getvalue().replace(b"model.onnx#.py", b"model.onnx\0.py")


def lying_size(members: Members) -> bytes:
    octets = stock_zip([*plain(members), (entry("zeros", method=zipfile.ZIP_DEFLATED), bytes(ZEROS))])
    return octets.replace(struct.pack("<I", ZEROS), struct.pack("<I", 1000))


def overlapping(members: Members) -> bytes:
    """Two directory entries that read the same bytes (D. Fifield, A better zip bomb, WOOT 2019)."""
    octets = bytearray(stock_zip([*plain(members), (entry("one"), b"1"), (entry("two"), b"2")]))
    first, second = octets.rindex(b"PK\1\2", 0, octets.rindex(b"PK\1\2")), octets.rindex(b"PK\1\2")
    octets[second + 42 : second + 46] = octets[first + 42 : first + 46]
    return bytes(octets)


def encrypted(members: Members) -> bytes:
    octets = bytearray(stock_zip(plain(members)))
    place = octets.index(b"PK\1\2")
    octets[place + 8] |= 1
    return bytes(octets)


def local_name_not_utf8(members: Members) -> bytes:
    """The manifest's own header names it in octets that are no UTF-8; the directory names it well."""
    octets = bytearray(canonical(members))
    octets[octets.index(b"ptynet-manifest.json")] = 0xF5
    place = 0
    while (place := octets.find(b"PK\1\2", place)) >= 0:
        octets[place + 9] |= 0x08  # names are UTF-8
        place += 4
    return bytes(octets)


def many(members: Members) -> bytes:
    octets = bytearray(canonical(members))
    octets[-14:-10] = struct.pack("<HH", 60_000, 60_000)
    return bytes(octets)


def zip64_lies(members: Members) -> bytes:
    octets = bytearray(canonical(members))
    octets[-14:-10] = b"\xff" * 4
    return bytes(octets)


def huge_directory(members: Members) -> bytes:
    octets = bytearray(canonical(members))
    octets[-10:-6] = struct.pack("<I", 1 << 31)
    return bytes(octets)


def canonical(members: Members) -> bytes:
    made = io.BytesIO()
    write_zip(made, dict[str, Source](members))
    return made.getvalue()


CONTAINERS: dict[str, Callable[[Members], bytes]] = {
    "symlink": lambda m: stock_zip([*plain(m), (entry("link", mode=0o120777), b"/etc/passwd")]),
    "device": lambda m: stock_zip([*plain(m), (entry("device", mode=0o020666), b"")]),
    "folder-with-content": lambda m: canonical({**m, "folder?": b"x"}).replace(b"folder?", b"folder/"),
    "duplicate-entry": duplicate,
    "nul-in-name": nul_in_name,
    "bomb": lambda m: stock_zip([*plain(m), (entry("zeros", method=zipfile.ZIP_DEFLATED), bytes(ZEROS))]),
    "bomb-lying-size": lying_size,
    "overlapping-entries": overlapping,
    "encrypted-entry": encrypted,
    "local-name-not-utf8": local_name_not_utf8,
    "bzip2-entry": lambda m: stock_zip([*plain(m), (entry("packed", method=zipfile.ZIP_BZIP2), b"x")]),
    "huge-member-count": many,
    "huge-directory": huge_directory,
    "zip64-lies": zip64_lies,
    "prefixed": lambda m: b"#!/bin/sh\necho hello\n" + canonical(m),
    "appended": lambda m: canonical(m) + b"more",
    "commented": lambda m: canonical(m)[:-2] + b"\4\0more",
    "truncated": lambda m: canonical(m)[:-200],
    "repacked": lambda m: stock_zip(plain(m, zipfile.ZIP_DEFLATED)),
    "redated": lambda m: canonical(m).replace(struct.pack("<HH", 0, 33), struct.pack("<HH", 0, 34), 1),
    "no-zip": lambda _: b"hello\n",
    "empty": lambda _: b"",
}

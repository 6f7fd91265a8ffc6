"""The page of record, and the small JSON beside it: what was asked, what came out, what failed, with which command."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.record.parts import Part
from benchmarks.record.running import Done

__all__ = ["LARGEST_JSON", "page", "record_json", "without_paths"]

SCRATCH = re.compile(re.escape(tempfile.gettempdir()) + r"/[\w./-]+")
LARGEST_JSON = 200_000
LONGEST_OUTPUT = 14_000
LARGEST_PART = 60_000

INTRODUCTION = """# The numbers of record

Made by `python -m benchmarks.record` (or `make numbers`): every benchmark in a process of its own, its output below as printed.
`DATA` is the folder of real pictures and networks, `MARK` and `GRAY` are marks trained at the beginning, `KEY` the owner's key
(bytes 0 to 31; the seeds of all benchmarks are their defaults). *missed* is what a benchmark says itself when it does not reach
what is asked; *failed* and *out of time* mean that nothing is known. [Numbers](benchmarks.md) discusses them; raw numbers are in
[record.json](record.json).
"""


def page(
    parts: Sequence[Part],
    done: Sequence[Done],
    machine: Mapping[str, str],
    *,
    out: Path,
    paths: Mapping[str, str],
    when: str,
) -> str:
    """Write the page.

    Args:
        parts: What was run.
        done: What became of each, in the same order.
        machine: Hardware and versions.
        out: Where the outputs lie.
        paths: Placeholders and what they stood for, to take paths out of the outputs.
        when: Date.
    """
    total = sum(each.seconds for each in done)
    rows = [
        f"| {part.heading} | {part.question} | {part.asked or '-'} | {_said(each)} | {each.seconds:.0f} | `{part.command}` |"
        for part, each in zip(parts, done, strict=True)
    ]
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    lines = [
        INTRODUCTION,
        f"{when}, sources {done[0].source if done else '-'}. {facts}. {total / 60:.0f} minutes in all, added up "
        "over parts that ran side by side.",
        "",
        "| | question | asked | outcome | seconds | command |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
    ]
    for part, each in zip(parts, done, strict=True):
        text = _printed(out / f"{part.name}.txt")
        if text:
            lines += [
                f"## {part.name}",
                "",
                f"`{part.command}`: {_said(each)}",
                "",
                "```",
                without_paths(text, paths),
                "```",
                "",
            ]
    return "\n".join(lines)


def record_json(
    parts: Sequence[Part], done: Sequence[Done], machine: Mapping[str, str], *, out: Path, when: str
) -> str:
    """Gather what the benchmarks wrote as JSON, at most `LARGEST_JSON` bytes: the largest parts are left out first, and named."""
    raw: dict[str, Any] = {}
    for part in parts:
        content = _json(out / f"{part.name}.json")
        if content is not None:
            raw[part.name] = content
    left_out = [name for name in raw if len(json.dumps(raw[name])) > LARGEST_PART]
    for name in left_out:
        raw[name] = "left out: larger than the page's share; run the command"
    body = {
        "schema": "ptynet-record/v1",
        "when": when,
        "machine": dict(machine),
        "parts": [vars(each) for each in done],
        "numbers": raw,
    }
    while len(json.dumps(body)) > LARGEST_JSON and any(not isinstance(value, str) for value in raw.values()):
        largest = max(raw, key=lambda name: len(json.dumps(raw[name])))
        raw[largest] = "left out: the record would be too large; run the command"
    return json.dumps(body, separators=(",", ":")) + "\n"


def without_paths(text: str, paths: Mapping[str, str]) -> str:
    """Put placeholders in the place of this machine's paths, longest first."""
    for name, path in sorted(paths.items(), key=lambda pair: -len(pair[1])):
        text = text.replace(path, name)
    return SCRATCH.sub("TMP", text.replace(sys.base_prefix, "PYTHON"))


def _said(done: Done) -> str:
    reason = f" ({done.reason})" if done.reason and done.status != "failed" else ""
    return done.status if done.status == "reached" else f"**{done.status}**{reason}"


def _printed(file: Path) -> str:
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    text = "\n".join(line.split("\r")[-1].rstrip() for line in lines).strip().replace("```", "'''")
    if len(text) <= LONGEST_OUTPUT:
        return text
    half = LONGEST_OUTPUT // 2
    return f"{text[:half]}\n[...]\n{text[-half:]}"


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None

"""What the documents name exists: files, tests, links, flags."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from model_store_tools.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("docker/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_promises_name_tests_that_exist() -> None:
    defined = set(re.findall(r"def (test_\w+)", "".join(path.read_text() for path in ROOT.glob("tests/**/*.py"))))
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "promises.md").read_text()))
    assert named, "the table names tests"
    assert named <= defined


def test_promises_name_files_that_exist() -> None:
    for line in (ROOT / "docs" / "promises.md").read_text().splitlines():
        for path in re.findall(r"\btests/[\w/]+\.py", line):
            assert (ROOT / path).is_file(), path
        for path in re.findall(r"`((?:ptynet_plugin|model_store_tools|handlers)/[\w/.]+)`", line):
            assert (ROOT / path).exists(), path


def flags_of(command: Any) -> Iterator[str]:
    """Every flag of a command and of the verbs below it, as `--help` lists them."""
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for verb in getattr(command, "commands", {}).values():
        yield from flags_of(verb)


def test_flags_in_the_documents_exist() -> None:
    known = set(flags_of(get_command(app)))
    for page in PAGES:
        for line in page.read_text().splitlines():
            if re.search(r"\b(ptynet \w+|package-model) ", line):
                command = re.split(r"\bptynet \w|\bpackage-model ", line, maxsplit=1)[1]
                flags = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", command.split("`")[0]))
                assert flags <= known, f"{page.name}: {line.strip()}"

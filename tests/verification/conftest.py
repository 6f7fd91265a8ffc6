"""The small claim that verification tests run against, and an owner's desk around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ptynet_plugin.claims.directory import write_claim
from ptynet_plugin.keyfile import write_key
from tests.support.standins import Request, http_server
from tests.support.verification_case import KEY, Case, make_claim
from tests.support.verify_desk import WRONG, Desk


@pytest.fixture(scope="session")
def known_case() -> Case:
    return Case(make_claim(), Path())


@pytest.fixture(scope="session")
def known_case_of_three_covers() -> Case:
    return Case(make_claim(covers=3), Path())


@pytest.fixture
def case(known_case: Case, tmp_path: Path) -> Case:
    (tmp_path / "claim").mkdir()
    return known_case.in_folder(tmp_path / "claim")


@pytest.fixture
def case_of_three_covers(known_case_of_three_covers: Case, tmp_path: Path) -> Case:
    (tmp_path / "claim").mkdir()
    return known_case_of_three_covers.in_folder(tmp_path / "claim")


@pytest.fixture
def desk(known_case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """`read_metadata` needs a trained mark; its claim is what matters here."""
    monkeypatch.setattr("ptynet_plugin.mark.read_metadata", lambda folder: None)
    mark = tmp_path / "mark"
    folder = mark / "claims" / "digits"
    write_claim(folder, known_case.claim)
    write_key(tmp_path / "owner.key", KEY)
    write_key(tmp_path / "wrong.key", WRONG)
    return Desk(tmp_path / "owner.key", mark, known_case.in_folder(folder))


@pytest.fixture
def serve(desk: Desk) -> Iterator[Callable[[Callable[[Request], object]], Desk]]:
    servers = []

    def start(answer: Callable[[Request], object]) -> Desk:
        server = http_server(answer)
        desk.port = server.__enter__()
        servers.append(server)
        return desk

    yield start
    for server in servers:
        server.__exit__(None, None, None)

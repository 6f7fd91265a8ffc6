"""The PostgreSQL that tests and benchmarks get: real, alone, and gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model_store_tools.serving import postgres
from model_store_tools.serving.postgres import find_postgres, running_postgres
from ptynet_plugin.errors import ServerError

SECONDS = 20

CALLER = """
import time
from model_store_tools.serving.postgres import running_postgres
with running_postgres() as server:
    print(server.pid(), server.folder, flush=True)
    time.sleep(600)
"""


def gone(pid: int, folder: Path) -> bool:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if not Path(f"/proc/{pid}").exists() and not folder.exists():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.postgresql
def test_it_asks_for_the_password_and_leaves_nothing() -> None:
    psycopg = pytest.importorskip("psycopg")
    with running_postgres() as server:
        pid, folder = server.pid(), server.folder
        with psycopg.connect(server.make_database("one")) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url().replace(server.password, "wrong"))
    assert gone(pid, folder)


@pytest.mark.postgresql
def test_nothing_is_left_of_it_when_the_caller_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", CALLER], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        pid, folder = caller.stdout.readline().split()
        caller.kill()
    assert gone(int(pid), Path(folder))


@pytest.mark.postgresql
@pytest.mark.skipif(os.geteuid() != 0, reason="absent: root, who alone must change user")
def test_programs_in_a_closed_folder_are_run_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = find_postgres().parent
    package = tmp_path / "closed" / installed.parent.name
    for source in (installed, installed.parent.with_name(f"{installed.parent.name}.libs")):
        if source.is_dir():
            place = package.parent / source.relative_to(installed.parents[1])
            shutil.copytree(source, place, copy_function=postgres._link_or_copy, symlinks=True)
    package.parent.chmod(0o700)
    monkeypatch.setattr(postgres, "find_postgres", lambda: package / installed.name / "bin")
    with running_postgres() as server:
        assert str(server.folder) in str(Path(f"/proc/{server.pid()}/exe").readlink())


def test_a_server_that_does_not_come_up_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        find_postgres()
    except ServerError as error:
        pytest.skip(f"absent: {error}")
    with (
        pytest.raises(ServerError, match=r"PostgreSQL did not come up: .*no_such_setting"),
        running_postgres(settings=("no_such_setting=1",)),
    ):
        pass


def test_its_absence_is_told_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for finder in ("_wheels", "_on_path"):
        monkeypatch.setattr(postgres, finder, list)
    monkeypatch.setattr(postgres, "DEBIAN", Path("/nonexistent"))
    with pytest.raises(ServerError, match=r"PostgreSQL is not installed; bring it with: pip install .*\[dev\]"):
        find_postgres()

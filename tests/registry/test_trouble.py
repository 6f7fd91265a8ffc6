"""What goes wrong around a registry: addresses, files, schemas, and a database that dies in the middle."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import stat
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, insert, text
from typer.testing import CliRunner

from model_store_tools.cli.main import app
from model_store_tools.registry import Registry, schema
from model_store_tools.registry.address import parse_address
from model_store_tools.registry.tables import COPIES, whole_metadata
from model_store_tools.serving.postgres import running_postgres
from ptynet_plugin.errors import RegistryError

OWNER, CLAIM = "0e" * 32, "c1" * 32
OLD = Path(__file__).parents[1] / "vectors" / "registry" / "schema-0001.db"
SECRET = "hunter2hunter2"


def command(*arguments: str, registry: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["copies", *arguments], env={"PTYNET_REGISTRY": registry})
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nonsense", "the registry's address cannot be read; expected sqlite:///FILE or postgresql://"),
        (f"postgresql:/me:{SECRET}@host/db", "cannot be read"),
        (f"postgresql://me:{SECRET}@host:port/db", "cannot be read"),
        (f"postgresql://me:{SECRET}@host", "names no database"),
        (f"mysql://me:{SECRET}@host/db", "in SQLite or PostgreSQL, not in 'mysql'"),
        (f"postgresql+asyncpg://me:{SECRET}@host/db", "not in 'postgresql+asyncpg'"),
        ("sqlite://", "is a file, named without options"),
        ("sqlite:///:memory:", "is a file, named without options"),
        ("sqlite://copies.db", "three slashes"),
        (f"postgresql://me:{SECRET}@127.0.0.1:1/db", "postgresql://127.0.0.1:1/db: the database does not do its work"),
        (f"postgresql://me:{SECRET}@/db?host=/nonexistent&password={SECRET}", "postgresql:///nonexistent/db"),
    ],
)
def test_bad_addresses_are_refused_and_passwords_never_told(url: str, told: str) -> None:
    with pytest.raises(RegistryError, match=re.escape(told)) as caught:
        Registry.open(url, owner=OWNER)
    code, out, err = command("list", registry=url)
    assert code == 2 and told in err
    seen = out + err + str(caught.value) + repr(caught.value) + repr(caught.getrepr(showlocals=False, style="short"))
    assert SECRET not in seen and "Traceback" not in err


def test_what_is_shown_of_an_address_holds_no_secret() -> None:
    address = parse_address(f"postgresql://me:{SECRET}@db.example/copies?sslpassword={SECRET}")
    assert address.shown == "postgresql://db.example/copies"
    assert SECRET not in repr(address) and "me" not in address.shown.split("//")[1].split("/")[0].split(".")[0].split(
        "@"
    )
    assert parse_address("postgres://h/d").url.drivername == "postgresql+psycopg"


def test_a_new_file_is_the_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "copies.db"
    before = os.umask(0)
    try:
        Registry.open(f"sqlite:///{file}", owner=OWNER).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["copies.db"]


def test_looking_makes_no_registry(tmp_path: Path) -> None:
    file = tmp_path / "copies.db"
    code, _, err = command("list", registry=f"sqlite:///{file}")
    assert code == 2 and f"{file}: no such registry; `ptynet copies issue` makes it" in err
    assert not file.exists()


def test_files_that_are_no_registry_stay_as_they_are(tmp_path: Path) -> None:
    text_file, other, folder = tmp_path / "notes.txt", tmp_path / "other.db", tmp_path / "folder"
    text_file.write_text("not a database at all, but long enough to be taken for one\n" * 20)
    folder.mkdir()
    with sqlite3.connect(other) as made:
        made.execute("CREATE TABLE bookmarks (url TEXT)")
    made.close()
    octets = {path: path.read_bytes() for path in (text_file, other)}
    for path, told in (
        (text_file, "not an SQLite database, or damaged"),
        (other, "holds other tables (bookmarks, ...) and no registry"),
        (folder, "is no file"),
        (text_file / "copies.db", "cannot be made"),
        (tmp_path / "nowhere" / "copies.db", "cannot be made (No such file or directory)"),
    ):
        with pytest.raises(RegistryError, match=re.escape(told)):
            Registry.open(f"sqlite:///{path}", owner=OWNER)
    assert {path: path.read_bytes() for path in octets} == octets


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "copies.db"
    with Registry.open(f"sqlite:///{file}", owner=OWNER) as registry:
        registry.reserve_many(claim=CLAIM, customers=[f"customer {each}" for each in range(200)])
    octets = bytearray(file.read_bytes())
    octets[4096:] = bytes(len(octets) - 4096)
    file.write_bytes(octets)
    code, _, err = command("list", registry=f"sqlite:///{file}")
    assert code == 2 and str(file) in err and "Traceback" not in err


def test_a_newer_schema_is_refused_and_left_alone(url: str) -> None:
    Registry.open(url, owner=OWNER).close()
    engine = create_engine(parse_address(url).url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE ptynet_schema SET version_num = '9999'"))
    engine.dispose()
    code, _, err = command("list", registry=url)
    assert code == 2 and f"has schema 9999, this version of ptynet knows {schema.HEAD} and older; update ptynet" in err


def test_an_older_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    file = tmp_path / "copies.db"
    shutil.copy(OLD, file)
    with Registry.open(f"sqlite:///{file}") as registry:
        told = [(copy.number, copy.customer, copy.state, copy.revoked_because) for copy in registry.copies()]
        assert told == [
            (1, "Example Ltd", "issued", None),
            (2, "Café GmbH", "issued", "contract ended"),
            (3, "left out", "reserved", None),
        ]
        assert [(trace.number, trace.accused, trace.verdict) for trace in registry.traces()] == [
            (1, (2,), "traced"),
            (2, (), None),
        ]
        assert registry.reserve(claim=CLAIM, customer="new").number == 4
    with sqlite3.connect(file) as raw:
        assert raw.execute("SELECT version_num FROM ptynet_schema").fetchall() == [(schema.HEAD,)]
    raw.close()


def test_an_upgrade_that_breaks_off_leaves_the_old_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "copies.db"
    shutil.copy(OLD, file)
    upgrade = schema._upgrade

    def breaks(connection: object) -> None:
        upgrade(connection)
        raise KeyboardInterrupt

    monkeypatch.setattr(schema, "_upgrade", breaks)
    with pytest.raises(KeyboardInterrupt):
        Registry.open(f"sqlite:///{file}")
    with sqlite3.connect(file) as raw:
        assert raw.execute("SELECT version_num FROM ptynet_schema").fetchall() == [("0001",)]
        assert "certificate" not in [row[1] for row in raw.execute("PRAGMA table_info(ptynet_copies)")]
    raw.close()


def test_versions_are_those_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema._MIGRATIONS))
    config.set_main_option("path_separator", "os")
    steps = [step.revision for step in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(steps)) == schema.VERSIONS


def test_migrations_make_the_tables_that_the_code_uses(url: str) -> None:
    Registry.open(url, owner=OWNER).close()
    engine = create_engine(parse_address(url).url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
        assert compare_metadata(context, whole_metadata()) == []
    engine.dispose()


def test_a_registry_busy_for_too_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_store_tools.registry.database.PATIENCE", 0.2)
    url = f"sqlite:///{tmp_path / 'copies.db'}"
    with Registry.open(url, owner=OWNER) as one, Registry.open(url, owner=OWNER) as other:
        with one._database.writing(), pytest.raises(RegistryError, match=r"busy for .* with another process's work"):
            other.reserve(claim=CLAIM, customer="a")
        assert other.reserve(claim=CLAIM, customer="a").number == 1


@pytest.mark.postgresql
def test_a_database_that_dies_in_the_middle_leaves_nothing_half_written() -> None:
    with running_postgres() as server:
        url = server.make_database("copies")
        with Registry.open(url, owner=OWNER) as registry:
            registry.reserve(claim=CLAIM, customer="before")
            with (
                pytest.raises(RegistryError, match="the database does not do its work") as caught,
                registry._database.writing() as connection,
            ):
                row = {"claim": CLAIM, "number": 2, "customer": "lost", "ticket": "t", "reserved_at": "now"}
                connection.execute(insert(COPIES), [row])
                # PostgreSQL takes a killed session for a crash: it ends all others and recovers from its log.
                os.kill(int(connection.scalar(text("SELECT pg_backend_pid()")) or 0), signal.SIGKILL)
                time.sleep(0.2)
                connection.scalar(text("SELECT 1"))
            assert server.password not in str(caught.value) and "lost" not in str(caught.value)
            assert [copy.customer for copy in _once_back(registry)] == ["before"]
            assert registry.reserve(claim=CLAIM, customer="after").number == 2
            os.kill(server.pid(), signal.SIGQUIT)
            server.process.wait(20)
            code, out, err = command("revoke", "1", "--reason", "x", registry=url)
            assert code == 2 and not out and len(err.strip().splitlines()) == 1
            assert server.password not in err and f"{server.folder}/copies: the database does not do its work" in err


def _once_back(registry: Registry) -> list[object]:
    deadline = time.monotonic() + 30
    while True:
        try:
            return list(registry.copies())
        except RegistryError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)

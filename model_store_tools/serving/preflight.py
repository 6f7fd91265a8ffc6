"""Says, before anything is installed, what this machine lacks and which command brings it.

Run it with any Python from 3.8: `python3 -m model_store_tools.serving.preflight [project] [triton] [torchserve]`.
Standard library only.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

from model_store_tools.serving.environments import PROJECT, TORCHSERVE, TRITON, Environment
from model_store_tools.serving.interpreters import Interpreter, find_interpreters

__all__ = ["ENVIRONMENTS", "choose_interpreter", "main", "missing", "triton_left_out"]

ENVIRONMENTS = {environment.name: environment for environment in (PROJECT, TRITON, TORCHSERVE)}
GLIBC = (2, 35)


def triton_left_out() -> str | None:
    """Return why this machine cannot run the wheel's Triton at all, in one line; None where it can."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        return f"Triton is left out: its wheel is for Linux x86_64, this is {system} {machine}"
    found = _glibc()
    if found < GLIBC:
        wanted = ".".join(map(str, GLIBC))
        return (
            f"Triton is left out: glibc {'.'.join(map(str, found))} found, {wanted} or later wanted "
            "(Debian 12, Ubuntu 22.04, RHEL 10 or later bring it)"
        )
    if not find_interpreters(TRITON.pythons):
        return (
            "Triton is left out: its python backend needs Python 3.11 or 3.12; bring one with "
            "'apt-get install python3.12-venv libpython3.12' (or 3.11) and run again"
        )
    return None


def _glibc() -> tuple[int, ...]:
    try:
        told = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return (0, 0)
    numbers = told.rpartition(" ")[2].split(".")
    return tuple(int(number) for number in numbers if number.isdigit()) or (0, 0)


def choose_interpreter(environment: Environment) -> Interpreter | None:
    """Return the Python to make `environment` with, or None where none here will do."""
    usable = [found for found in find_interpreters(environment.pythons) if found.has_venv]
    if environment is TRITON:
        usable = [found for found in usable if found.library]
    return usable[0] if usable else None


def missing(environment: Environment) -> list[str]:
    """Return what stands in the way of making `environment`: what was found, and the command that helps."""
    if environment.stamp() is not None:
        return []
    return [*_missing_python(environment), *_missing_disk(environment)]


def _missing_python(environment: Environment) -> list[str]:
    if choose_interpreter(environment) is not None:
        return []
    found = find_interpreters(environment.pythons)
    wanted = environment.pythons[0]
    if not found:
        return [
            f"{environment.name}: no Python {', '.join(environment.pythons)} here (this is "
            f"{platform.python_version()}); bring one with: apt-get install python{wanted} python{wanted}-venv"
        ]
    versions = " ".join(dict.fromkeys(f"python{each.version}-venv" for each in found))
    if not any(each.has_venv for each in found):
        return [f"{environment.name}: {found[0].path} has no venv module; bring it with: apt-get install {versions}"]
    version = found[0].version
    return [
        f"{environment.name}: libpython{version}.so.1.0, which Triton's python backend loads, is not here; bring it "
        f"with: apt-get install libpython{version} (or go on without Triton: make ... TRITON=no)"
    ]


def _missing_disk(environment: Environment) -> list[str]:
    folder = environment.root
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(str(folder)).free // 2**20
    if free >= environment.megabytes:
        return []
    return [
        f"{environment.name}: {free} MB free at {folder}, {environment.megabytes} MB wanted; make room, "
        "or put the servers elsewhere with PTYNET_SERVERS=FOLDER"
    ]


def main(names: list[str]) -> int:
    """Print what is missing on stderr; return 2 where anything is, else 0."""
    left_out = triton_left_out() if "triton" in names else None
    wanted = [ENVIRONMENTS[name] for name in names if not (name == "triton" and left_out)]
    problems = [problem for environment in wanted for problem in missing(environment)]
    for problem in problems:
        sys.stderr.write(f"preflight: {problem}\n")
    return 2 if problems else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    sys.exit(main(sys.argv[1:] or list(ENVIRONMENTS)))

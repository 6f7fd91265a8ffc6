"""Finding a Python that an environment can be made with. Standard library only, any Python from 3.8."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Interpreter", "find_interpreters", "inspect"]

QUESTION = """
import json, sys, sysconfig
try:
    import ensurepip, venv
except ImportError:
    venv = None
get = sysconfig.get_config_var
folders = [get("LIBDIR") or "", f"{get('LIBDIR')}/{get('MULTIARCH')}", f"{sys.base_prefix}/lib"]
print(json.dumps({"version": "%d.%d" % sys.version_info[:2], "venv": venv is not None, "folders": folders}))
"""
SYSTEM_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")


@dataclass(frozen=True)
class Interpreter:
    """A Python on this machine.

    Attributes:
        path: The program.
        version: "3.11" and the like.
        has_venv: Whether it can make virtual environments with pip in them.
        library: The folder of its shared library, which Triton's python backend loads; None where it has none.
    """

    path: str
    version: str
    has_venv: bool
    library: str | None


def inspect(path: str) -> Interpreter | None:
    """Ask a Python what it is; None where it does not run (a version manager's empty shim, say)."""
    try:
        answer = subprocess.run([path, "-c", QUESTION], capture_output=True, text=True, timeout=60, check=True)
        told = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    name = f"libpython{told['version']}.so.1.0"
    folders = [folder for folder in (*told["folders"], *SYSTEM_FOLDERS) if (Path(folder) / name).is_file()]
    return Interpreter(path, told["version"], told["venv"], folders[0] if folders else None)


def find_interpreters(versions: tuple[str, ...]) -> list[Interpreter]:
    """Return the Pythons of these versions that run here: this one first, then those on PATH, best version first."""
    programs = [sys.executable, *(f"python{version}" for version in versions), "python3", "python"]
    paths = [found for found in map(shutil.which, programs) if found]
    seen = [inspect(path) for path in dict.fromkeys(paths)]
    return [found for found in seen if found is not None and found.version in versions]

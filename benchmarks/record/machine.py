"""What the numbers were measured on: hardware, versions, the state of the sources."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["PACKAGES", "describe", "source_state"]

PACKAGES = ("numpy", "scipy", "torch", "onnx", "onnxruntime", "tritonclient", "openvino", "scikit-learn")


def describe() -> dict[str, str]:
    """Give processor, cores, memory, system and versions; no names of machines or people."""
    found = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}, {platform.libc_ver()[0]} {platform.libc_ver()[1]}",
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def source_state(root: Path) -> str:
    """Give the commit, with a hash of what was changed since; "unversioned" outside a checkout."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return "unversioned"
    changed = (_git(root, "diff", "HEAD", "--", "*.py") or "").encode()
    return commit[:12] + (f"+{hashlib.sha256(changed).hexdigest()[:8]}" if changed else "")


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError):
        return "unknown"

"""A trained mark for tests that need the real thing, trained once and kept until a source it depends on changes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import pytest

from ptynet_plugin.keys import OwnerKey

__all__ = ["MARK_KEY", "trained_mark_folder"]

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "marks"
SOURCES = ("images", "symbols", "network", "whitebox", "mark.py", "keys.py")

MARK_KEY = OwnerKey(hashlib.sha256(b"the key of the tests").digest())


def trained_mark_folder(color: Literal["RGB", "GRAY"]) -> Path:
    """Give a mark of `MARK_KEY` with 64 symbols, trained in seconds: hears undisturbed probes, disturbed ones less well."""
    folder = CACHE / f"{color}-{_digest()}"
    if not (folder / "mark.json").is_file():
        from model_store_tools.training import train_mark
        from ptynet_plugin.network.training import QUICK_PLAN

        train_mark(MARK_KEY, folder, color=color, symbols=64, plan=QUICK_PLAN, least=0.5)
    return folder


def _digest() -> str:
    import torch

    made = hashlib.sha256(torch.__version__.encode())
    for name in SOURCES:
        path = ROOT / "ptynet_plugin" / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            made.update(file.read_bytes())
    return made.hexdigest()[:16]


@pytest.fixture(scope="session")
def trained_mark() -> Path:
    """The folder of a trained RGB mark. Copy it before writing claims into it."""
    return trained_mark_folder("RGB")


@pytest.fixture(scope="session")
def trained_gray_mark() -> Path:
    """The folder of a trained GRAY mark. Copy it before writing claims into it."""
    return trained_mark_folder("GRAY")

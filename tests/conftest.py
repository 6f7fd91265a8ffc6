"""What every test can ask for: the optional real data, the real servers, and the fixtures in tests/support.

A skip means absent, never broken: a server that is installed and does not start fails its tests.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model_store_tools.serving.environments import TORCHSERVE
from model_store_tools.serving.postgres import find_postgres
from model_store_tools.serving.triton import find_triton
from ptynet_plugin.errors import ServerError

ROOT = Path(__file__).resolve().parents[1]
SUPPORT = ROOT / "tests" / "support"

pytest_plugins = sorted(f"tests.support.{p.stem}" for p in SUPPORT.glob("*.py") if "@pytest.fixture" in p.read_text())


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real pictures and pretrained models, named by $PTYNET_DATA or lying beside the checkout."""
    named = os.environ.get("PTYNET_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / "README.md").is_file():
        pytest.skip(f"absent: real data at {folder} (name another folder with PTYNET_DATA)")
    return folder


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests of a server that is not installed; fail them where PTYNET_REQUIRE_SERVERS names the server."""
    for name, lacking in LACKING.items():
        if item.get_closest_marker(name) and (reason := lacking()):
            required = name in os.environ.get("PTYNET_REQUIRE_SERVERS", "")
            (pytest.fail if required else pytest.skip)(f"absent: {reason}")


def _triton_lacking() -> str | None:
    try:
        find_triton()
    except ServerError as error:
        return str(error)
    return None


def _torchserve_lacking() -> str | None:
    return None if TORCHSERVE.stamp() else f"TorchServe is not installed; run: {TORCHSERVE.command}"


def _postgresql_lacking() -> str | None:
    try:
        find_postgres()
    except ServerError as error:
        return str(error)
    return None


LACKING = {"triton": _triton_lacking, "torchserve": _torchserve_lacking, "postgresql": _postgresql_lacking}

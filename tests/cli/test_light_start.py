"""Every verb pays for what all verbs import: `ptynet copies list` answers in a second, and has no second to lose."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "onnx", "onnxruntime", "numpy", "scipy", "pydantic", "httpx", "sqlalchemy", "rich.console", "PIL")


def test_the_command_line_starts_without_what_single_verbs_need() -> None:
    asked = f"import sys, model_store_tools.cli.main; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

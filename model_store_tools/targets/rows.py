"""How many rows a quantised TorchScript file takes, found in a process of its own.

Quantised kernels check less than others: a trace that flattens the batch has them read beyond their tensors, which at times
answers nonsense, at times spoils later answers, at times ends the process (all three seen on a published MobileNetV2, qnnpack).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ptynet_plugin.spec import InputSpec

__all__ = ["keeps_rows_apart"]

CHILD = (
    "import sys; from model_store_tools.targets.torchscript import kept_here as kept; "
    "sys.exit(0 if kept(*sys.argv[1:]) else 1)"
)
TIME_LIMIT = 300


def keeps_rows_apart(path: Path, spec: InputSpec, rows: int) -> bool:
    """Tell whether a TorchScript file answers `rows` rows when asked so many, whatever happens to the process that asks.

    Args:
        path: The file.
        spec: With layout, size, dtype and quantised engine set.
        rows: How many to ask.
    """
    command = [sys.executable, "-c", CHILD, str(path), spec.model_dump_json(), str(rows)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIME_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0

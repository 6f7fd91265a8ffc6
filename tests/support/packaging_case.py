"""Everything `package` needs, small: a working mark, a target, a spec."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest

from model_store_tools.packaging.package import Options, Packaged, package
from tests.support.fusion import linear_target

SPEC = """
color = "RGB"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
output = "logits"
labels = "classes.txt"
"""
CLASS_NAMES = tuple(f"class {index}" for index in range(10))


@dataclass
class PackagingCase:
    """A folder with `target.onnx`, `SPEC.toml`, `classes.txt` and `MARK/`.

    Attributes:
        folder: Where they lie.
        told: What the last packaging said it was doing.
    """

    folder: Path
    told: list[str] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def target(self) -> Path:
        return self.folder / "target.onnx"

    def options(self, **changes: object) -> Options:
        values: dict[str, object] = {
            "mark": self.folder / "MARK",
            "spec": self.folder / "SPEC.toml",
            "format": "triton",
            "out": self.out,
            "gate": "digest",
            "name": "small",
        }
        return Options(**{**values, **changes})

    def package(self, target: object = None, **changes: object) -> Packaged:
        return package(target or self.target, self.options(**changes), tell=self.told.append)

    def left(self) -> list[str]:
        """Names of everything below `out`."""
        return sorted(str(path.relative_to(self.out)) for path in self.out.rglob("*")) if self.out.exists() else []

    def write_spec(self, text: str) -> None:
        (self.folder / "SPEC.toml").write_text(text)


@pytest.fixture
def case(tmp_path: Path, quick_mark_once: Path) -> PackagingCase:
    """A fresh packaging case; the mark is a copy, for claims are written into it."""
    shutil.copytree(quick_mark_once, tmp_path / "MARK")
    made = PackagingCase(tmp_path)
    made.write_spec(SPEC)
    (tmp_path / "classes.txt").write_text("\n".join(CLASS_NAMES) + "\n")
    onnx.save(linear_target(), made.target)
    return made


def ordinary_pictures(count: int, *, side: int = 32, seed: int = 11) -> np.ndarray:
    """Noise that no key made, shape (count, side, side, 3), uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)

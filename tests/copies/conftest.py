"""A small target with a claim for copies, issued to three customers once for the room."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from model_store_tools.packaging.copies import CopyPackager, CopyWishes
from model_store_tools.packaging.issuing import issue_copies
from model_store_tools.packaging.options import Options
from model_store_tools.registry import Registry
from ptynet_plugin.claims.copies import CopyTables
from ptynet_plugin.keyfile import write_key
from tests.support.fusion import linear_target
from tests.support.packaging_case import SPEC
from tests.support.quick_mark import KEY, write_quick_mark

CUSTOMERS = ("Alpha Ltd", "Beta GmbH", "Gamma SA")
WISHES = CopyWishes(positions=152, quick=34)


@dataclass(frozen=True)
class CopyCase:
    """A folder with a target, its spec, a mark of 216 symbols, a key, and what was issued from them.

    Attributes:
        folder: Where all of it lies.
        archives: Of the copies 1, 2, 3.
        tables: Of the claim.
    """

    folder: Path
    archives: tuple[Path, ...] = ()
    tables: CopyTables | None = None

    @property
    def registry(self) -> str:
        return f"sqlite:///{self.folder / 'copies.db'}"

    def options(self, **changes: object) -> Options:
        values: dict[str, object] = {
            "mark": self.folder / "MARK",
            "spec": self.folder / "SPEC.toml",
            "format": "triton",
            "out": self.folder / "out",
            "gate": "digest",
        }
        return Options(**{**values, **changes})

    def open_registry(self) -> Registry:
        return Registry.open(self.registry, owner=KEY.fingerprint())

    def copied_to(self, folder: Path) -> CopyCase:
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        archives = tuple(folder / path.relative_to(self.folder) for path in self.archives)
        return CopyCase(folder, archives, self.tables)


@pytest.fixture(scope="session")
def unissued_once(tmp_path_factory: pytest.TempPathFactory) -> CopyCase:
    folder = tmp_path_factory.mktemp("unissued")
    write_quick_mark(folder / "MARK", symbols=216, covers=3)
    write_key(folder / "OWNER.key", KEY)
    onnx.save(linear_target(), folder / "target.onnx")
    (folder / "SPEC.toml").write_text(SPEC.replace('labels = "classes.txt"\n', ""))
    return CopyCase(folder)


@pytest.fixture
def unissued(unissued_once: CopyCase, tmp_path: Path) -> CopyCase:
    return unissued_once.copied_to(tmp_path / "case")


@pytest.fixture(scope="session")
def issued_once(unissued_once: CopyCase, tmp_path_factory: pytest.TempPathFactory) -> CopyCase:
    case = unissued_once.copied_to(tmp_path_factory.mktemp("issued") / "case")
    with (
        case.open_registry() as registry,
        CopyPackager(case.folder / "target.onnx", case.options(), wishes=WISHES) as packager,
    ):
        issued = list(issue_copies(packager, registry, CUSTOMERS, format="triton"))
        tables = packager.tables
    return CopyCase(case.folder, tuple(each.packaged.path for each in issued), tables)


@pytest.fixture
def issued(issued_once: CopyCase, tmp_path: Path) -> CopyCase:
    return issued_once.copied_to(tmp_path / "case")

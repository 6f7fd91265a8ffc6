"""Makes the claims of this folder: `python -m tests.vectors.make_claim_vectors OUT`. Run it only to add one."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ptynet_plugin.claims import write_claim
from tests.claims.test_vectors import facts_of, make_kept_claim

Change = Callable[[Path], None]


def in_text(name: str, old: str, new: str) -> Change:
    """Replace a piece of text in a file."""

    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text, f"{name} holds no {old}"
        (folder / name).write_text(text.replace(old, new))

    return change


def in_json(name: str, edit: Callable[[Any], None]) -> Change:
    """Edit a file's value."""

    def change(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        edit(value)
        (folder / name).write_text(json.dumps(value, separators=(",", ":"), sort_keys=True))

    return change


def swap_fields(commitment: Any) -> None:
    fields = commitment["fields"]
    fields["tau"], fields["margin"] = fields["margin"], fields["tau"]


def swap_leaves(file: Any) -> None:
    file["leaves"][:2] = file["leaves"][1::-1]


CHANGES: dict[str, Change] = {
    "edited-tau": in_text("claim.json", '"value":"0.84"', '"value":"0.04"'),
    "swapped-leaves": in_json("leaves.json", swap_leaves),
    "swapped-commitment": in_json("commitment.json", swap_fields),
    "key-twice": in_text("claim.json", '"seal":null', '"seal":null,"seal":null'),
    "missing-leaves": lambda folder: (folder / "leaves.json").unlink(),
    "too-few-leaves": in_json("leaves.json", lambda file: file["leaves"].pop()),
    "float-in-fields": in_text("claim.json", '"value":"0.84"', '"value":0.84'),
}


def make_all(out: Path) -> None:
    """Write the valid claim with its facts, and one copy per defect."""
    kept = out / "valid" / "claims" / "cifar10"
    claim = make_kept_claim()
    write_claim(kept, claim)
    for name, change in CHANGES.items():
        broken = out / "invalid" / "claims" / name
        shutil.copytree(kept, broken)
        change(broken)
    (kept / "expected.json").write_text(json.dumps(facts_of(claim), indent=1) + "\n")


if __name__ == "__main__":
    make_all(Path(sys.argv[1]))

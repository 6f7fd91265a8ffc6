"""A suspect turns or crops pictures: is the mark shown under a view, and how far beside the truth may the view be?

    python -m benchmarks.views --mark MARK --key OWNER.key [--data ../shared/data] [--json F]

ResNet20. Each suspect is asked plainly, under its own view, and under views five degrees or five per cent beside it: verdict and
queries to it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.attacks import packaged_target
from model_store_tools.audit.attacks.crop import corner
from model_store_tools.audit.attacks.on_input import One, to_each
from model_store_tools.audit.attacks.rotation import rotated
from model_store_tools.audit.rehearsal import Rehearsal
from model_store_tools.audit.subjects import open_stolen
from ptynet_plugin.claims.directory import read_claim
from ptynet_plugin.keyfile import read_key

TURNS = (10, -10, 20, 30, 45)
KEPT = (90, 80, 70, 50)
BESIDE = (0, -5, 5)


def suspects() -> list[tuple[str, Callable[[One], One], list[str]]]:
    """Give each suspect's name, what it does, and the views to ask under: plain, its own, and two beside it."""
    turning = [
        (
            f"turned by {degrees}",
            partial(rotated, degrees=degrees),
            [f"turned:{degrees + beside}" for beside in BESIDE],
        )
        for degrees in TURNS
    ]
    cropping = [
        (
            f"{share} % from a corner",
            partial(corner, share=share / 100),
            [f"cropped:0,0,{share + beside},{share + beside}" for beside in BESIDE],
        )
        for share in KEPT
    ]
    return [(name, change, ["plain", *views]) for name, change, views in turning + cropping]


def main() -> None:
    """Print a row for each suspect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mark", type=Path, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    print("| the suspect | plain | its view | 5 below | 5 above |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="ptynet-views-") as scratch:
        packaged = packaged_target("resnet20", given.data, given.mark, Path(scratch))
        stolen = open_stolen(packaged.path, Path(scratch))
        claim, key = read_claim(packaged.claim), read_key(given.key)
        for name, change, views in suspects():
            suspect = stolen.artefact.behind(to_each(change)(0))
            results = [Rehearsal(claim, key, view=view).verify(suspect) for view in views]
            said = [f"{result.verdict}, {result.queries}" for result in results]
            print(f"| {name} | {' | '.join(said)} |", flush=True)
            rows += [
                {"suspect": name, "view": view, "verdict": result.verdict, "queries": result.queries}
                for view, result in zip(views, results, strict=True)
            ]
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

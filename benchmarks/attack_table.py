"""The tables of `docs/proving-ground.md` from the raw results of `benchmarks.attacks`, run whole or in parts.

    python -m benchmarks.attack_table docs/proving-ground/resnet20.json ... [--join F.json]

Seconds are the processor's, which a busy machine does not lengthen; with the word "clock" by the clock, in files without them.
Parts of one target are joined in the order of the table; where an attack was run twice the later file counts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from model_store_tools.audit.attacks import ALL
from model_store_tools.audit.page import HEADING_TITLES, RESULT_WORDS

COLUMNS = ("attack", "kept", "verdict", "log10 p", "queries", "seconds", "pictures", "result")


def joined(paths: list[Path]) -> dict[str, Any]:
    """Join the rows of several files; all else is the first file's, seconds are summed."""
    parts = [json.loads(path.read_text()) for path in paths]
    rows = {row["attack"]: row for part in parts for row in part["robustness"]}
    places = {attack.name: place for place, attack in enumerate(ALL)}
    ordered = sorted(rows.values(), key=lambda row: places.get(row["attack"], len(ALL)))
    broken, unknown = (
        sorted({name for part in parts for name in part[key]}) for key in ("promises_broken", "promises_unknown")
    )
    seconds = round(sum(part["seconds"] for part in parts), 1)
    lists = {"robustness": ordered, "promises_broken": broken, "promises_unknown": unknown}
    return parts[0] | lists | {"seconds": seconds}


def markdown(result: dict[str, Any]) -> list[str]:
    """Give the lines of the tables, one a heading."""
    lines = []
    for heading, title in HEADING_TITLES.items():
        rows = [row for row in result["robustness"] if row["heading"] == heading and row["result"] != "refused"]
        if rows:
            lines += [f"**{title}**", "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
            lines += [f"| {' | '.join(_cells(row))} |" for row in rows] + [""]
    return lines


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["attack"] + (" *" if row["promised"] else ""),
        "" if row["kept"] is None else f"{row['kept']:.1%}",
        row["verdict"] or "",
        "" if row["log10_p"] is None else f"{row['log10_p']:.1f}",
        str(row["queries"] or ""),
        f"{row['processor_seconds']:.1f}" if "processor_seconds" in row else f"{row['seconds']:.1f} clock",
        str(row["pictures"] or ""),
        RESULT_WORDS[row["result"]] + (f"; {row['note']}" if row["note"] and row["result"] != "survived" else ""),
    ]


def main() -> None:
    """Print the tables; write the joined file where one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--join", type=Path)
    given = parser.parse_args()
    result = joined(given.files)
    if given.join:
        given.join.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    print("\n".join(markdown(result)))


if __name__ == "__main__":
    main()

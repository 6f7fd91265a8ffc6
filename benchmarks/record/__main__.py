"""Make the numbers of record: every benchmark, one command, one page.

    python -m benchmarks.record [--data DIR] [--out DIR] [--long] [--only NAME ...] [--again] [--jobs 2] [--docs]

Trains a mark for color and one for grey, then runs each benchmark in a process of its own with its own time limit, `--jobs` at
once, those that measure time alone at the end. Run again it goes on where it was stopped. Writes record.md and record.json into
--out; with --docs into docs/ as well. `--list` names all parts, their limits, and the longer ones that `--long` adds.

Exit 1 if a part missed what is asked, 2 if one failed, ran out of time or was left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.record.machine import describe, source_state
from benchmarks.record.page import page, record_json
from benchmarks.record.parts import LONG, MARKS, PARTS, Need, Part
from benchmarks.record.running import Done, Runner
from ptynet_plugin.keyfile import write_key
from ptynet_plugin.keys import OwnerKey

ROOT = Path(__file__).resolve().parents[2]
KEY = OwnerKey(bytes(range(32)))


def main() -> int:
    """Run everything and write the page."""
    args = _arguments()
    if args.list:
        return _print_list()
    started, out = time.monotonic(), args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    paths = {
        "DATA": str(args.data.resolve()),
        "MARK": str(out / "MARK"),
        "GRAY": str(out / "GRAY"),
        "KEY": str(out / "OWNER.key"),
    }
    if not Path(paths["KEY"]).exists():
        write_key(Path(paths["KEY"]), KEY)
    parts = _chosen(args.only, long=args.long)
    _say(f"{len(parts)} parts, {args.jobs} at once, into {out}")
    done = _run(parts, args, out, paths)
    _write(args, out, parts, done, {**paths, "OUT": str(out), "CHECKOUT": str(ROOT)})
    return _conclude(parts, done, time.monotonic() - started)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("PTYNET_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, default=Path("record"))
    parser.add_argument("--long", action="store_true", help="the longer ones as well")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these parts alone, longer ones too")
    parser.add_argument("--again", action="store_true", help="run again what missed its limits, not only what failed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--docs", action="store_true", help="write docs/record.md and docs/record.json")
    parser.add_argument("--list", action="store_true", help="name the parts and end")
    return parser.parse_args()


def _chosen(only: list[str] | None, *, long: bool) -> list[Part]:
    if only is None:
        return [*PARTS, *(LONG if long else ())]
    known = {part.name: part for part in (*PARTS, *LONG)}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise SystemExit(f"no part {', '.join(unknown)}; there are: {', '.join(known)}")
    return [known[name] for name in only]


def _run(parts: list[Part], args: argparse.Namespace, out: Path, paths: dict[str, str]) -> list[Done]:
    have: set[Need] = set()
    if (args.data / "README.md").is_file():
        have.add("data")
    if (Path(os.environ.get("PTYNET_SERVERS", ROOT / ".servers")) / "triton").is_dir():
        have.add("servers")
    source = source_state(ROOT)

    def runner(have: set[Need]) -> Runner:
        return Runner(out, root=ROOT, paths=paths, have=have, source=source, again=args.again, tell=_say)

    marks = [part for part, need in zip(MARKS, ("mark", "gray"), strict=True) if any(need in p.needs for p in parts)]
    for part in marks:
        if Path(paths[part.arguments[4]], "mark.json").is_file():
            continue
        runner(set()).run(part)
    have |= {need for need, name in (("mark", "MARK"), ("gray", "GRAY")) if Path(paths[name], "mark.json").is_file()}
    return runner(have).run_all(parts, jobs=args.jobs)


def _write(args: argparse.Namespace, out: Path, parts: list[Part], done: list[Done], paths: dict[str, str]) -> None:
    machine, when = describe(), datetime.now(UTC).strftime("%Y-%m-%d")
    text = page(parts, done, machine, out=out, paths=paths, when=when)
    numbers = record_json(parts, done, machine, out=out, when=when)
    for folder in (out, *((ROOT / "docs",) if args.docs else ())):
        (folder / "record.md").write_text(text)
        (folder / "record.json").write_text(numbers)


def _conclude(parts: list[Part], done: list[Done], seconds: float) -> int:
    _say("")
    for each in done:
        _say(f"{each.name:<20} {each.status:<12} {each.seconds:6.0f} s  {each.reason}")
    unknown = [each.name for each in done if each.status in ("failed", "out of time", "left out")]
    missed = [each.name for each in done if each.status == "missed"]
    _say(
        f"\n{seconds / 60:.1f} minutes; missed: {', '.join(missed) or 'none'}; not known: {', '.join(unknown) or 'none'}"
    )
    return 2 if unknown else 1 if missed else 0


def _print_list() -> int:
    for title, parts in (("the numbers of record", PARTS), ("longer ones, with --long or --only", LONG)):
        print(f"{title}, limits {sum(part.limit for part in parts) / 60:.0f} minutes in all")
        for part in parts:
            print(f"  {part.name:<20} {part.limit:>5} s  {part.question}\n{'':30}{part.command}")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

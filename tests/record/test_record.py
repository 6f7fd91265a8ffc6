"""The numbers of record: parts are told apart by how they ended, runs go on where they stopped, and the page says it all."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.record.__main__ import _conclude
from benchmarks.record.machine import describe, source_state
from benchmarks.record.page import LARGEST_JSON, page, record_json, without_paths
from benchmarks.record.parts import LONG, MARKS, PARTS, Part
from benchmarks.record.running import Done, Runner, Status

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = {
    "reached": "print('all is well')",
    "missed": "print('0.5, asked 0.9'); raise SystemExit(1)",
    "failed": "print('where is it?'); raise SystemExit(2)",
    "crashed": "raise RuntimeError('no luck')",
    "slow": "import time; time.sleep(60)",
    "writes": "import json, sys; json.dump({'x': [1, 2]}, open(sys.argv[1], 'w')); print(sys.argv[2])",
    "counts": "import sys; open(sys.argv[1], 'a').write('x')",
}


@pytest.fixture
def runner(tmp_path: Path) -> Callable[..., Runner]:
    package = tmp_path / "scripts"
    package.mkdir()
    for name, source in SCRIPTS.items():
        (package / f"{name}.py").write_text(source)
    (tmp_path / "out").mkdir()

    def make(**options: object) -> Runner:
        settings = {"paths": {"DATA": "/somewhere/data"}, "have": (), "source": "abc", "root": tmp_path}
        return Runner(tmp_path / "out", **{**settings, **options})

    return make


def part(name: str, *arguments: str, **options: object) -> Part:
    return Part(name, "Test", "does it run", "0.9", f"scripts.{name}", arguments, **options)


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("reached", "reached", 0), ("missed", "missed", 1), ("failed", "failed", 2), ("crashed", "failed", 1)],
)
def test_how_a_part_ended_is_told(runner: Callable[..., Runner], name: str, status: str, code: int) -> None:
    done = runner().run(part(name))
    assert (done.status, done.code) == (status, code)
    assert name != "crashed" or "no luck" in done.reason


@pytest.mark.parametrize(
    ("second", "code"), [("reached", 0), ("missed", 1), ("failed", 2), ("out of time", 2), ("left out", 2)]
)
def test_the_record_s_own_exit_code_is_that_of_its_worst_part(second: Status, code: int) -> None:
    done = [Done(name, status, 1.0, 0, "", "", "", 0.0) for name, status in (("a", "reached"), ("b", second))]
    assert _conclude([], done, 2.0) == code
    assert _conclude([], done[::-1], 2.0) == code


def test_a_part_that_takes_too_long_is_stopped(runner: Callable[..., Runner]) -> None:
    started = time.monotonic()
    done = runner().run(part("slow", limit=1))
    assert done.status == "out of time" and "1 s" in done.reason
    assert time.monotonic() - started < 15


def test_what_is_lacking_is_named(runner: Callable[..., Runner]) -> None:
    done = runner().run(part("reached", needs=("data",)))
    assert (done.status, done.reason) == ("left out", "lacks: data")


def test_a_run_goes_on_where_it_was_stopped(runner: Callable[..., Runner], tmp_path: Path) -> None:
    counted = tmp_path / "counted"
    for source in ("abc", "abc", "other"):
        runner(source=source).run(part("counts", str(counted)))
    assert counted.read_text() == "xx", "twice: once for each state of the sources"


def test_numbers_of_other_sources_are_not_gone_on_with(runner: Callable[..., Runner], tmp_path: Path) -> None:
    counted, numbers = tmp_path / "counted", tmp_path / "out" / "counts.json"
    runner(source="abc").run(part("counts", str(counted)))
    numbers.write_text("{}")
    runner(source="abc").run(part("counts", str(counted)))
    assert numbers.is_file(), "the same sources: it may go on"
    runner(source="other").run(part("counts", str(counted)))
    assert not numbers.exists()


@pytest.mark.parametrize("each", MARKS, ids=lambda each: each.name)
def test_a_color_is_no_placeholder_for_a_mark(each: Part) -> None:
    placeholders = [place for place, word in enumerate(each.arguments) if word in ("KEY", "MARK", "GRAY")]
    assert placeholders == [2, 4]


def test_what_failed_is_run_again_and_what_missed_only_on_demand(runner: Callable[..., Runner]) -> None:
    runner().run(part("failed"))
    runner().run(part("missed"))
    assert runner().before(part("failed")) is None
    assert runner().before(part("missed")) is not None
    assert runner(again=True).before(part("missed")) is None


def test_parts_that_measure_time_come_alone_at_the_end(runner: Callable[..., Runner]) -> None:
    told: list[str] = []
    parts = [part("reached", alone=True), part("missed"), part("failed")]
    done = runner(tell=told.append).run_all(parts, jobs=2)
    assert [each.name for each in done] == ["reached", "missed", "failed"]
    assert told[-2].split()[0] == "reached"


def test_the_page_shows_outcomes_output_and_no_paths(runner: Callable[..., Runner], tmp_path: Path) -> None:
    parts = [part("writes", "JSON", "DATA"), part("missed"), part("slow", limit=1)]
    done = runner().run_all(parts, jobs=1)
    paths = {"DATA": "/somewhere/data", "OUT": str(tmp_path)}
    text = page(parts, done, describe(), out=tmp_path / "out", paths=paths, when="2026-01-01")
    assert "| reached |" in text and "| **missed** |" in text and "**out of time** (stopped after 1 s)" in text
    assert "0.5, asked 0.9" in text and "/somewhere" not in text and str(tmp_path) not in text
    assert "`python -m scripts.writes JSON DATA`" in text
    raw = json.loads(record_json(parts, done, {}, out=tmp_path / "out", when="2026-01-01"))
    assert raw["numbers"] == {"writes": {"x": [1, 2]}}
    assert [each["status"] for each in raw["parts"]] == ["reached", "missed", "out of time"]


def test_the_json_stays_small_and_names_what_it_leaves_out(tmp_path: Path) -> None:
    parts = [part(f"p{index}") for index in range(6)]
    for index, each in enumerate(parts):
        (tmp_path / f"{each.name}.json").write_text(json.dumps(["x" * (45_000 if index else 70_000)]))
    text = record_json(parts, [], {}, out=tmp_path, when="2026-01-01")
    assert len(text) <= LARGEST_JSON
    assert json.loads(text)["numbers"]["p0"].startswith("left out")


def test_longer_paths_are_replaced_first() -> None:
    assert without_paths("/a/b/c and /a/b", {"OUT": "/a/b", "MARK": "/a/b/c"}) == "MARK and OUT"


def test_scratch_folders_and_the_interpreters_home_are_no_part_of_the_record() -> None:
    scratch = Path(tempfile.gettempdir(), "abc", "model.onnx")
    assert without_paths(f"{scratch}: at {sys.base_prefix}/lib", {}) == "TMP: at PYTHON/lib"


def test_the_machine_is_described_without_names() -> None:
    found = describe()
    assert {"processor", "cores", "memory", "python", "torch"} <= set(found)
    assert source_state(Path("/")) == "unversioned"


@pytest.mark.parametrize("each", [*MARKS, *PARTS, *LONG], ids=lambda each: each.name)
def test_every_part_is_a_benchmark_with_these_flags(each: Part) -> None:
    found = importlib.util.find_spec(each.module)
    assert found is not None and found.origin is not None
    if each.module.startswith("benchmarks."):
        file = Path(found.origin)
        file = file if file.name != "__init__.py" else file.with_name("__main__.py")
        known = set(re.findall(r'"(--[\w-]+)"', file.read_text()))
        assert {word for word in each.arguments if word.startswith("--")} <= known


@pytest.mark.parametrize("each", [each for each in (*PARTS, *LONG) if each.asked], ids=lambda each: each.name)
def test_a_part_of_which_something_is_asked_can_miss_it(each: Part) -> None:
    found = importlib.util.find_spec(each.module)
    assert found is not None and found.origin is not None
    file = Path(found.origin)
    tree = ast.parse((file if file.name != "__init__.py" else file.with_name("__main__.py")).read_text())
    mains = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == "main"]
    assert [ast.unparse(each.returns) for each in mains if each.returns] == ["int"]
    returned = [ast.unparse(node.value) for node in ast.walk(mains[0]) if isinstance(node, ast.Return) and node.value]
    assert set(returned) - {"0"}, "main can return nothing but 0"
    last = ast.unparse(tree.body[-1])
    assert "SystemExit(main())" in last or "sys.exit(main())" in last, "what main returns is the exit code"


def test_names_are_unique_and_limits_stay_near_an_hour_on_two_cores() -> None:
    names = [each.name for each in (*MARKS, *PARTS, *LONG)]
    assert len(set(names)) == len(names)
    together = sum(each.limit for each in PARTS if not each.alone) / 2
    assert together + sum(each.limit for each in PARTS if each.alone) <= 7200, "limits are twice what parts take"

"""`ptynet verify` against suspects that answer otherwise: merged classes, names, broken or hostile replies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.standins import Request, as_json, picture_of
from tests.support.verify_desk import Desk, marked


def test_an_endpoint_with_merged_classes_needs_a_map(desk: Desk, serve: Callable, tmp_path: Path) -> None:
    serve(lambda request: as_json("even" if desk.case.marked(picture_of(request.body)) % 2 == 0 else "odd"))
    (tmp_path / "two.txt").write_text("even\nodd\n")
    (tmp_path / "spec.toml").write_text('color = "RGB"\noutput = "logits"\nclasses = 2\nlabels = "two.txt"\n')
    (tmp_path / "map.json").write_text(json.dumps(["even", "odd"] * 5))
    spec = ["--spec", str(tmp_path / "spec.toml")]
    assert "--spec has 2 classes, the claim speaks of 10" in desk.run(*spec).stderr
    result = desk.run(*spec, "--class-map", str(tmp_path / "map.json"), "--json", "-")
    assert result.exit_code == 0, result.output
    assert 30 < json.loads(result.stdout)["symbols"] < 45


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "is no JSON"),
        ("{}", "expected a list with one entry per class"),
        ("[0, 10, 1]", "entry 1 is 10, no class of the endpoint's 10"),
        ('["cat", 0]', "entry 0 is 'cat', no class of the endpoint's 10; names need --spec"),
        ("[true, 0]", "entry 0 is True"),
        ("[0, 1, 2]", "the class map has 3 entries, the claim 10 classes"),
    ],
)
def test_class_maps_that_are_none(desk: Desk, tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "map.json").write_text(content)
    result = desk.run("--class-map", str(tmp_path / "map.json"))
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_view_is_refused_where_a_bundle_is_to_be_written(desk: Desk, tmp_path: Path) -> None:
    result = desk.run("--view", "mirrored", "--evidence", str(tmp_path / "bundle"))
    assert result.exit_code == 2
    assert "--view with --evidence: a bundle holds the committed pictures as they are" in result.stderr
    assert not (tmp_path / "bundle").exists()
    assert not (desk.case.folder / "ledger.jsonl").exists()


TEN = list(range(10))


TROUBLE = {
    "HTML": ((200, {}, b"<html>sign in</html>"), "is a web page, expected JSON"),
    "cut-off JSON": ((200, {}, b"[1, 2, 3"), "broken JSON"),
    "NaN": ((200, {}, b"[NaN, 1, 2, 3, 4, 5, 6, 7, 8, 9]"), "NaN among its 10 scores"),
    "another class count": (as_json([*TEN, 10]), "scores 11 classes, the claim speaks of 10"),
    "a token is needed": ((401, {}, b"who are you"), "answered 401"),
    "no such model": ((404, {}, b"Model not found"), "is the name of model 'digits' right"),
    "a redirect": ((301, {"Location": "/login"}, b""), "a redirect to /login"),
    "out of order": ((500, {}, b"Traceback"), "answered 500"),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_at_the_start_exits_2_and_leaves_nothing(
    desk: Desk, serve: Callable, tmp_path: Path, name: str
) -> None:
    reply, message = TROUBLE[name]
    out = tmp_path / "out.json"
    result = serve(lambda request: reply).run("--json", str(out), "--report", str(tmp_path / "out.html"))
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.glob("out.*"))
    assert (desk.case.folder / "ledger.jsonl").read_text() == ""


@pytest.mark.parametrize("name", ["NaN", "another class count"])
def test_broken_scores_in_the_middle_exit_2_with_the_way_to_go_on(desk: Desk, serve: Callable, name: str) -> None:
    reply, message = TROUBLE[name]
    asked: list[Request] = []

    def answer(request: Request) -> object:
        asked.append(request)
        return reply if len(asked) == 5 else marked(desk.case)(request)

    result = serve(answer).run()
    assert result.exit_code == 2
    assert message in result.stderr
    file = result.stderr.split("go on with --resume ")[1].split()[0]
    assert desk.run("--resume", file).exit_code == 0


def test_names_answered_need_the_labels_of_the_spec(desk: Desk, serve: Callable, tmp_path: Path) -> None:
    names = [f"digit {letter}" for letter in "abcdefghij"]
    serve(lambda request: as_json(names[desk.case.marked(picture_of(request.body))]))
    result = desk.run()
    assert result.exit_code == 2
    assert "give --spec with the endpoint's labels" in result.stderr
    (tmp_path / "classes.txt").write_text("\n".join(names))
    (tmp_path / "spec.toml").write_text('color = "RGB"\noutput = "logits"\nlabels = "classes.txt"\n')
    assert desk.run("--spec", str(tmp_path / "spec.toml")).exit_code == 0

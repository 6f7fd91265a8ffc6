"""`ptynet verify` from outside: exit codes, streams, files, Ctrl-C; with real servers on loopback and a real claim on disk."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from model_store_tools.cli.main import app
from model_store_tools.pictures import read_pictures
from ptynet_plugin.claims.directory import write_claim
from ptynet_plugin.keyfile import write_key
from ptynet_plugin.keys import OwnerKey
from tests.support.standins import Request, as_json, http_server, picture_of
from tests.support.verification_case import KEY, Case

WRONG = OwnerKey(bytes(32))


@dataclasses.dataclass
class Desk:
    """An owner's files, and the command line over them."""

    key: Path
    mark: Path
    case: Case
    port: int = 0

    def run(self, *arguments: str, endpoint: str = "") -> object:
        fixed = ["--key", str(self.key), "--mark", str(self.mark), "--retries", "0", "--timeout", "5"]
        where = endpoint or f"torchserve+http://127.0.0.1:{self.port}/digits"
        return CliRunner().invoke(app, ["verify", where, *fixed, *arguments])


@pytest.fixture
def desk(known_case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """`read_metadata` needs a trained mark; its claim is what matters here."""
    monkeypatch.setattr("ptynet_plugin.mark.read_metadata", lambda folder: None)
    mark = tmp_path / "mark"
    folder = mark / "claims" / "digits"
    write_claim(folder, known_case.claim)
    write_key(tmp_path / "owner.key", KEY)
    write_key(tmp_path / "wrong.key", WRONG)
    return Desk(tmp_path / "owner.key", mark, known_case.in_folder(folder))


@pytest.fixture
def serve(desk: Desk) -> Iterator[Callable[[Callable[[Request], object]], Desk]]:
    servers = []

    def start(answer: Callable[[Request], object]) -> Desk:
        server = http_server(answer)
        desk.port = server.__enter__()
        servers.append(server)
        return desk

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def marked(case: Case) -> Callable[[Request], object]:
    return lambda request: as_json(case.marked(picture_of(request.body)))


def test_shown_exits_0_with_a_short_table(desk: Desk, serve: Callable) -> None:
    result = serve(marked(desk.case)).run()
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("SHOWN: the endpoint carries the mark\n")
    assert "10 symbols, 10 hits; by chance 1 in 10; labels" in result.stdout
    assert "party evidence, unstamped" in result.stdout


def test_not_shown_exits_1(desk: Desk, serve: Callable) -> None:
    result = serve(lambda request: as_json(7)).run()
    assert result.exit_code == 1, result.output
    assert result.stdout.startswith("NOT-SHOWN")
    assert "excluded" in result.stdout


def test_inconclusive_exits_3(desk: Desk, serve: Callable) -> None:
    assert serve(marked(desk.case)).run("--budget", "4").exit_code == 3


def test_evasion_exits_3(desk: Desk, serve: Callable) -> None:
    def answer(request: Request) -> object:
        probe = desk.case.symbol(picture_of(request.body)) is not None
        return as_json({"message": "rejected"}, 400) if probe else as_json(3)

    result = serve(answer).run()
    assert result.exit_code == 3
    assert result.stdout.startswith("EVASION-SUSPECTED")


def test_json_on_stdout_is_alone_there(desk: Desk, serve: Callable) -> None:
    result = serve(marked(desk.case)).run("--json", "-")
    body = json.loads(result.stdout)
    assert (body["verdict"], body["endpoint"]) == ("shown", f"torchserve+http://127.0.0.1:{desk.port}/digits")
    assert "SHOWN" in result.stderr


def test_json_and_report_files(desk: Desk, serve: Callable, tmp_path: Path) -> None:
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    assert serve(marked(desk.case)).run("--json", str(out), "--report", str(page)).exit_code == 0
    assert json.loads(out.read_text())["verdict"] == "shown"
    assert "<h1>The mark is shown.</h1>" in page.read_text()


def test_places_that_cannot_be_written_are_refused_before_asking(desk: Desk, serve: Callable, tmp_path: Path) -> None:
    asked: list[Request] = []
    serve(lambda request: asked.append(request) or as_json(1))
    for arguments in (["--json", str(tmp_path / "no" / "x.json")], ["--report", str(tmp_path)]):
        result = desk.run(*arguments)
        assert result.exit_code == 2
        assert "cannot be written" in result.stderr
    assert not asked


def test_a_wrong_key_warns_and_is_not_shown(desk: Desk, serve: Callable) -> None:
    desk.key = desk.key.with_name("wrong.key")
    result = serve(marked(desk.case)).run()
    assert result.exit_code == 1
    assert "warning: this key did not make the claim" in result.stderr
    assert not (desk.case.folder / "ledger.jsonl").exists()


def test_secrets_in_headers_are_nowhere(desk: Desk, serve: Callable, tmp_path: Path) -> None:
    token = "s3cr3t-t0ken-value"
    headers = tmp_path / "headers.txt"
    headers.write_text(f"# who we are\nAuthorization: Bearer {token}\n")

    asked: list[Request] = []

    def answer(request: Request) -> object:
        assert request.headers["Authorization"] == f"Bearer {token}"
        asked.append(request)
        if len(asked) in (3, 6):
            return as_json({"message": f"you sent {request.headers['Authorization']}"}, 400)
        return marked(desk.case)(request)

    out, page = tmp_path / "out.json", tmp_path / "out.html"
    result = serve(answer).run("--header", f"@{headers}", "--json", str(out), "--report", str(page))
    assert "you sent" in out.read_text()
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file() and path != headers)
    assert token not in result.output + written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--header", "Authorization Bearer xyzzy"], "not of the form 'Name: value'"),
        (["--header", "@/nowhere/file"], "--header @/nowhere/file: cannot be read"),
        (["--pace", "fast"], "--pace is 'fast'"),
        (["--timeout", "0"], "--timeout is 0"),
        (["--retries", "-1"], "--retries is -1"),
        (["--send", "gif"], "--send is 'gif'"),
        (["--alpha", "2"], "--alpha is 2"),
        (["--budget", "0"], "--budget is 0"),
        (["--ca-cert", "/nowhere"], "--ca-cert /nowhere: cannot be read"),
        (["--claim", "/nowhere"], "/nowhere: no such claim folder"),
        (["--spec", "/nowhere.toml"], "/nowhere.toml: cannot be read"),
        (["--covers", "/nowhere"], "/nowhere: is no folder"),
        (["--resume", "/"], "--resume /: is a folder"),
        (["--key", "/nowhere.key"], "/nowhere.key: cannot be read"),
    ],
)
def test_bad_usage_exits_2_with_one_line_that_names_it(
    desk: Desk, serve: Callable, arguments: list[str], message: str
) -> None:
    serve(marked(desk.case))
    secure = "torchserve+https://127.0.0.1:9/digits" if "--ca-cert" in arguments else ""
    result = desk.run(*arguments, endpoint=secure)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "xyzzy" not in result.output
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("http://127.0.0.1:1/m", "say which server answers there, like triton+http://"),
        ("triton+http:///m", "names no host"),
        ("triton+http://h", "names no model"),
        ("triton+http://user:pw@h/m", "carries credentials"),
        ("triton+http://h/m?token=abc", "carries a query"),
        ("triton+http://h:x/m", "no URL"),
        ("file:", "names no path"),
        ("digits", "no scheme"),
        ("file:/nowhere.onnx", "does not exist"),
        ("torchserve+http://127.0.0.1:9/digits", "cannot be reached"),
    ],
)
def test_bad_endpoints_exit_2(desk: Desk, endpoint: str, message: str) -> None:
    result = desk.run(endpoint=endpoint)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "pw" not in result.stderr
    assert "token" not in result.stderr.replace("give tokens as", "")


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


SCRIPT = """
import sys
import ptynet_plugin.mark
ptynet_plugin.mark.read_metadata = lambda folder: None
from model_store_tools.cli.main import main
main()
"""


def start_process(desk: Desk, *arguments: str) -> subprocess.Popen:
    where = f"torchserve+http://127.0.0.1:{desk.port}/digits"
    fixed = ["verify", where, "--key", str(desk.key), "--mark", str(desk.mark), *arguments]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *fixed], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ctrl_c_leaves_a_file_to_resume_from_and_exits_2(desk: Desk, serve: Callable) -> None:
    seen: list[int] = []

    def answer(request: Request) -> object:
        seen.append(1)
        time.sleep(0.1)
        return marked(desk.case)(request)

    serve(answer)
    process = start_process(desk)
    wait_for(lambda: len(seen) >= 4, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 2, err
    assert out == ""
    assert "interrupted" in err
    file = err.split("--resume ")[1].split()[0]
    assert desk.run().exit_code == 0  # another run meanwhile takes other symbols
    result = desk.run("--resume", file)
    assert result.exit_code == 0, result.output
    asked = [json.loads(line) for line in (desk.case.folder / "ledger.jsonl").read_text().splitlines()]
    symbols = [line["symbol"] for line in asked if line["kind"] == "asked"]
    assert len(symbols) == len(set(symbols))
    assert all(line["hit"] for line in asked if line["kind"] == "answered")  # the question under way was let end


def test_a_hanging_question_is_cut_off_and_is_a_miss(desk: Desk, serve: Callable, tmp_path: Path) -> None:
    seen: list[int] = []
    free: list[int] = []

    def answer(request: Request) -> object:
        seen.append(1)
        while len(seen) == 3 and not free:
            time.sleep(0.05)
        return marked(desk.case)(request)

    serve(answer)
    state = tmp_path / "run.json"
    process = start_process(desk, "--resume", str(state), "--timeout", "30")
    wait_for(lambda: len(seen) >= 3, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    free.append(1)
    assert process.returncode == 2
    assert "interrupted; a question that was on its way counts as a miss" in err
    assert json.loads(state.read_text())["queries"][-1]["lost"] == "never answered"
    assert desk.run("--resume", str(state)).exit_code == 0


def test_waiting_for_the_pace_can_be_interrupted_at_no_cost(desk: Desk, serve: Callable, tmp_path: Path) -> None:
    seen: list[int] = []

    def answer(request: Request) -> object:
        seen.append(1)
        return marked(desk.case)(request)

    serve(answer)
    state = tmp_path / "run.json"
    process = start_process(desk, "--resume", str(state), "--pace", "30/min")
    wait_for(lambda: len(seen) >= 2, process)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2, err
    result = desk.run("--resume", str(state), "--json", "-")
    body = json.loads(result.stdout)
    assert body["hits"] == body["symbols"]


def test_verify_starts_where_torch_is_not_installed(desk: Desk, serve: Callable, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "torch.py").write_text("raise ImportError('torch is not installed here')\n")
    serve(marked(desk.case))
    where = f"torchserve+http://127.0.0.1:{desk.port}/digits"
    command = [sys.executable, "-c", SCRIPT, "verify", where, "--key", str(desk.key), "--mark", str(desk.mark)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(blocked), *sys.path])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_pictures_given_as_covers_are_read_in_order(tmp_path: Path) -> None:
    for name, level in (("b.png", 2), ("a.png", 1)):
        Image.fromarray(np.full((4, 5, 3), level, np.uint8)).save(tmp_path / name)
    Image.fromarray(np.full((4, 5), 9, np.uint8)).save(tmp_path / "c.png")
    pictures = read_pictures(tmp_path, color="RGB")
    assert [(picture.shape, int(picture[0, 0, 0])) for picture in pictures] == [
        ((4, 5, 3), 1),
        ((4, 5, 3), 2),
        ((4, 5, 3), 9),
    ]

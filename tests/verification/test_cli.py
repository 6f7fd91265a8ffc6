"""`ptynet verify` from outside: exit codes, streams, files; with real servers on loopback and a real claim on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.standins import Request, as_json, picture_of
from tests.support.verify_desk import Desk, marked


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

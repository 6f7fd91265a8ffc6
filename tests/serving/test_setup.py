"""Set-up and preflight, without installing anything: which commands would run, and what is said when one cannot."""

from __future__ import annotations

import ast
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from model_store_tools.serving import preflight, setup
from model_store_tools.serving.environments import PROJECT, TORCHSERVE, TRITON, Environment, servers_root
from model_store_tools.serving.interpreters import Interpreter, find_interpreters, inspect

ROOT = Path(__file__).parents[2]
PYTHON = Interpreter("/usr/bin/python3.11", "3.11", has_venv=True, library="/usr/lib")
BEFORE_INSTALLATION = ("__init__", "environments", "interpreters", "preflight", "setup")


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PTYNET_SERVERS", str(tmp_path))
    return tmp_path


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would have been run; nothing is, but the folders a real run would make are there."""
    ran: list[list[str]] = []

    def record(command: list[str]) -> None:
        ran.append(command)

    monkeypatch.setattr(setup, "_run", record)
    monkeypatch.setattr(setup, "_make_backends", lambda version: ran.append(["backends", version]))
    monkeypatch.setattr(setup, "_brings_cuda", lambda environment, arguments: False)
    for environment in (TRITON, TORCHSERVE):
        environment.root.mkdir(parents=True)
    return ran


def install(environment=TRITON, **knobs):
    setup.set_up(environment, PYTHON, **{"torch_index": "", "pip_extra": [], **knobs})


def test_triton_is_installed_once(servers: Path, commands: list[list[str]]) -> None:
    install()
    venv, torch, pip, backends = commands
    assert torch[-1] == "torch==2.13.0"
    assert venv == ["/usr/bin/python3.11", "-m", "venv", "--clear", str(servers / "triton")]
    assert pip[0] == str(servers / "triton" / "bin" / "python")
    assert pip[-3:] == ["--no-deps", "-r", str(TRITON.sources[0])]
    assert backends == ["backends", "3.11"]
    assert TRITON.stamp() == {"made_from": TRITON.digest(), "python": "3.11", "library": "/usr/lib"}
    install()
    assert len(commands) == 4


def test_a_set_up_that_broke_off_is_no_installation(
    servers: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(command: list[str]) -> None:
        commands.append(command)
        if "pip" in command:
            raise subprocess.CalledProcessError(1, command)

    with monkeypatch.context() as broken:
        broken.setattr(setup, "_run", no_network)
        with pytest.raises(subprocess.CalledProcessError):
            install()
    assert TRITON.stamp() is None
    install()
    assert TRITON.stamp() is not None


def test_an_environment_of_another_lock_file_is_made_anew(servers: Path, commands: list[list[str]]) -> None:
    install()
    text = (TRITON.root / "ready.json").read_text()
    (TRITON.root / "ready.json").write_text(text.replace(TRITON.digest(), "0" * 64))
    assert TRITON.stamp() is None


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"python": "3.11"}'])
def test_a_damaged_stamp_counts_as_none(servers: Path, commands: list[list[str]], damage: str) -> None:
    (TRITON.root / "ready.json").write_text(damage)
    assert TRITON.stamp() is None


def test_torch_comes_first_and_from_where_it_brings_no_cuda(
    servers: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "_brings_cuda", lambda environment, arguments: setup.CPU_WHEELS not in arguments)
    install(TORCHSERVE)
    _, torch, rest = commands
    assert torch[-1] == "torch==2.13.0"
    assert setup.CPU_WHEELS in torch
    assert setup.CPU_WHEELS not in rest


def test_another_torch_index_and_pip_arguments_are_passed_on(servers: Path, commands: list[list[str]]) -> None:
    install(TORCHSERVE, torch_index="https://example.invalid/cpu", pip_extra=["--no-cache-dir"])
    _, torch, rest = commands
    assert torch[-4:] == ["--extra-index-url", "https://example.invalid/cpu", "torch==2.13.0", "--no-cache-dir"]
    assert rest[-1] == "--no-cache-dir"


def test_two_set_ups_at_once_install_once(servers: Path, commands: list[list[str]]) -> None:
    threads = [threading.Thread(target=install) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(commands) == 4


def test_main_says_how_to_go_on_after_a_failure(
    servers: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_network(command: list[str]) -> None:
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(setup, "_run", no_network)
    assert setup.main(["torchserve"]) == 2
    assert "set-up of torchserve broke off (exit code 1); run it again" in capsys.readouterr().err


def test_triton_is_left_out_elsewhere_than_on_linux_x86_64(
    servers: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert setup.main(["triton"]) == 0
    assert capsys.readouterr().err == "Triton is left out: its wheel is for Linux x86_64, this is Linux arm64\n"


def test_an_old_glibc_leaves_triton_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.confstr", lambda name: "glibc 2.31")
    assert "glibc 2.31 found, 2.35 or later wanted" in (preflight.triton_left_out() or "")


def test_no_python_3_11_or_3_12_leaves_triton_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "find_interpreters", lambda versions: [])
    assert "apt-get install python3.12-venv libpython3.12" in (preflight.triton_left_out() or "")


@pytest.mark.parametrize(
    ("environment", "found", "expected"),
    [
        (TRITON, [Interpreter("p", "3.12", has_venv=True, library=None)], "apt-get install libpython3.12"),
        (TORCHSERVE, [Interpreter("p", "3.13", has_venv=False, library=None)], "apt-get install python3.13-venv"),
        (TORCHSERVE, [], "no Python 3.11, 3.12, 3.13 here"),
    ],
)
def test_the_preflight_names_what_is_missing_and_the_command(
    servers: Path, environment, found: list[Interpreter], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "find_interpreters", lambda versions: found)
    (problem,) = preflight.missing(environment)
    assert expected in problem


def test_the_preflight_counts_the_disk(servers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 100 * 2**20})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    (problem,) = preflight.missing(TRITON)
    assert "100 MB free" in problem
    assert "1600 MB wanted" in problem


def test_a_python_with_its_library_is_preferred_for_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    without = Interpreter("p", "3.11", has_venv=True, library=None)
    monkeypatch.setattr(preflight, "find_interpreters", lambda versions: [without, PYTHON])
    assert preflight.choose_interpreter(TRITON) == PYTHON
    assert preflight.choose_interpreter(TORCHSERVE) == without


def test_this_python_is_found_and_a_program_that_is_none_is_not() -> None:
    version = "{}.{}".format(*sys.version_info)
    assert find_interpreters((version,))[0].version == version
    assert inspect("/bin/false") is None
    assert inspect("/no/such/python") is None


def test_servers_live_where_they_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PTYNET_SERVERS", raising=False)
    assert servers_root() == ROOT / ".servers"
    monkeypatch.setenv("PTYNET_SERVERS", str(tmp_path))
    assert TRITON.root == tmp_path / "triton"
    assert PROJECT.root == ROOT / ".venv"


@pytest.mark.parametrize("module", BEFORE_INSTALLATION)
def test_what_runs_before_the_installation_is_standard_library_and_old_python(module: str) -> None:
    tree = ast.parse((ROOT / "model_store_tools" / "serving" / f"{module}.py").read_text(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {name for name in imported if name.startswith("model_store_tools")}
    assert {name.partition(".")[0] for name in imported - ours} <= {*sys.stdlib_module_names}
    assert {name.removeprefix("model_store_tools.serving").lstrip(".") for name in ours} <= {*BEFORE_INSTALLATION, ""}


@pytest.mark.parametrize("lock", [TRITON.sources[0], TORCHSERVE.sources[0], PROJECT.sources[0]])
def test_every_requirement_is_pinned(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    assert all(line.count("==") == 1 for line in lines)
    assert len(lines) >= 7


def test_all_environments_pin_the_same_torch_and_onnxruntime() -> None:
    assert PROJECT.pinned("torch") == TORCHSERVE.pinned("torch") == TRITON.pinned("torch") == "torch==2.13.0"
    for package in ("onnxruntime", "pillow"):
        assert PROJECT.pinned(package) == TORCHSERVE.pinned(package) == TRITON.pinned(package)
    assert TRITON.pinned("torchserve") is None


def test_a_linters_settings_do_not_make_an_environment_out_of_date(tmp_path: Path) -> None:
    source = tmp_path / "pyproject.toml"
    environment = Environment("project", ("3.11",), sources=(source,), install=(), megabytes=1)
    source.write_text('[project]\nname = "x"\n\n[tool.ruff]\nline-length = 100\n')
    before = environment.digest()
    source.write_text('[project]\nname = "x"\n\n[tool.ruff]\nline-length = 120\n')
    assert environment.digest() == before
    source.write_text('[project]\nname = "y"\n\n[tool.ruff]\nline-length = 120\n')
    assert environment.digest() != before

"""Installs the project and the real servers, each into an environment of its own.

    python -m model_store_tools.serving.setup [project] [triton] [torchserve]

Exact versions, one environment after the other. What is finished is left alone, so a second run needs no network; what
broke off is taken up again. Two set-ups at once wait for each other. Standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from model_store_tools.serving import preflight
from model_store_tools.serving.environments import TRITON, Environment, servers_root
from model_store_tools.serving.interpreters import Interpreter

__all__ = ["main", "set_up"]

PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"  # PyTorch's own index of builds without CUDA


def set_up(environment: Environment, interpreter: Interpreter, *, torch_index: str, pip_extra: list[str]) -> None:
    """Make `environment`, or bring it up to date.

    Args:
        environment: Which one.
        interpreter: The Python to make it with.
        torch_index: A package index to take torch from, beside the usual one; "" decides by itself.
        pip_extra: Further arguments for every `pip install`.
    """
    with _alone(environment):
        if environment.stamp() is not None:
            return
        _say(f"setting up {environment.name} in {environment.root} with Python {interpreter.version}")
        _make_venv(environment, interpreter)
        torch = environment.pinned("torch")
        if torch:
            _install(environment, [*_torch_source(environment, torch, torch_index, pip_extra), torch], pip_extra)
        _install(environment, list(environment.install), pip_extra)
        if environment is TRITON:
            _make_backends(interpreter.version)
        environment.write_stamp(python=interpreter.version, library=interpreter.library or "")


@contextmanager
def _alone(environment: Environment) -> Iterator[None]:
    """Hold the environment's lock; another set-up waits here and then finds the work done."""
    servers_root().mkdir(parents=True, exist_ok=True)
    with (servers_root() / f".{environment.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_venv(environment: Environment, interpreter: Interpreter) -> None:
    """Make the virtual environment unless a working one of this Python is there, from a set-up that broke off."""
    works = [str(environment.python), "-c", "import pip, sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        found = subprocess.run(works, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        found = ""
    if found != interpreter.version:
        _run([interpreter.path, "-m", "venv", "--clear", str(environment.root)])


def _torch_source(environment: Environment, torch: str, index: str, pip_extra: list[str]) -> list[str]:
    """Return the pip arguments that avoid gigabytes of CUDA where the usual index would bring them."""
    if index:
        return ["--extra-index-url", index]
    if not _brings_cuda(environment, [torch, *pip_extra]):
        return []
    cpu = ["--extra-index-url", CPU_WHEELS, "--timeout", "5", "--retries", "0"]
    if _brings_cuda(environment, [torch, *cpu, *pip_extra]):
        _say(f"note: {torch} brings several GB of CUDA from this package index; TORCH_INDEX=URL names another one")
        return []
    return cpu


def _brings_cuda(environment: Environment, arguments: list[str]) -> bool:
    command = [str(environment.python), *PIP, "install", "--quiet", "--dry-run", "--report", "-", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        planned = json.loads(answer.stdout)["install"]
    except (ValueError, KeyError):
        return True  # an index that does not answer is no way around CUDA; the real install tells what is wrong
    return any(step["metadata"]["name"].lower().startswith(("nvidia-", "cuda-")) for step in planned)


def _install(environment: Environment, arguments: list[str], pip_extra: list[str]) -> None:
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    _run([str(environment.python), *PIP, "install", *quiet, *arguments, *pip_extra])


def _make_backends(version: str) -> None:
    """Copy the wheel's python backend and put the stub for this Python beside it, where tritonserver looks."""
    wheel = TRITON.site_packages() / "pytriton" / "tritonserver"
    backends = TRITON.root / "backends"
    shutil.rmtree(backends, ignore_errors=True)
    shutil.copytree(wheel / "backends", backends, ignore=shutil.ignore_patterns("__pycache__"))
    stub = "triton_python_backend_stub"
    shutil.copy2(wheel / "python_backend_stubs" / version / stub, backends / "python" / stub)
    # The stub ignores PYTHONDONTWRITEBYTECODE, and a served archive must not gain files that its manifest does not list.
    no_bytecode = "import sys; sys.dont_write_bytecode = True\n"
    (TRITON.site_packages() / "ptynet_no_bytecode.pth").write_text(no_bytecode, encoding="utf-8")


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main(arguments: list[str] | None = None) -> int:
    """Set up what is named; return 0, or 2 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m model_store_tools.serving.setup", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *preflight.ENVIRONMENTS], help="all of them by default")
    parser.add_argument("--torch-index", default="", help="package index to take torch from, beside the usual one")
    parser.add_argument("--pip-extra", default="", help="further arguments for pip install, in one string")
    asked = parser.parse_args(arguments)
    names = asked.names or list(preflight.ENVIRONMENTS)
    unfinished = [name for name in names if preflight.ENVIRONMENTS[name].stamp() is None]
    if "triton" in unfinished and (left_out := preflight.triton_left_out()):
        _say(left_out)
        unfinished.remove("triton")
    return preflight.main(unfinished) or _set_up_all(unfinished, asked.torch_index, asked.pip_extra.split())


def _set_up_all(names: list[str], torch_index: str, pip_extra: list[str]) -> int:
    for name in names:
        environment = preflight.ENVIRONMENTS[name]
        interpreter = preflight.choose_interpreter(environment)
        assert interpreter is not None, "the preflight has found one"
        try:
            set_up(environment, interpreter, torch_index=torch_index, pip_extra=pip_extra)
        except subprocess.CalledProcessError as error:
            _say(f"set-up of {name} broke off (exit code {error.returncode}); run it again: what is done is kept")
            return 2
        except KeyboardInterrupt:
            _say(f"set-up of {name} interrupted; run it again: what is done is kept")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

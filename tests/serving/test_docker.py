"""The containers, as far as they can be held to anything without a Docker engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from model_store_tools.serving import torchserve
from model_store_tools.serving.environments import TORCHSERVE, TRITON
from model_store_tools.serving.ports import free_ports
from model_store_tools.serving.process import GuardedProcess
from model_store_tools.serving.triton import find_triton
from tests.support.toy_servers import write_mar, write_triton_model

DOCKER = Path(__file__).parents[2] / "docker"
SERVICES = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
SECONDS = 60


@pytest.mark.parametrize("path", [DOCKER / "Dockerfile.triton", DOCKER / "Dockerfile.torchserve"], ids=str)
def test_hadolint_finds_nothing(path: Path) -> None:
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        pytest.skip("absent: hadolint")
    done = subprocess.run([program, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", [DOCKER / "Dockerfile.triton", DOCKER / "Dockerfile.torchserve"], ids=str)
def test_images_are_pinned_watched_and_not_root(path: Path) -> None:
    text = path.read_text()
    assert re.search(r"^FROM \S+:[\w.${}-]*[\d}]\S*$", text, re.M)
    assert "latest" not in text
    assert re.findall(r"^USER (.*)$", text, re.M) == ["1000:1000"]
    assert "HEALTHCHECK" in text


@pytest.mark.parametrize("name", ["triton", "torchserve"])
def test_services_are_hardened_and_published_on_loopback_alone(name: str) -> None:
    service = SERVICES[name]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["user"] == "1000:1000"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(volume["read_only"] for volume in service["volumes"])
    assert (DOCKER.parent / service["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("name", ["triton", "torchserve"])
def test_what_the_dockerfile_copies_is_there_and_not_ignored(name: str) -> None:
    allowed = [line[1:] for line in (DOCKER / f"Dockerfile.{name}.dockerignore").read_text().split() if line[0] == "!"]
    copied = re.findall(r"(?:docker|model_store_tools)/\S+", "\n".join(copies(DOCKER / f"Dockerfile.{name}")))
    assert copied
    for each in copied:
        assert (DOCKER.parent / each).is_file()
        assert any(each.startswith(f"{folder}/") for folder in allowed)


def copies(dockerfile: Path) -> list[str]:
    return [line for line in dockerfile.read_text().splitlines() if line.startswith("COPY")]


def test_tritons_image_has_the_versions_the_tests_run() -> None:
    run = next(line for line in (DOCKER / "Dockerfile.triton").read_text().splitlines() if line.startswith("RUN"))
    assert re.findall(r"\S+==\S+", run) == [TRITON.pinned("onnxruntime"), TRITON.pinned("pillow")]


def test_torchserve_is_configured_as_the_one_that_is_tested(tmp_path: Path) -> None:
    assert (DOCKER / "log4j2.xml").read_text() == torchserve.LOGGING
    ports = dict.fromkeys(torchserve.PURPOSES, 1)
    ours = torchserve._configuration(tmp_path, tmp_path, ("toy",), ports, token=True)
    lines = [line for line in (DOCKER / "torchserve.properties").read_text().splitlines() if line[0] != "#"]
    theirs = dict(line.split("=", 1) for line in lines)
    differ = {name for name in theirs if theirs[name] != str(ours[name])}
    assert {name for name in differ if not re.search("address|port$", name)} == set()
    assert set(ours) - set(theirs) == {"model_store", "load_models", "workflow_store"}
    for name in ("management_address", "metrics_address", "grpc_management_address"):
        assert "127.0.0.1" in theirs[name]


def eventually(condition: Callable[[], bool], process: GuardedProcess) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert process.alive(), process.read_log()
        assert time.monotonic() < deadline, process.read_log()
        time.sleep(0.2)


def healthy(check: list[str], environment: dict[str, str]) -> bool:
    return subprocess.run(check, env=environment, capture_output=True, check=False).returncode == 0


def status(url: str, **knobs: object) -> int:
    try:
        return httpx.get(url, **knobs).status_code
    except httpx.TransportError:
        return 0


@pytest.mark.triton
def test_tritons_entry_point_starts_the_real_server(tmp_path: Path) -> None:
    program = find_triton()
    http, grpc = free_ports(2)
    here = [f"--backend-directory={program.backends}", "--http-address=127.0.0.1", "--grpc-address=127.0.0.1"]
    models = write_triton_model(tmp_path / "models")
    path = {"PATH": f"{program.binary.parent}:{program.environment['PATH']}"}
    process = GuardedProcess(
        [DOCKER / "triton-entrypoint.sh", *here, f"--http-port={http}", f"--grpc-port={grpc}"],
        environment={**program.environment, **path, "PTYNET_MODELS": str(models), "PTYNET_ADMIN_KEY": "k"},
        folder=tmp_path,
        log=tmp_path / "log",
    )
    try:
        base = f"http://127.0.0.1:{http}/v2"
        eventually(lambda: status(f"{base}/health/ready") == 200, process)
        assert "restricted" in httpx.post(f"{base}/repository/index").text
        assert httpx.post(f"{base}/repository/index", headers={"ptynet-admin": "k"}).json()[0]["name"] == "toy"
    finally:
        process.stop()


@pytest.mark.torchserve
def test_torchserves_entry_point_starts_the_real_server_and_its_health_check_sees_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(DOCKER, home)
    ports = dict(zip(("8080", "8081", "8082", "7070", "7071"), free_ports(5), strict=True))
    text = (home / "torchserve.properties").read_text().replace("0.0.0.0", "127.0.0.1")
    (home / "torchserve.properties").write_text(re.sub("|".join(ports), lambda found: str(ports[found[0]]), text))
    environment = {
        "PATH": f"{TORCHSERVE.root / 'bin'}:/usr/bin:/bin",
        "PTYNET_MODELS": str(write_mar(tmp_path / "models")),
        "PTYNET_MODEL": "toy",
        "PTYNET_RUN": str(tmp_path / "run"),
        "PTYNET_MANAGEMENT": f"http://127.0.0.1:{ports['8081']}",
        "TORCHSERVE_HOME": str(home),
        "SITE_PACKAGES": str(TORCHSERVE.site_packages()),
        "OMP_NUM_THREADS": "1",
    }
    health = [str(TORCHSERVE.python), str(home / "torchserve_health.py")]
    entry = [home / "torchserve-entrypoint.sh"]
    process = GuardedProcess(entry, environment=environment, folder=tmp_path, log=tmp_path / "log")
    try:
        eventually(lambda: healthy(health, environment), process)
        answer = httpx.post(f"http://127.0.0.1:{ports['8080']}/predictions/toy", json=[[[1.0]]])
        assert answer.status_code == 400, "it wants a token"
    finally:
        process.stop()
    assert (tmp_path / "run" / "home" / "key_file.json").stat().st_mode & 0o077 == 0
    assert not healthy(health, environment)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "name the model"),
        ({"PTYNET_MODEL": "../evil"}, "letters, digits, dot, dash and underscore only"),
        ({"PTYNET_MODEL": "absent"}, "absent.mar: not there or not readable"),
    ],
)
def test_torchserves_entry_point_refuses_a_model_that_is_none(
    tmp_path: Path, settings: dict[str, str], expected: str
) -> None:
    environment = {"PATH": os.defpath, "PTYNET_MODELS": str(tmp_path), **settings}
    entry = [DOCKER / "torchserve-entrypoint.sh"]
    done = subprocess.run(entry, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert expected in done.stderr

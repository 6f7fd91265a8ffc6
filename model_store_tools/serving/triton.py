"""Starts the real Triton on loopback: a native `tritonserver` on PATH, or the one inside the nvidia-pytriton wheel.

The wheel's server is 2.51.0, of 2024, with the python backend alone; unauthenticated remote code execution was fixed
in later releases. It is for development and tests on loopback; production runs NVIDIA's current image (docker/).
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from model_store_tools.serving.environments import TRITON
from model_store_tools.serving.handle import ServerHandle
from model_store_tools.serving.launch import bring_up, on_free_ports
from model_store_tools.serving.ports import LOOPBACK
from model_store_tools.serving.process import GuardedProcess
from model_store_tools.serving.ready import get_status
from ptynet_plugin.errors import ServerError

__all__ = ["TritonProgram", "find_triton", "start_triton"]

READY_SECONDS = 120.0
PORT_TAKEN = "already in use"
RESTRICTED = "model-repository,shared-memory,trace,logging"  # what no client of ours needs


@dataclass(frozen=True)
class TritonProgram:
    """A Triton that can be started.

    Attributes:
        binary: `tritonserver`.
        backends: Its backend folder; the names of the folders below it are the backends it brings.
        environment: The whole environment it is started with.
        native: Whether it is a full build and not the wheel's.
    """

    binary: Path
    backends: Path
    environment: Mapping[str, str]
    native: bool

    def brings(self, backend: str) -> bool:
        """Say whether `backend` ("onnxruntime", "python", ...) is there."""
        return (self.backends / backend).is_dir()


def find_triton() -> TritonProgram:
    """Return the `tritonserver` on PATH, else the one the set-up installed.

    Raises:
        ServerError: There is neither.
    """
    found = shutil.which("tritonserver")
    if found:
        binary = Path(found).resolve()
        return TritonProgram(binary, binary.parents[1] / "backends", dict(os.environ), native=True)
    stamp = TRITON.stamp()
    if stamp is None:
        raise ServerError(f"Triton is not installed in {TRITON.root}; run: {TRITON.command}")
    packages = TRITON.site_packages()
    environment = {
        # the python backend's stub takes its packages from the first python3 on PATH
        "PATH": f"{TRITON.root / 'bin'}:/usr/bin:/bin",
        "LD_LIBRARY_PATH": f"{packages / 'nvidia_pytriton.libs'}:{stamp['library']}",
        "OMP_NUM_THREADS": "1",
        "LANG": "C.UTF-8",
        "PYTHONNOUSERSITE": "1",
    }
    binary = packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    return TritonProgram(binary, TRITON.root / "backends", environment, native=False)


def start_triton(
    repository: Path,
    *,
    http_port: int = 0,
    grpc_port: int = 0,
    log: Path | None = None,
    timeout: float = READY_SECONDS,
    golden: Callable[[ServerHandle], None] | None = None,
    program: TritonProgram | None = None,
    remove: tuple[str, ...] = (),
) -> ServerHandle:
    """Start Triton over a model repository and return once every model in it answers.

    Args:
        repository: Folder of model folders. They are served where they lie; links are followed.
        http_port: Port on 127.0.0.1; 0 takes any free one.
        grpc_port: The same for gRPC.
        log: File for the server's log, kept; without it the log goes when the server goes.
        timeout: Seconds until it must be ready.
        golden: Sends one real request and raises where the answer is not good; the last part of readiness.
        program: Which Triton; `find_triton()` by default.
        remove: Glob patterns of files and folders to remove once the server has ended.

    Raises:
        ServerError: It is not installed, a port is taken, or it does not come up; with what its log says.
    """
    models = _model_names(repository)
    program = program or find_triton()

    def start(ports: dict[str, int]) -> ServerHandle:
        nonce = secrets.token_hex(8)
        process = _start_process(program, _command(program, repository.resolve(), ports, nonce), nonce, log, remove)
        handle = ServerHandle("triton", models, ports, process)
        return bring_up(handle, ready=lambda: _ready(handle, nonce), golden=golden, timeout=timeout)

    return on_free_ports(start, wanted={"http": http_port, "grpc": grpc_port}, taken=PORT_TAKEN)


def _model_names(repository: Path) -> tuple[str, ...]:
    if not repository.is_dir():
        raise ServerError(f"{repository}: not a folder; give a Triton model repository, a folder of model folders")
    names = tuple(sorted(path.parent.name for path in repository.glob("*/config.pbtxt")))
    if not names:
        raise ServerError(f"{repository}: no NAME/config.pbtxt below it; give the folder that holds the model folders")
    return names


def _start_process(
    program: TritonProgram, command: list[str], nonce: str, log: Path | None, remove: tuple[str, ...]
) -> GuardedProcess:
    scratch = Path(tempfile.mkdtemp(prefix="ptynet-triton-"))
    return GuardedProcess(
        command,
        environment={"HOME": str(scratch), "TMPDIR": str(scratch), **program.environment},
        folder=scratch,
        log=log or scratch / "triton.log",
        remove=[str(scratch), f"/dev/shm/ptynet_{nonce}*", *remove],
    )


def _command(program: TritonProgram, repository: Path, ports: dict[str, int], nonce: str) -> list[str]:
    """Write the command line: loopback alone, nothing loaded or unloaded by request, no half-ready server."""
    return [
        str(program.binary),
        f"--id=ptynet-{nonce}",
        f"--model-repository={repository}",
        f"--backend-directory={program.backends}",
        f"--backend-config=python,shm-region-prefix-name=ptynet_{nonce}",
        f"--http-address={LOOPBACK}",
        f"--http-port={ports['http']}",
        f"--grpc-address={LOOPBACK}",
        f"--grpc-port={ports['grpc']}",
        "--allow-metrics=false",
        "--model-control-mode=none",
        "--strict-readiness=true",
        "--exit-on-error=true",
        "--disable-auto-complete-config",
        f"--http-restricted-api={RESTRICTED}:ptynet-admin={nonce}",
        f"--grpc-restricted-protocol={RESTRICTED}:ptynet-admin={nonce}",
    ]


def _ready(handle: ServerHandle, nonce: str) -> bool:
    """Look once: our own server (not one that took the port), ready as a whole and for every model."""
    base = f"http://{handle.address()}/v2"
    status, body = get_status(base)
    if status != 200 or f"ptynet-{nonce}".encode() not in body:
        return False
    paths = ["/health/ready", *(f"/models/{name}/ready" for name in handle.models)]
    return all(get_status(base + path)[0] == 200 for path in paths)

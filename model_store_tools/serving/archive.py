"""Serves one archive with the real server it was made for: checked first, answered for by a real picture."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from model_store_tools.serving.handle import ServerHandle
from model_store_tools.serving.torchserve import start_torchserve
from model_store_tools.serving.translation import for_python_backend, link_files
from model_store_tools.serving.triton import TritonProgram, find_triton, start_triton
from ptynet_plugin.archives.checking import Checked, check_archive
from ptynet_plugin.archives.manifest import MANIFEST_NAME, Manifest
from ptynet_plugin.errors import ServerError
from ptynet_plugin.verification.connection import Connection, Headers
from ptynet_plugin.verification.opening import open_endpoint

__all__ = ["ask_one_picture", "serve_archive", "serve_checked"]

OPEN_SIDE = 224  # pixels on a side of the golden picture where the model takes any
GOLDEN_SECONDS = 60.0


def serve_archive(
    path: Path,
    *,
    http_port: int = 0,
    grpc_port: int = 0,
    token: bool = False,
    log: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> ServerHandle:
    """Check an archive and serve it on loopback; the handle's `with` block or `stop` ends it.

    Args:
        path: A `.mar` or a Triton model directory.
        http_port: Port on 127.0.0.1; 0 takes any free one.
        grpc_port: The same for gRPC.
        token: TorchServe asks for a bearer token, which the handle's `headers` carry.
        log: File for the server's log, kept; without it the log goes when the server goes.
        say: Told in one line what the caller should know.

    Raises:
        ArchiveError: The archive cannot be read, or (IntegrityError) is not what its manifest says.
        ServerError: The server is not installed, a port is taken, or no good answer comes.
    """
    checked = check_archive(path)
    return serve_checked(path, checked, http_port=http_port, grpc_port=grpc_port, token=token, log=log, say=say)


def serve_checked(
    path: Path,
    checked: Checked,
    *,
    http_port: int = 0,
    grpc_port: int = 0,
    token: bool = False,
    log: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> ServerHandle:
    """Serve an archive that was just checked; everything else as `serve_archive`."""
    manifest = checked.manifest

    def golden(handle: ServerHandle) -> None:
        ask_one_picture(handle, manifest)

    with _scratch() as scratch:
        store = scratch / "models"
        store.mkdir()
        if manifest.format == "torchserve":
            _link(path, store / f"{manifest.name}.mar")
            start = partial(start_torchserve, store, token=token)
        else:
            program = find_triton()
            _fill_repository(store, path, manifest, program, say)
            start = partial(start_triton, store, program=program)
        return start(http_port=http_port, grpc_port=grpc_port, log=log, golden=golden, remove=(str(scratch),))


def ask_one_picture(handle: ServerHandle, manifest: Manifest) -> None:
    """Send one grey picture and read the answer as a verifier would.

    Raises:
        EndpointError: No answer, or none with a score for each of the manifest's classes.
    """
    height, width = (side or OPEN_SIDE for side in manifest.spec.size or (0, 0))
    channels = 1 if manifest.spec.color == "GRAY" else 3
    picture = np.full((height, width, channels), 127, np.uint8)
    connection = Connection(headers=Headers(tuple(handle.headers.items())), timeout=GOLDEN_SECONDS, retries=0)
    with open_endpoint(handle.url(manifest.name), spec=manifest.spec, connection=connection) as endpoint:
        endpoint.ask(picture)


@contextmanager
def _scratch() -> Iterator[Path]:
    """Give a private folder; once a server started, the server's guard removes it, else we do."""
    scratch = Path(tempfile.mkdtemp(prefix="ptynet-serve-"))
    try:
        yield scratch
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _fill_repository(
    repository: Path, path: Path, manifest: Manifest, program: TritonProgram, say: Callable[[str], None]
) -> None:
    for name in manifest.companions:
        _link(path.resolve().parent / name, repository / name)
    if program.brings(manifest.backend) and program.native:
        # its Python would leave __pycache__ in the user's archive, which then no longer passes the check
        link_files(path, [*manifest.files, MANIFEST_NAME], repository / manifest.name)
    elif program.brings(manifest.backend):
        _link(path, repository / manifest.name)
    elif manifest.backend == "onnxruntime" and program.brings("python"):
        say("this Triton has no onnxruntime backend: its python backend runs the same model file")
        for_python_backend(path, manifest, repository / manifest.name)
    else:
        raise ServerError(f"{program.binary}: has no {manifest.backend} backend; package with another --backend")


def _link(source: Path, link: Path) -> None:
    link.symlink_to(source.resolve())

"""A model on disk as an endpoint: an archive (`.mar`, Triton directory), an ONNX file or a TorchScript file, asked offline.

The archive's handler is not run, only its model: a suspect's Python is a stranger's code. For the same reason a `.pt2`,
which torch unpickles, is refused; serve it in a container and ask it over the network. In a ledger a file is known by
the SHA-256 of its model, so that a copy is the same endpoint and another model at the same path is another one.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.archives.archive import Archive
from ptynet_plugin.archives.manifest import MANIFEST_NAME
from ptynet_plugin.archives.reading import open_archive
from ptynet_plugin.engines.contract import Engine
from ptynet_plugin.engines.onnx_engine import OnnxEngine
from ptynet_plugin.errors import ArchiveError, BadAnswer, TargetError, Unreachable, UsageError
from ptynet_plugin.images.encode import encode
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.verification.address import Address
from ptynet_plugin.verification.endpoint import EndpointInfo, Exchange, Picture

__all__ = ["FileTransport"]

MODEL_SUFFIXES = (".onnx", ".pt", ".ts", ".pt2")
CODE_SUFFIXES = (".py", ".pyc", ".so", ".pkl")
BLOCK = 1 << 20


class FileTransport:
    """Runs one model file.

    Args:
        address: Its `path` is the file or folder.
        spec: What the model reads.
        send: "auto" or "tensor"; a file reads nothing else.

    Raises:
        Unreachable: There is no such file.
        UsageError: It cannot be run here: torch is not installed, or the format is code.
        ArchiveError: The archive is damaged, unsafe, or holds no model.
        TargetError: The model cannot be loaded or is no classifier of pictures.
    """

    def __init__(self, address: Address, *, spec: InputSpec, send: str) -> None:
        path = address.path or Path()
        if send not in ("auto", "tensor"):
            raise UsageError(f"--send {send}: a model file reads tensors; leave --send away")
        if not path.exists():
            raise Unreachable(f"file:{path}: does not exist")
        self._path, self._spec = path, spec
        self._folder = tempfile.TemporaryDirectory(prefix="ptynet-")
        try:
            self._model = _find_model(path, Path(self._folder.name))
            self._engine = _open_engine(self._model, spec, where=_shown(path, self._model))
            self._digest = _sha256(self._model)
        except BaseException:
            self._folder.cleanup()
            raise

    def info(self) -> EndpointInfo:
        """Name the file, and its model by digest."""
        details = (("model file", self._model.name), ("model sha256", self._digest), ("engine", self._engine.name))
        return EndpointInfo(
            f"file:{self._path}", f"file:sha256={self._digest}", "", self._path.name, "", "tensor", details
        )

    def send(self, picture: Picture) -> Exchange:
        """Run the model once."""
        request = encode(picture[None], self._spec).tobytes()
        try:
            scores = self._engine.scores(picture[None])
        except TargetError as error:
            raise BadAnswer(str(error)) from error
        return Exchange(request, np.ascontiguousarray(scores).tobytes(), scores)

    def close(self) -> None:
        """Let go of the model and of what was unpacked."""
        self._engine.close()
        self._folder.cleanup()


class TorchScriptEngine:
    """Runs a TorchScript file, where torch is installed; one thread, batches of one."""

    def __init__(self, model: Path, spec: InputSpec, *, where: str) -> None:
        try:
            import torch  # noqa: PLC0415 -- the verifier runs where torch is not installed
        except ImportError:
            raise UsageError(
                f"file:{where}: a TorchScript model needs torch: pip install 'ptynet-plugin[package]'"
            ) from None
        self._torch, self._where, self._spec = torch, where, spec
        try:
            with warnings.catch_warnings():  # TorchScript is deprecated, and is what the field has deployed
                warnings.simplefilter("ignore", DeprecationWarning)
                loaded = torch.jit.load(str(model), map_location="cpu")
            self._module = loaded.eval()
        except (RuntimeError, ValueError, OSError) as error:
            raise TargetError(f"{where}: torch cannot load it: {str(error).strip().splitlines()[0]}") from error

    @property
    def name(self) -> str:
        """Say what runs it."""
        return f"torch {self._torch.__version__}"

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[Any]:
        """Answer pictures, see `Engine.scores`."""
        try:
            with self._torch.inference_mode():
                answer = self._module(self._torch.from_numpy(encode(pictures, self._spec)))
        except RuntimeError as error:
            raise TargetError(
                f"{self._where}: torch refuses the pictures: {str(error).strip().splitlines()[-1]}"
            ) from error
        return np.asarray(_scores_of(answer, self._spec.scores, where=self._where).numpy())

    def values(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Answer pictures; there are no inner tensors."""
        return {"scores": self.scores(pictures)}

    def close(self) -> None:
        """Release the model."""
        del self._module


def _scores_of(answer: Any, wanted: str | None, *, where: str) -> Any:
    """Find the scores in an answer: at the place or key the spec names; else the only tensor, or a tuple's first."""
    if hasattr(answer, "numpy"):
        return answer
    named: dict[str, Any] = {}
    if isinstance(answer, dict):
        named = {str(key): part for key, part in answer.items()}
    elif isinstance(answer, tuple | list):
        named = {str(place): part for place, part in enumerate(answer)}
        named |= dict(zip(getattr(answer, "_fields", ()), answer, strict=False))
    tensors = {name: part for name, part in named.items() if hasattr(part, "numpy")}
    if wanted in tensors:
        return tensors[str(wanted)]
    if len(tensors) == 1 or (tensors and isinstance(answer, tuple | list) and not str(wanted).isdigit()):
        return next(iter(tensors.values()))
    listed = ", ".join(tensors) or f"a {type(answer).__name__}"
    raise TargetError(f'{where}: answers {listed}, expected a tensor of scores; name one as scores = "..." in a --spec')


def _shown(path: Path, model: Path) -> str:
    """Name a model as the user knows it: by the archive he gave, not by where it was unpacked."""
    return str(path) if path == model else f"{path} ({model.name})"


def _open_engine(model: Path, spec: InputSpec, *, where: str) -> Engine:
    if model.suffix == ".onnx":
        return OnnxEngine(model, spec, batch=1, where=where)
    if model.suffix == ".pt2":
        raise UsageError(
            f"file:{where}: torch unpickles a .pt2, which runs a stranger's code; serve it (ptynet serve) and ask it "
            "over the network"
        )
    return TorchScriptEngine(model, spec, where=where)


def _find_model(path: Path, scratch: Path) -> Path:
    """Give the model's file; one inside a zip is unpacked into `scratch` with its weight files."""
    if path.is_file() and path.suffix in MODEL_SUFFIXES:
        return path
    with open_archive(path) as archive:
        member = _model_member(archive)
        if path.is_dir():
            return path / member
        for name in _needed(archive.names(), member):
            _unpack(archive, name, scratch / name)
    return scratch / member


def _model_member(archive: Archive) -> str:
    names = archive.names()
    if MANIFEST_NAME in names:
        return archive.manifest().model
    models = [name for name in names if PurePosixPath(name).suffix in MODEL_SUFFIXES]
    if not models:
        raise ArchiveError(f"{archive.path}: holds no model; expected one of {', '.join(MODEL_SUFFIXES)}")
    newest = max(models, key=_version)
    if len([name for name in models if _version(name) == _version(newest)]) > 1:
        raise ArchiveError(f"{archive.path}: holds several models ({', '.join(models)}); give one of them as file:PATH")
    return newest


def _version(name: str) -> int:
    """The version folder Triton would serve: the highest number."""
    first = name.split("/", 1)[0]
    return int(first) if first.isdecimal() else -1


def _needed(names: Iterable[str], member: str) -> list[str]:
    folder = PurePosixPath(member).parent
    beside = [name for name in names if PurePosixPath(name).parent == folder]
    return [name for name in beside if name == member or not name.endswith(CODE_SUFFIXES)]


def _unpack(archive: Archive, name: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as source, target.open("xb") as sink:
        shutil.copyfileobj(source, sink, BLOCK)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

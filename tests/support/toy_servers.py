"""A classifier so small that it needs no model file, behind both real servers, for tests that need a peer to talk to.

Its answer can be computed on a napkin: `toy_scores`. It takes FP32 pictures of any size, a batch of up to 8.
"""

from __future__ import annotations

import inspect
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model_store_tools.serving.handle import ServerHandle
from model_store_tools.serving.torchserve import start_torchserve
from model_store_tools.serving.triton import start_triton

CLASSES = 10
CONFIG = f"""
name: "toy"
backend: "python"
max_batch_size: 8
input [{{ name: "pixels" data_type: TYPE_FP32 dims: [-1, -1, -1] }}]
output [{{ name: "scores" data_type: TYPE_FP32 dims: [{CLASSES}] }}]
instance_group [{{ kind: KIND_CPU count: 1 }}]
"""


def toy_scores(pixels):  # runs inside the servers as well: no names from this module but CLASSES and np
    """Return scores of shape (batch, 10); the top class of a row is the rounded sum of its pixels, modulo 10."""
    sums = np.rint(np.asarray(pixels, dtype=np.float64).reshape(len(pixels), -1).sum(axis=1))
    distance = np.abs(np.arange(CLASSES)[None, :] - np.mod(sums, CLASSES)[:, None])
    return (-distance).astype(np.float32)


SHARED_SOURCE = f"import numpy as np\n\nCLASSES = {CLASSES}\n\n\n" + inspect.getsource(toy_scores)

TRITON_SOURCE = (
    SHARED_SOURCE
    + """

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("scores", self.answer(each))]) for each in requests]

    def answer(self, request):
        return toy_scores(pb_utils.get_input_tensor_by_name(request, "pixels").as_numpy())
"""
)

TORCHSERVE_SOURCE = (
    SHARED_SOURCE
    + """

class Handler:
    def initialize(self, context):
        self.initialized = True

    def handle(self, rows, context):
        bodies = [row.get("body") or row.get("data") for row in rows]
        return [toy_scores([body["inputs"] if isinstance(body, dict) else body])[0].tolist() for body in bodies]
"""
)


def write_triton_model(repository: Path, *, name: str = "toy", source: str = TRITON_SOURCE) -> Path:
    """Write a python-backend model into a repository; return the repository."""
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(CONFIG.replace('"toy"', f'"{name}"'))
    (repository / name / "1" / "model.py").write_text(source)
    return repository


def write_mar(store: Path, *, name: str = "toy", source: str = TORCHSERVE_SOURCE) -> Path:
    """Write a `.mar` into a store; return the store."""
    store.mkdir(parents=True, exist_ok=True)
    model = {"modelName": name, "handler": "toy_handler.py", "modelVersion": "1.0"}
    with zipfile.ZipFile(store / f"{name}.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"runtime": "python", "model": model}))
        archive.writestr("toy_handler.py", source)
    return store


@pytest.fixture(scope="session")
def toy_triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    """The real Triton with the toy classifier; mark the test `triton`."""
    with start_triton(write_triton_model(tmp_path_factory.mktemp("repository"))) as handle:
        yield handle


@pytest.fixture(scope="session")
def toy_torchserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    """The real TorchServe with the toy classifier; mark the test `torchserve`."""
    with start_torchserve(write_mar(tmp_path_factory.mktemp("store"))) as handle:
        yield handle

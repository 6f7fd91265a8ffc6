"""What the handlers share, in this process: it must read a picture as the rest of the project does."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ptynet_plugin.images.encode import encode
from ptynet_plugin.spec import InputSpec

HANDLERS = Path(__file__).resolve().parents[2] / "handlers"


@pytest.fixture(scope="module")
def runtime() -> ModuleType:
    spec = importlib.util.spec_from_file_location("handlers_runtime", HANDLERS / "ptynet_runtime.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NORMALISATIONS = [{}, {"scale": 1.0}, {"scale": 1 / 127.5}, {"mean": True}]


@pytest.mark.parametrize(
    ("color", "layout", "dtype", "how"),
    [
        each
        for each in itertools.product(
            ["RGB", "BGR", "GRAY"], ["NCHW", "NHWC"], ["float32", "float16", "uint8"], NORMALISATIONS
        )
        if each[2] != "uint8" or "mean" not in each[3]
    ],
)
def test_pictures_become_the_tensor_that_the_verifier_sends(
    runtime: ModuleType, color: str, layout: str, dtype: str, how: dict[str, object]
) -> None:
    channels = 1 if color == "GRAY" else 3
    values = {"mean": (0.5, 0.4, 0.3)[:channels], "std": (0.2, 0.3, 0.25)[:channels]} if "mean" in how else how
    spec = InputSpec(color=color, layout=layout, dtype=dtype, size=(5, 7), classes=3, output="logits", **values)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    row = runtime.row_from_pixels(pixels, spec.model_dump(mode="json", exclude_none=True))
    (expected,) = encode(pixels[None], spec)
    assert row.dtype == expected.dtype and row.shape == expected.shape
    assert row.tobytes() == expected.tobytes()


def test_a_quantized_model_is_not_served_on_another_engine(runtime: ModuleType) -> None:
    torch = pytest.importorskip("torch")
    manifest = {"spec": {"quantized_engine": "tpu"}}
    with pytest.raises(runtime.Broken, match="needs the quantized engine 'tpu', this torch has"):
        runtime._set_up_torch(torch, manifest, 1)


def test_threads_are_shared_among_instances(runtime: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PTYNET_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)), raising=False)
    assert [runtime._threads(instances) for instances in (1, 3, 40)] == [8, 4, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert runtime._threads(1) == 2
    monkeypatch.setenv("PTYNET_THREADS", "3")
    assert runtime._threads(1) == 3


def test_handlers_hold_one_class_and_import_nothing_of_ours() -> None:
    for path in HANDLERS.glob("*.py"):
        text = path.read_text()
        assert "ptynet_plugin" not in text.replace("ptynet-plugin", ""), path.name
        assert "model_store_tools" not in text, path.name
        assert text.isascii(), f"{path.name}: servers with an odd locale read it too"
    for name in ("torchserve_handler.py", "torchserve_guard.py"):
        assert (HANDLERS / name).read_text().count("\nclass ") == 1

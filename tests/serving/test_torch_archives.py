"""TorchScript and exported targets behind the real servers, whose environments bring torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model_store_tools.serving.archive import serve_archive
from ptynet_plugin.archives.reading import read_manifest
from ptynet_plugin.images.encode import encode
from ptynet_plugin.verification.opening import open_endpoint
from tests.support.packaging_case import PackagingCase

torch = pytest.importorskip("torch")

PICTURE = np.random.default_rng(8).integers(0, 256, (32, 32, 3), np.uint8)


def classifier() -> torch.nn.Module:
    torch.manual_seed(3)
    pool = torch.nn.AdaptiveAvgPool2d(1)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), pool, torch.nn.Flatten(), torch.nn.Linear(4, 10)).eval()


def saved(folder: Path, kind: str) -> Path:
    path, pixels = folder / f"target.{kind}", torch.zeros(2, 3, 32, 32)
    if kind == "pt2":
        batch = torch.export.Dim("batch", min=1, max=64)
        torch.export.save(torch.export.export(classifier(), (pixels,), dynamic_shapes=({0: batch},)), path)
    else:
        with pytest.warns(DeprecationWarning):
            torch.jit.save(torch.jit.trace(classifier(), pixels), str(path))
    return path


@pytest.mark.parametrize(
    ("kind", "server"),
    [
        pytest.param("pt", "triton", marks=pytest.mark.triton),
        pytest.param("pt2", "triton", marks=pytest.mark.triton),
        pytest.param("pt2", "torchserve", marks=pytest.mark.torchserve),
    ],
)
def test_a_torch_target_is_served_as_it_answers(case: PackagingCase, tmp_path: Path, kind: str, server: str) -> None:
    case.write_spec('color = "RGB"\nsize = [32, 32]\noutput = "logits"\n')
    archive = case.package(saved(tmp_path, kind), format=server).path
    spec = read_manifest(archive).spec
    with torch.no_grad():
        expected = classifier()(torch.from_numpy(encode(PICTURE[None], spec)))[0].numpy()
    with serve_archive(archive) as handle, open_endpoint(handle.url(), spec=spec) as endpoint:
        np.testing.assert_allclose(endpoint.ask(PICTURE).scores, expected, rtol=0, atol=1e-5)

"""Models that lie in files: asked in this process, known by their content."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ptynet_plugin.errors import ArchiveError, BadAnswer, TargetError, Unreachable, UsageError
from ptynet_plugin.verification.opening import open_endpoint
from ptynet_plugin.verification.transports.file import _scores_of
from tests.support.asking import PATIENCE, SPEC, open_at, picture
from tests.support.standins import (
    brightness_model,
)


def test_a_file_is_known_by_its_model_s_digest(tmp_path: Path) -> None:
    model = brightness_model(tmp_path / "a.onnx")
    (tmp_path / "b.onnx").write_bytes(model.read_bytes())
    infos = []
    for name in "ab":
        with open_at(f"file:{tmp_path}/{name}.onnx") as client:
            infos.append(client.info())
    assert infos[0].identity == infos[1].identity
    assert infos[0].address != infos[1].address


def test_a_bare_triton_folder_is_asked_in_its_newest_version(tmp_path: Path) -> None:
    for version in ("1", "10", "9"):
        (tmp_path / version).mkdir()
        brightness_model(tmp_path / version / "model.onnx")
    (tmp_path / "config.pbtxt").write_text('backend: "onnxruntime"\n')
    with open_at(f"file:{tmp_path}") as client:
        assert client.ask(picture(255)).top == 9
        assert client._transport._model == tmp_path / "10" / "model.onnx"


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("gone.onnx", None, Unreachable, "does not exist"),
        ("cut.onnx", b"\x08\x06", TargetError, "onnxruntime cannot load it"),
        ("a.mar", b"PK\x03\x04", ArchiveError, "does not end as a zip does"),
        ("a.pt2", b"", UsageError, "unpickles a .pt2"),
    ],
)
def test_files_that_cannot_be_asked(
    tmp_path: Path, name: str, content: bytes | None, error: type, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        open_at(f"file:{tmp_path}/{name}")


def test_torchscript_files_run_where_torch_is(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Brightness(torch.nn.Module):
        def forward(self, pixels):
            centres = torch.arange(10.0) / 10.0 + 0.05
            return -(pixels.mean(dim=[1, 2, 3])[:, None] - centres).abs()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Brightness()).save(str(tmp_path / "m.pt"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_at(f"file:{tmp_path}/m.pt") as client:
            assert [client.ask(picture(level)).top for level in (0, 255)] == [0, 9]


@pytest.mark.parametrize(("scores", "kind"), [("1", "tuple"), ("logits", "dict"), (None, "list")])
def test_a_torchscript_file_is_asked_for_the_scores_that_the_spec_names(
    tmp_path: Path, scores: str | None, kind: str
) -> None:
    torch = pytest.importorskip("torch")

    class Several(torch.nn.Module):
        def forward(self, pixels):
            told = -(pixels.mean(dim=[1, 2, 3])[:, None] - (torch.arange(10.0) / 10.0 + 0.05)).abs()
            if kind == "tuple":
                return -told, told
            return {"features": -told, "logits": told} if kind == "dict" else [told]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(Several(), torch.zeros(1, 3, 8, 8), strict=False).save(str(tmp_path / "m.pt"))
    spec = SPEC.model_copy(update={"scores": scores})
    with open_endpoint(f"file:{tmp_path}/m.pt", spec=spec, connection=PATIENCE) as client:
        assert [client.ask(picture(level)).top for level in (0, 255)] == [0, 9]
    if scores is not None:
        astray = SPEC.model_copy(update={"scores": "7"})
        with (
            open_endpoint(f"file:{tmp_path}/m.pt", spec=astray, connection=PATIENCE) as client,
            pytest.raises(BadAnswer, match=r"m\.pt: answers .*, expected a tensor of scores; name one as scores = "),
        ):
            client.ask(picture(0))


class Told(NamedTuple):
    """What a scripted model answers, features first."""

    features: Any
    logits: Any


def test_the_scores_of_a_named_tuple_are_found_by_their_name(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    values = torch.arange(10.0)[None]
    assert _scores_of(Told(-values, values), "logits", where="m.pt").tolist() == values.tolist()


def test_a_model_inside_an_archive_is_named_by_the_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.mar", "w") as file:
        file.writestr("model.onnx", b"\x08\x06")
    with pytest.raises(TargetError, match=r"a\.mar \(model\.onnx\): onnxruntime cannot load it") as caught:
        open_at(f"file:{tmp_path}/a.mar")
    assert "/ptynet-" not in str(caught.value)

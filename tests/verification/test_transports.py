"""One contract, run over every transport against a small server that speaks its protocol."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ptynet_plugin.errors import ArchiveError, BadAnswer, EndpointError, Refused, TargetError, Unreachable, UsageError
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.verification.client import Client
from ptynet_plugin.verification.connection import Connection
from ptynet_plugin.verification.opening import open_endpoint
from ptynet_plugin.verification.transports.torchserve import PREDICT
from tests.support.standins import (
    CLASSES,
    Request,
    as_json,
    brightness_model,
    brightness_scores,
    grpc_server,
    http_server,
    metadata,
    open_inference,
    open_inference_grpc,
    torchserve,
    torchserve_predictions,
)

SPEC = InputSpec(color="RGB", layout="NCHW", size=(8, 8), dtype="float32", output="logits", classes=CLASSES)
PATIENCE = Connection(timeout=5, retries=0)
Suspect = Callable[..., contextlib.AbstractContextManager[Client]]


def picture(level: int) -> np.ndarray:
    return np.full((8, 8, 3), level, np.uint8)


@contextlib.contextmanager
def over_http(
    server: str, answer: Callable[[Request], object], *, model: str = "digits", send: str = "auto"
) -> Iterator[Client]:
    with (
        http_server(answer) as port,
        contextlib.closing(open_at(f"{server}+http://127.0.0.1:{port}/{model}", send)) as client,
    ):
        yield client


@contextlib.contextmanager
def over_grpc(server: str, methods: dict, *, model: str = "digits") -> Iterator[Client]:
    with (
        grpc_server(methods) as port,
        contextlib.closing(open_at(f"{server}+grpc://127.0.0.1:{port}/{model}")) as client,
    ):
        yield client


def open_at(address: str, send: str = "auto", spec: InputSpec = SPEC) -> Client:
    return open_endpoint(address, spec=spec, connection=PATIENCE, send=send)


@contextlib.contextmanager
def over_file(*, model: str = "digits") -> Iterator[Client]:
    with tempfile.TemporaryDirectory() as folder:
        brightness_model(Path(folder) / "digits.onnx")
        with contextlib.closing(open_at(f"file:{folder}/{model}.onnx")) as client:
            yield client


SUSPECTS: dict[str, Suspect] = {
    "triton+http": functools.partial(over_http, "triton", open_inference),
    "triton+http, picture file": functools.partial(
        over_http, "triton", functools.partial(open_inference, datatype="BYTES"), send="jpeg"
    ),
    "kserve+http, binary": functools.partial(over_http, "kserve", open_inference),
    "kserve+http, JSON": functools.partial(over_http, "kserve", functools.partial(open_inference, binary=False)),
    "triton+grpc": functools.partial(over_grpc, "triton", open_inference_grpc()),
    "kserve+grpc, typed contents": functools.partial(over_grpc, "kserve", open_inference_grpc(raw=False)),
    "torchserve+http": functools.partial(over_http, "torchserve", torchserve),
    "torchserve+http, jpeg": functools.partial(over_http, "torchserve", torchserve, send="jpeg"),
    "torchserve+http, tensor": functools.partial(over_http, "torchserve", torchserve, send="tensor"),
    "torchserve+grpc": functools.partial(over_grpc, "torchserve", {PREDICT: torchserve_predictions}),
    "file": over_file,
}
every_suspect = pytest.mark.parametrize("suspect", SUSPECTS.values(), ids=SUSPECTS.keys())


@every_suspect
def test_the_top_place_is_the_model_s(suspect: Suspect) -> None:
    with suspect() as client:
        for level in (0, 60, 140, 255):
            answer = client.ask(picture(level))
            assert answer.top == int(brightness_scores(picture(level)).argmax())
            if answer.scores is not None:
                np.testing.assert_allclose(answer.scores, brightness_scores(picture(level)), atol=1e-3)


@every_suspect
def test_an_answer_keeps_the_exact_bytes(suspect: Suspect) -> None:
    with suspect() as client:
        first, again, other = (client.ask(picture(level)) for level in (10, 10, 200))
    assert first.request == again.request != other.request
    assert first.raw == again.raw != other.raw
    assert first.seconds > 0


@every_suspect
def test_info_names_the_endpoint(suspect: Suspect) -> None:
    with suspect() as client:
        info = client.info()
    assert "digits" in info.model
    assert info.address.endswith(("/digits", "digits.onnx"))
    assert info.reads in ("tensor", "png", "jpeg")


@every_suspect
def test_an_unknown_model_is_named(suspect: Suspect) -> None:
    with pytest.raises((Refused, Unreachable), match="wrong"), suspect(model="wrong") as client:
        client.ask(picture(0))


@pytest.mark.parametrize("scheme", ["triton+http", "triton+grpc", "kserve+http", "torchserve+http", "torchserve+grpc"])
def test_nobody_there_is_unreachable(scheme: str) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9/digits: cannot be reached"):
        open_at(f"{scheme}://127.0.0.1:9/digits").ask(picture(0))


def serve_metadata(body: object) -> Callable[[Request], object]:
    def answer(request: Request) -> object:
        return as_json(body) if request.path.startswith("/v2/models") else as_json({})

    return answer


ENSEMBLE = [
    {"name": "label", "datatype": "BYTES", "shape": [-1, 1]},
    {"name": "class", "datatype": "INT64", "shape": [-1, 1]},
]
TWO_OUTPUTS = [{"name": name, "datatype": "FP32", "shape": [-1, CLASSES]} for name in ("a", "b")]


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (
            metadata(shape=[-1, 3, 32, 32]),
            BadAnswer,
            r"shape \[-1, 3, 32, 32\], the spec sends \[1, 3, 8, 8\] \(NCHW\)",
        ),
        (metadata(shape=[-1, 1, 8, 8]), BadAnswer, r"shape \[-1, 1, 8, 8\]"),
        (metadata(shape=[-1, 8, 8, 3]), BadAnswer, r"shape \[-1, 8, 8, 3\]"),
        (metadata(shape=[4, 3, 8, 8]), BadAnswer, r"shape \[4, 3, 8, 8\]"),
        (metadata(datatype="UINT8"), BadAnswer, "reads UINT8, the spec says float32"),
        (metadata(datatype="COMPLEX"), BadAnswer, "datatype 'COMPLEX'"),
        (metadata(outputs=TWO_OUTPUTS), BadAnswer, r"outputs a, b; name one in the spec \('scores = ...'\)"),
        ({**metadata(), "inputs": []}, BadAnswer, "has the inputs none"),
        ({"error": "no"}, BadAnswer, "not of the Open Inference Protocol"),
        ([1, 2], BadAnswer, "not of the Open Inference Protocol"),
        ("<html>", BadAnswer, "not of the Open Inference Protocol"),
    ],
)
def test_metadata_that_does_not_fit_names_both_sides(body: object, error: type[EndpointError], message: str) -> None:
    with pytest.raises(error, match=message), over_http("triton", serve_metadata(body)):
        pass


def test_of_a_name_and_a_number_the_number_is_asked_for() -> None:
    def answer(request: Request) -> object:
        if request.path.endswith("/infer"):
            return as_json({"outputs": [{"name": "class", "datatype": "INT64", "shape": [1, 1], "data": [7]}]})
        return serve_metadata(metadata(outputs=ENSEMBLE))(request)

    with over_http("triton", answer) as client:
        assert (client.ask(picture(0)).top, client.ask(picture(0)).kind) == (7, "labels")


def test_a_float_of_another_width_follows_the_server() -> None:
    seen: list[bytes] = []

    def answer(request: Request) -> object:
        if request.path.endswith("/infer"):
            seen.append(request.body)
            return as_json(
                {"outputs": [{"name": "scores", "datatype": "FP32", "shape": [1, 10], "data": list(range(10))}]}
            )
        return serve_metadata(metadata(datatype="FP16"))(request)

    with over_http("triton", answer) as client:
        assert client.ask(picture(255)).top == 9
    assert seen[0].endswith(np.ones(3 * 64, np.float16).tobytes())


def test_hidden_metadata_needs_both_names_in_the_spec() -> None:
    def answer(request: Request) -> object:
        if request.path == "/v2/models/digits":
            return as_json({"error": "restricted"}, 403)
        return open_inference(request)

    with pytest.raises(Refused, match="expected the metadata of model 'digits'"), over_http("triton", answer):
        pass
    named = SPEC.model_copy(update={"input": "pixels", "scores": "scores"})
    with http_server(answer) as port:
        client = open_at(f"triton+http://127.0.0.1:{port}/digits", spec=named)
        assert client.ask(picture(0)).top == 0
        client.close()


def test_metadata_hidden_by_a_grpc_server_too() -> None:
    methods = open_inference_grpc()
    del methods["/inference.GRPCInferenceService/ModelMetadata"]
    named = SPEC.model_copy(update={"input": "pixels", "scores": "scores"})
    with grpc_server(methods) as port:
        where = f"triton+grpc://127.0.0.1:{port}"
        with open_at(f"{where}/digits", spec=named) as client:
            assert client.ask(picture(0)).top == 0
        with pytest.raises(Refused, match=r"UNIMPLEMENTED.*expected the metadata of model 'digits'"):
            open_at(f"{where}/digits")
        with pytest.raises(UsageError, match="no path before the model's name"):
            open_at(f"{where}/tenant/digits")


def test_a_proxy_s_path_and_a_version_go_along() -> None:
    paths: list[str] = []

    def answer(request: Request) -> object:
        paths.append(request.path)
        return open_inference(
            Request(
                request.method,
                request.path.removeprefix("/a/b%20c").replace("/versions/3", ""),
                request.headers,
                request.body,
            )
        )

    with http_server(answer) as port, open_at(f"kserve+http://127.0.0.1:{port}/a/b%20c/digits/3") as client:
        assert client.ask(picture(255)).top == 9
    assert all(path.startswith("/a/b%20c/v2") for path in paths)
    assert paths[-1] == "/a/b%20c/v2/models/digits/versions/3/infer"


def test_classification_is_never_asked_for() -> None:
    """One such request kills Triton before 2.59.1 where the output holds byte strings."""
    bodies: list[bytes] = []

    def answer(request: Request) -> object:
        bodies.append(request.body)
        return open_inference(request)

    with over_http("triton", answer) as client:
        client.ask(picture(0))
    assert not any(b"classification" in body or b"class_count" in body for body in bodies)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"outputs": []}, "asked was 'scores'"),
        (
            {"outputs": [{"name": "other", "datatype": "FP32", "shape": [1], "data": [1]}]},
            "outputs .'other'.*asked was",
        ),
        ({"error": "x"}, "has no list of outputs"),
        ([], "has no list of outputs"),
        ({"outputs": [{"name": "scores", "datatype": "FP32", "shape": "x", "data": []}]}, "shape is x"),
        ({"outputs": [{"name": "scores", "datatype": "FP32", "shape": [1, 10]}]}, "has no data"),
    ],
)
def test_open_inference_answers_of_another_form(reply: object, message: str) -> None:
    def answer(request: Request) -> object:
        return as_json(reply) if request.path.endswith("/infer") else open_inference(request)

    with over_http("triton", answer) as client, pytest.raises(BadAnswer, match=message):
        client.ask(picture(0))


@pytest.mark.parametrize(
    ("length", "size", "message"),
    [("99999", 40, "Content-Length is '99999'"), ("x", 40, "Content-Length is 'x'"), (None, 44, "40 bytes, its shape")],
)
def test_binary_answers_that_do_not_add_up(length: str | None, size: int, message: str) -> None:
    def answer(request: Request) -> object:
        status, headers, body = open_inference(request)
        if request.path.endswith("/infer"):
            head = int(headers["Inference-Header-Content-Length"])
            text = body[:head].replace(b"[1, 10]", b"[1, 11]") if length is None else body[:head]
            headers, body = (
                {"Inference-Header-Content-Length": length or str(len(text))},
                text + body[head : head + size],
            )
        return status, headers, body

    with over_http("triton", answer) as client, pytest.raises(BadAnswer, match=message):
        client.ask(picture(0))


@pytest.mark.parametrize(("send", "datatype"), [("tensor", "BYTES"), ("png", "FP32")])
def test_send_against_the_model_s_datatype_is_a_usage_error(send: str, datatype: str) -> None:
    answer = functools.partial(open_inference, datatype=datatype)
    with pytest.raises(UsageError, match=f"--send {send}"), over_http("triton", answer, send=send):
        pass


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


def test_a_model_inside_an_archive_is_named_by_the_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.mar", "w") as file:
        file.writestr("model.onnx", b"\x08\x06")
    with pytest.raises(TargetError, match=r"a\.mar \(model\.onnx\): onnxruntime cannot load it") as caught:
        open_at(f"file:{tmp_path}/a.mar")
    assert "/ptynet-" not in str(caught.value)

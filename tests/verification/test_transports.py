"""One contract, run over every transport against a small server that speaks its protocol."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ptynet_plugin.errors import BadAnswer, EndpointError, Refused, Unreachable, UsageError
from ptynet_plugin.verification.client import Client
from ptynet_plugin.verification.transports.torchserve import PREDICT
from tests.support.asking import SPEC, open_at, picture
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

Suspect = Callable[..., contextlib.AbstractContextManager[Client]]


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

"""Suspects for tests: an endpoint in memory, and small real servers on loopback that speak each protocol.

They all serve one model: the brighter the picture, the higher the class.
"""

from __future__ import annotations

import contextlib
import io
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image
from tritonclient.grpc import service_pb2

from ptynet_plugin.verification.endpoint import Answer, EndpointInfo
from ptynet_plugin.verification.transports.torchserve import PREDICTION_RESPONSE, PREDICTIONS_REQUEST

CLASSES = 10


def brightness_scores(pixels: np.ndarray) -> np.ndarray:
    """The model: pixel values 0..255 in any shape, to float32 scores (CLASSES,) whose top is the brightness class."""
    centre = float(np.mean(pixels)) / 256.0 * CLASSES
    return -np.abs(np.arange(CLASSES, dtype=np.float32) + 0.5 - np.float32(centre))


def brightness_model(path: Path, *, side: int = 8) -> Path:
    """The stand-ins' model as ONNX: brightness in classes, then the distance to each class's centre."""
    centres = np.arange(CLASSES, dtype=np.float32) + 0.5
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "full"], ["level"]),
        helper.make_node("Unsqueeze", ["level"], ["column"], axes=[1]),
        helper.make_node("Sub", ["column", "centres"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["distance"]),
        helper.make_node("Neg", ["distance"], ["scores"]),
    ]
    constants = [
        helper.make_tensor("full", TensorProto.FLOAT, [], [255.0 / 256.0 * CLASSES]),
        helper.make_tensor("centres", TensorProto.FLOAT, [1, CLASSES], centres),
    ]
    given = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, side, side])
    answered = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])
    graph = helper.make_graph(nodes, "brightness", [given], [answered], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), str(path))
    return path


def picture_of(octets: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(octets)))


@dataclass
class FakeEndpoint:
    """A suspect in memory: `answer` maps a picture to a class, or None for a tie, or raises what a transport raises."""

    answer: Callable[[np.ndarray], int | None]
    name: str = "fake://suspect/model"
    asked: list[np.ndarray] = field(default_factory=list)

    def info(self) -> EndpointInfo:
        return EndpointInfo(self.name, self.name, "fake 1.0", "model", "1", "tensor")

    def wait(self) -> None:
        pass

    def ask(self, picture: np.ndarray) -> Answer:
        self.asked.append(picture)
        top = self.answer(picture)
        return Answer(top, None, "labels", picture.tobytes(), str(top).encode(), 0.001)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Reply = tuple[int, dict[str, str], bytes]


@contextlib.contextmanager
def http_server(answer: Callable[[Request], Reply], *, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve `answer` on a free loopback port, which is yielded."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._serve(b"")

        def do_POST(self) -> None:
            self._serve(self.rfile.read(int(self.headers["Content-Length"])))

        def _serve(self, body: bytes) -> None:
            status, headers, octets = answer(Request(self.command, self.path, dict(self.headers), body))
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                self.send_response(status)
                for name, value in {"Content-Length": str(len(octets)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(octets)
                if headers.get("Connection") == "close":
                    self.close_connection = True

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args: Any) -> None:
            pass  # a client that refuses our certificate is what some tests want

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def as_json(body: Any, status: int = 200, **headers: str) -> Reply:
    return status, {"Content-Type": "application/json", **headers}, json.dumps(body).encode()


def metadata(
    *, shape: list[int] | None = None, datatype: str = "FP32", outputs: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    return {
        "name": "digits",
        "versions": ["1"],
        "platform": "python",
        "inputs": [{"name": "pixels", "datatype": datatype, "shape": shape or [-1, 3, 8, 8]}],
        "outputs": outputs or [{"name": "scores", "datatype": "FP32", "shape": [-1, CLASSES]}],
    }


def open_inference(request: Request, *, binary: bool = True, model: str = "digits", datatype: str = "FP32") -> Reply:
    """Answer as a server of the Open Inference Protocol does, with or without the binary extension."""
    if request.path == "/v2":
        return as_json({"name": "standin", "version": "1.0", "extensions": ["binary_tensor_data"] if binary else []})
    if request.path.startswith("/v2/health"):
        return 200, {}, b""
    if request.path == f"/v2/models/{model}":
        return as_json(metadata(datatype=datatype, shape=[-1, 1] if datatype == "BYTES" else None))
    if request.path != f"/v2/models/{model}/infer":
        return as_json({"error": f"unknown: {request.path}"}, 404)
    head = int(request.headers.get("Inference-Header-Content-Length", len(request.body)))
    asked = json.loads(request.body[:head])
    scores = brightness_scores(_pixels(asked["inputs"][0], request.body[head:]))
    output = {"name": "scores", "datatype": "FP32", "shape": [1, CLASSES]}
    if not binary:
        return as_json({"model_name": model, "outputs": [{**output, "data": scores.tolist()}]})
    output["parameters"] = {"binary_data_size": scores.nbytes}
    text = json.dumps({"model_name": model, "outputs": [output]}).encode()
    return 200, {"Inference-Header-Content-Length": str(len(text))}, text + scores.tobytes()


def _pixels(given: dict[str, Any], raw: bytes) -> np.ndarray:
    if given["datatype"] == "BYTES":
        return picture_of(raw[4:])
    values = np.frombuffer(raw, np.float32) if raw else np.array(given["data"], np.float32)
    assert values.size == np.prod(given["shape"])
    return values * 255.0


def torchserve(request: Request) -> Reply:
    """Answer as TorchServe with a stock image classifier does: the five best labels."""
    if request.path != "/predictions/digits":
        return as_json({"code": 404, "type": "ModelNotFoundException", "message": "Model not found: x"}, 404)
    if request.headers["Content-Type"].startswith("image/"):
        pixels = picture_of(request.body)
    else:
        pixels = np.array(json.loads(request.body)) * 255.0
    scores = brightness_scores(pixels)
    best = np.argsort(-scores)[:5]
    return as_json({str(index): float(scores[index]) for index in best})


@contextlib.contextmanager
def grpc_server(
    methods: Mapping[str, Callable[[bytes, grpc.ServicerContext], bytes]],
    *,
    credentials: grpc.ServerCredentials | None = None,
) -> Iterator[int]:
    """Serve methods by full name ("/package.Service/Method") on a free loopback port, which is yielded."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            method = methods.get(details.method)
            return None if method is None else grpc.unary_unary_rpc_method_handler(method)

    server = grpc.server(ThreadPoolExecutor(2), handlers=[Handler()])
    where = "127.0.0.1:0"
    port = server.add_secure_port(where, credentials) if credentials else server.add_insecure_port(where)
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def open_inference_grpc(*, raw: bool = True) -> dict[str, Callable[[bytes, grpc.ServicerContext], bytes]]:
    """Methods of a server of the Open Inference Protocol; `raw` False answers in typed contents."""

    def describe(octets: bytes, context: grpc.ServicerContext) -> bytes:
        request = service_pb2.ModelMetadataRequest.FromString(octets)
        if request.name != "digits":
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{request.name}' is not found")
        reply = service_pb2.ModelMetadataResponse(name="digits", versions=["1"], platform="python")
        reply.inputs.add(name="pixels", datatype="FP32", shape=[-1, 3, 8, 8])
        reply.outputs.add(name="scores", datatype="FP32", shape=[-1, CLASSES])
        return reply.SerializeToString()

    def infer(octets: bytes, context: grpc.ServicerContext) -> bytes:
        request = service_pb2.ModelInferRequest.FromString(octets)
        scores = brightness_scores(np.frombuffer(request.raw_input_contents[0], np.float32) * 255.0)
        reply = service_pb2.ModelInferResponse(model_name="digits")
        output = reply.outputs.add(name="scores", datatype="FP32", shape=[1, CLASSES])
        if raw:
            reply.raw_output_contents.append(scores.tobytes())
        else:
            output.contents.fp32_contents.extend(scores.tolist())
        return reply.SerializeToString()

    service = "/inference.GRPCInferenceService/"
    return {f"{service}ModelMetadata": describe, f"{service}ModelInfer": infer}


def torchserve_predictions(octets: bytes, context: grpc.ServicerContext) -> bytes:
    """The method `Predictions` of TorchServe."""
    request = PREDICTIONS_REQUEST.FromString(octets)
    if request.model_name != "digits":
        context.abort(grpc.StatusCode.NOT_FOUND, f"Model not found: {request.model_name}")
    scores = brightness_scores(picture_of(request.input["data"]))
    return PREDICTION_RESPONSE(prediction=json.dumps(scores.tolist()).encode()).SerializeToString()

"""A small threaded server of the Open Inference Protocol v2 that says what an `Ask` says.

https://github.com/kserve/open-inference-protocol; tensors travel by the binary extension or as JSON. It listens on a free port of
loopback alone and stops with the `with` block.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store_tools.audit.hostile.contract import Hostile, Refusal
from model_store_tools.audit.hostile.pixels import decode
from ptynet_plugin.errors import PtynetError
from ptynet_plugin.spec import InputSpec

__all__ = ["serve"]

MODEL = "stolen"
INPUT, OUTPUT = "pixels", "scores"
HEADER = "Inference-Header-Content-Length"
DATATYPES = {"float32": "FP32", "float16": "FP16", "float64": "FP64", "uint8": "UINT8", "int8": "INT8"}
LARGEST_REQUEST = 64 << 20

Reply = tuple[int, dict[str, str], bytes]


@contextmanager
def serve(hostile: Hostile, spec: InputSpec) -> Iterator[str]:
    """Stand the endpoint up.

    Args:
        hostile: What answers.
        spec: What it reads, with size and classes.

    Yields:
        Its address, `kserve+http://127.0.0.1:PORT/stolen`.
    """
    model = _Model(hostile, spec)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._say(model.describe(self.path))

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            if length > LARGEST_REQUEST:
                self.close_connection = True
                self._say(_error(413, f"{length} bytes, at most {LARGEST_REQUEST}"))
                return
            body = self.rfile.read(length)
            self._say(model.infer(self.path, body, self.headers.get(HEADER)))

        def _say(self, reply: Reply) -> None:
            status, headers, octets = reply
            with contextlib.suppress(ConnectionError):  # who waited too long has gone
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(octets))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(octets)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"kserve+http://127.0.0.1:{server.server_port}/{MODEL}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Model:
    """The protocol's two questions: what are you, and what is this."""

    def __init__(self, hostile: Hostile, spec: InputSpec) -> None:
        self._hostile, self._spec = hostile, spec
        self._datatype = DATATYPES[spec.dtype or "float32"]

    def describe(self, path: str) -> Reply:
        if path == "/v2":
            return _json({"name": "endpoint", "version": "1", "extensions": ["binary_tensor_data"]})
        if path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{MODEL}/ready"):
            return 200, {}, b""
        if path != f"/v2/models/{MODEL}":
            return _error(404, f"unknown: {path}")
        height, width = self._spec.size or (-1, -1)
        sides = [height or -1, width or -1]
        picture = [*sides, self._spec.channels] if self._spec.layout == "NHWC" else [self._spec.channels, *sides]
        labels = self._hostile.labels_only
        output = {"name": OUTPUT, "datatype": "INT64" if labels else "FP32", "shape": [-1, self._answers()]}
        given = {"name": INPUT, "datatype": self._datatype, "shape": [-1, *picture]}
        return _json({"name": MODEL, "versions": ["1"], "platform": "", "inputs": [given], "outputs": [output]})

    def infer(self, path: str, body: bytes, header: str | None) -> Reply:
        if path != f"/v2/models/{MODEL}/infer":
            return _error(404, f"unknown: {path}")
        try:
            head = int(header) if header is not None else len(body)
            rows = self._tensor(json.loads(body[:head])["inputs"][0], body[head:])
            pictures = [decode(row, self._spec) for row in rows]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            return _error(400, f"no request of the Open Inference Protocol: {error}")
        try:
            scores = np.stack([self._hostile.ask(picture) for picture in pictures])
        except Refusal as refusal:
            again = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
            return _error(refusal.status, str(refusal), again)
        except PtynetError as error:
            return _error(500, f"the model cannot answer: {error}")
        return self._answer(scores, binary=header is not None)

    def _tensor(self, given: dict[str, Any], raw: bytes) -> NDArray[Any]:
        dtype = np.dtype(self._spec.dtype or "float32")
        values = np.frombuffer(raw, dtype) if raw else np.asarray(given["data"], dtype)
        return values.reshape(given["shape"])

    def _answer(self, scores: NDArray[np.float64], *, binary: bool) -> Reply:
        labels = self._hostile.labels_only
        values = scores.argmax(axis=1)[:, None].astype(np.int64) if labels else scores.astype(np.float32)
        output: dict[str, Any] = {
            "name": OUTPUT,
            "datatype": "INT64" if labels else "FP32",
            "shape": list(values.shape),
        }
        if not binary:
            return _json({"model_name": MODEL, "outputs": [{**output, "data": values.ravel().tolist()}]})
        octets = values.tobytes()
        output["parameters"] = {"binary_data_size": len(octets)}
        head = json.dumps({"model_name": MODEL, "outputs": [output]}).encode()
        return 200, {HEADER: str(len(head)), "Content-Type": "application/octet-stream"}, head + octets

    def _answers(self) -> int:
        return 1 if self._hostile.labels_only else self._spec.classes or -1


def _json(body: Any) -> Reply:
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def _error(status: int, reason: str, headers: dict[str, str] | None = None) -> Reply:
    return status, {"Content-Type": "application/json", **(headers or {})}, json.dumps({"error": reason}).encode()

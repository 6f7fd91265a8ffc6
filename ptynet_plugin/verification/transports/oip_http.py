"""The Open Inference Protocol v2 over HTTP: Triton, KServe's runtimes, any server of that protocol.

Tensors travel by the binary extension where the server announces it (JSON is ten times slower at 224x224), else as JSON. The
classification extension is never used: asked of an output of byte strings it kills Triton servers before 2.59.1.

https://github.com/kserve/open-inference-protocol; Triton: protocol/extension_binary_data.md
"""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import numpy as np

from ptynet_plugin.errors import BadAnswer, Refused
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.verification.address import Address
from ptynet_plugin.verification.answers import decode_text
from ptynet_plugin.verification.connection import Connection
from ptynet_plugin.verification.endpoint import EndpointInfo, Exchange, Picture
from ptynet_plugin.verification.text import one_line
from ptynet_plugin.verification.transports.http import HttpSession, Reply
from ptynet_plugin.verification.transports.tensors import (
    BYTES,
    HIDDEN,
    ModelMetadata,
    Plan,
    TensorMetadata,
    metadata_from_spec,
    pack_strings,
    plan_request,
    unpack,
)

__all__ = ["OpenInferenceHttp"]

BINARY_EXTENSION = "binary_tensor_data"
MOST_VERSIONS = 8
JSON_LENGTH = "Inference-Header-Content-Length"
TOLERATED = (400, 401, 403, 404, 405, 501)
"""Answers to questions a server need not answer: liveness, its own metadata, a model's configuration."""


class OpenInferenceHttp:
    """One model behind HTTP.

    Args:
        address: Where.
        connection: Headers, certificates and time limit.
        spec: What the model reads.
        classes: Number of classes.
        send: "auto", "tensor", "png" or "jpeg".

    Raises:
        EndpointError: The server is not there, not ready, or does not know the model.
    """

    def __init__(self, address: Address, connection: Connection, *, spec: InputSpec, classes: int, send: str) -> None:
        self._address = address
        self._session = HttpSession(address, connection)
        try:
            self._greet()
            self._metadata = self._read_metadata(spec)
            self._plan = plan_request(self._metadata, spec, send=send, classes=classes)
            self._binary = BINARY_EXTENSION in self._extensions or address.server == "triton"
            self._details = self._configuration()
        except BaseException:
            self._session.close()
            raise

    def info(self) -> EndpointInfo:
        """Say what the server announced."""
        version = self._address.version or ", ".join(self._metadata.versions)
        where = str(self._address)
        return EndpointInfo(
            where, where, self._server, self._address.model, version, self._plan.reads, tuple(self._details.items())
        )

    def send(self, picture: Picture) -> Exchange:
        """Ask for one picture."""
        body, headers = encode_request(self._plan, picture, binary=self._binary)
        reply = self._session.post(f"{self._model_path()}/infer", body, headers)
        return Exchange(body, reply.body, decode_reply(reply, self._plan.output))

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _greet(self) -> None:
        """Ask in the order live, ready, model ready; only what says "no" is a failure, not what says nothing."""
        server = self._optional("v2")
        self._server = one_line(f"{server.get('name', '')} {server.get('version', '')}", most=80)
        self._extensions = tuple(server.get("extensions") or ())
        for path in ("v2/health/live", "v2/health/ready"):
            self._optional(path)

    def _read_metadata(self, spec: InputSpec) -> ModelMetadata:
        try:
            reply = self._session.get(self._model_path())
        except Refused as error:
            if error.status in HIDDEN and spec.input and spec.scores:
                return metadata_from_spec(self._address.model, spec)
            raise Refused(
                f"{error}; expected the metadata of model '{self._address.model}': is its name right, is it loaded?",
                status=error.status,
            ) from error
        return parse_metadata(decode_text(reply.body, what=f"the metadata of model '{self._address.model}'"))

    def _configuration(self) -> dict[str, str]:
        config = self._optional(f"{self._model_path()}/config")
        found = {"platform": self._metadata.platform or str(config.get("backend", "")), "datatype": self._plan.datatype}
        found["batching"] = str(config.get("max_batch_size", ""))
        return {name: value for name, value in found.items() if value}

    def _model_path(self) -> str:
        version = "" if self._address.version is None else f"/versions/{self._address.version}"
        return f"v2/models/{quote(self._address.model, safe='')}{version}"

    def _optional(self, path: str) -> dict[str, Any]:
        try:
            reply = self._session.get(path)
            body = json.loads(reply.body) if reply.body else {}
        except Refused as error:
            if error.status in TOLERATED:
                return {}
            raise
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}


def encode_request(plan: Plan, picture: Picture, *, binary: bool) -> tuple[bytes, dict[str, str]]:
    """Write a request.

    Returns:
        The body and its headers.

    Raises:
        BadAnswer: FP16 without the binary extension, for which JSON has no form.
    """
    array = plan.tensor(picture)
    given: dict[str, Any] = {"name": plan.name, "shape": list(array.shape), "datatype": plan.datatype}
    asked: list[dict[str, Any]] = [{"name": name} for name in plan.asked]
    if not binary:
        return _encode_json(plan, array, given, asked), {"Content-Type": "application/json"}
    raw = pack_strings(array.ravel().tolist()) if plan.datatype == BYTES else array.tobytes()
    given["parameters"] = {"binary_data_size": len(raw)}
    asked = [{**output, "parameters": {"binary_data": True}} for output in asked]
    head = json.dumps({"inputs": [given], "outputs": asked}, separators=(",", ":")).encode()
    return head + raw, {"Content-Type": "application/octet-stream", JSON_LENGTH: str(len(head))}


def _encode_json(plan: Plan, array: Any, given: dict[str, Any], asked: list[dict[str, Any]]) -> bytes:
    if plan.datatype == "FP16":
        raise BadAnswer("the model reads FP16 and the server announces no binary extension: JSON has no form for FP16")
    if plan.datatype == BYTES:
        given["parameters"] = {"content_type": "base64"}
        given["data"] = [base64.b64encode(item).decode() for item in array.ravel().tolist()]
    else:
        given["data"] = array.ravel().tolist()
    return json.dumps({"inputs": [given], "outputs": asked}, separators=(",", ":")).encode()


def decode_reply(reply: Reply, output: str) -> Any:
    """Read an answer, binary or JSON, and give the asked output as an array, or a JSON value that holds it.

    Raises:
        BadAnswer: It is not of the protocol, or the output is missing.
    """
    length = reply.headers.get(JSON_LENGTH)
    if length is not None and not (length.isdecimal() and int(length) <= len(reply.body)):
        raise BadAnswer(f"the answer's {JSON_LENGTH} is {length!r}, its body has {len(reply.body)} bytes")
    split = len(reply.body) if length is None else int(length)
    body = decode_text(reply.body[:split])
    outputs = body.get("outputs") if isinstance(body, dict) else None
    if not isinstance(outputs, list) or not all(isinstance(item, dict) for item in outputs):
        raise BadAnswer(f"the answer has no list of outputs: {str(body)[:120]!r}")
    at = split
    for item in outputs:
        size = (item.get("parameters") or {}).get("binary_data_size")
        if item.get("name") == output:
            return _output(item, reply.body[at : at + size] if isinstance(size, int) else None)
        at += size if isinstance(size, int) else 0
    raise BadAnswer(f"the answer has the outputs {[item.get('name') for item in outputs]}, asked was '{output}'")


def _output(item: dict[str, Any], raw: bytes | None) -> Any:
    datatype, shape, data = item.get("datatype"), item.get("shape"), item.get("data")
    if not isinstance(shape, list) or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise BadAnswer(f"the answer's shape is {str(shape)[:80]}, expected a list of sides")
    if raw is not None:
        return unpack(raw, str(datatype), shape)
    if not isinstance(data, list):
        raise BadAnswer(f"the answer's output '{item.get('name')}' has no data")
    if datatype == BYTES:
        return np.array([text.encode() if isinstance(text, str) else str(text).encode() for text in data], object)
    return data


def parse_metadata(body: Any) -> ModelMetadata:
    """Read a model's metadata.

    Raises:
        BadAnswer: It is not of the protocol's form.
    """
    try:
        return ModelMetadata(
            name=str(body["name"]),
            platform=one_line(str(body.get("platform", "")), most=80),
            versions=tuple(one_line(str(version), most=20) for version in body.get("versions") or ())[:MOST_VERSIONS],
            inputs=tuple(_tensor(item) for item in body["inputs"]),
            outputs=tuple(_tensor(item) for item in body["outputs"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadAnswer(
            f"the model's metadata is not of the Open Inference Protocol ({error!r}): {str(body)[:120]!r}"
        ) from None


def _tensor(item: dict[str, Any]) -> TensorMetadata:
    return TensorMetadata(str(item["name"]), str(item["datatype"]), tuple(int(side) for side in item["shape"]))

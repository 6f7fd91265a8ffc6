"""The Open Inference Protocol v2 over gRPC: Triton and KServe's runtimes.

The messages are tritonclient's; its client is not used, for it hides the exact bytes, drops trailing metadata and misses
numbers that come in `fp32_contents` rather than raw.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as messages

from ptynet_plugin.errors import BadAnswer, Refused, Unreachable
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.verification.address import Address
from ptynet_plugin.verification.connection import Connection
from ptynet_plugin.verification.endpoint import EndpointInfo, Exchange, Picture
from ptynet_plugin.verification.text import one_line
from ptynet_plugin.verification.transports.channel import Channel
from ptynet_plugin.verification.transports.tensors import (
    BYTES,
    DTYPES,
    HIDDEN,
    ModelMetadata,
    Plan,
    TensorMetadata,
    metadata_from_spec,
    pack_strings,
    plan_request,
    unpack,
)

__all__ = ["OpenInferenceGrpc"]

SERVICE = "/inference.GRPCInferenceService/"
MOST_VERSIONS = 8
TOLERATED = (400, 401, 403, 404, 501)
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


class OpenInferenceGrpc:
    """One model behind gRPC; arguments and errors as `OpenInferenceHttp`."""

    def __init__(self, address: Address, connection: Connection, *, spec: InputSpec, classes: int, send: str) -> None:
        self._address = address
        self._channel = Channel(address, connection)
        try:
            server = self._optional("ServerMetadata", messages.ServerMetadataRequest(), messages.ServerMetadataResponse)
            self._server = "" if server is None else one_line(f"{server.name} {server.version}", most=80)
            self._metadata = self._read_metadata(spec)
            self._plan = plan_request(self._metadata, spec, send=send, classes=classes)
        except BaseException:
            self._channel.close()
            raise

    def info(self) -> EndpointInfo:
        """Say what the server announced."""
        version = self._address.version or ", ".join(self._metadata.versions)
        where = str(self._address)
        details = (("platform", self._metadata.platform), ("datatype", self._plan.datatype))
        return EndpointInfo(where, where, self._server, self._address.model, version, self._plan.reads, details)

    def send(self, picture: Picture) -> Exchange:
        """Ask for one picture."""
        request = self._request(self._plan, picture).SerializeToString()
        response, raw = self._channel.call(f"{SERVICE}ModelInfer", request, _parser(messages.ModelInferResponse))
        return Exchange(request, raw, read_output(response, self._plan.output))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _request(self, plan: Plan, picture: Picture) -> Any:
        array = plan.tensor(picture)
        request = messages.ModelInferRequest(model_name=self._address.model, model_version=self._address.version or "")
        request.inputs.add(name=plan.name, datatype=plan.datatype, shape=list(array.shape))
        for name in plan.asked:
            request.outputs.add(name=name)
        octets = pack_strings(array.ravel().tolist()) if plan.datatype == BYTES else array.tobytes()
        request.raw_input_contents.append(octets)
        return request

    def _read_metadata(self, spec: InputSpec) -> ModelMetadata:
        model = self._address.model
        request = messages.ModelMetadataRequest(name=model, version=self._address.version or "")
        parse = _parser(messages.ModelMetadataResponse)
        try:
            found, _ = self._channel.call(f"{SERVICE}ModelMetadata", request.SerializeToString(), parse)
        except Refused as error:
            if error.status in HIDDEN and spec.input and spec.scores:
                return metadata_from_spec(model, spec)
            raise Refused(
                f"{error}; expected the metadata of model '{model}': is its name right, is it loaded?",
                status=error.status,
            ) from error
        versions = tuple(one_line(version, most=20) for version in found.versions)[:MOST_VERSIONS]
        return ModelMetadata(
            found.name, one_line(found.platform, most=80), versions, _tensors(found.inputs), _tensors(found.outputs)
        )

    def _optional(self, method: str, request: Any, response: Any) -> Any:
        try:
            return self._channel.call(f"{SERVICE}{method}", request.SerializeToString(), _parser(response))[0]
        except Unreachable:
            raise
        except Refused as error:
            if error.status in TOLERATED:
                return None
            raise


def read_output(response: Any, output: str) -> NDArray[Any]:
    """Give one output of a response as an array, from raw or typed contents.

    Raises:
        BadAnswer: The output is missing, empty, or of an unknown datatype.
    """
    names = [item.name for item in response.outputs]
    if output not in names:
        raise BadAnswer(f"the answer has the outputs {names}, asked was '{output}'")
    at = names.index(output)
    item = response.outputs[at]
    if len(response.raw_output_contents) > at:
        return unpack(response.raw_output_contents[at], item.datatype, item.shape)
    field = CONTENTS.get(item.datatype)
    if field is None:
        raise BadAnswer(f"the answer's datatype is {item.datatype!r} without raw contents")
    values = list(getattr(item.contents, field))
    if item.datatype == BYTES:
        return np.array(values, object)
    if len(values) != int(np.prod(list(item.shape), dtype=np.int64)):
        raise BadAnswer(f"the answer has {len(values)} numbers, its shape is {list(item.shape)}")
    return np.array(values, DTYPES[item.datatype]).reshape(list(item.shape))


def _tensors(found: Any) -> tuple[TensorMetadata, ...]:
    return tuple(TensorMetadata(item.name, item.datatype, tuple(item.shape)) for item in found)


def _parser(message: Any) -> Any:
    def parse(raw: bytes) -> Any:
        try:
            return message.FromString(raw)
        except DecodeError as error:
            raise BadAnswer(f"the answer is no {message.__name__} ({error})") from None

    return parse

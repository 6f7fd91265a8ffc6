"""TorchServe, over REST and over gRPC: a picture's file goes in, whatever the handler writes comes back.

TorchServe announces nothing of a model, so that nothing can be planned: pictures go as PNG unless the user says otherwise, and
the answer is read by its form. `StreamPredictions` is never called: on an ordinary handler it kills the worker.

The gRPC messages have two strings, a map and one bytes field (TorchServe's `inference.proto`). They are declared here, at
run time, so that no generated code and no compiler are needed.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from ptynet_plugin.errors import BadAnswer, Refused
from ptynet_plugin.images.encode import encode
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.verification.address import Address
from ptynet_plugin.verification.answers import decode_text
from ptynet_plugin.verification.connection import Connection
from ptynet_plugin.verification.endpoint import EndpointInfo, Exchange, Picture
from ptynet_plugin.verification.pictures import MEDIA_TYPES, compress
from ptynet_plugin.verification.transports.channel import Channel
from ptynet_plugin.verification.transports.http import HttpSession

__all__ = ["TorchServeGrpc", "TorchServeRest"]

PACKAGE = "org.pytorch.serve.grpc.inference"
PREDICT = f"/{PACKAGE}.InferenceAPIsService/Predictions"
INPUT_NAME = "data"
NOT_FOUND = 404


class TorchServeRest:
    """One model behind `POST /predictions/MODEL`.

    Args:
        address: Where.
        connection: Headers, certificates and time limit.
        spec: What the model reads; used where tensors are sent.
        send: "auto", "tensor", "png" or "jpeg".
    """

    def __init__(self, address: Address, connection: Connection, *, spec: InputSpec, send: str) -> None:
        self._address, self._spec, self._reads = address, spec, _reads(send)
        self._session = HttpSession(address, connection)

    def info(self) -> EndpointInfo:
        """Say where it is; TorchServe announces nothing more."""
        return _info(self._address, self._reads)

    def send(self, picture: Picture) -> Exchange:
        """Ask for one picture."""
        body, media = _body(picture, self._spec, self._reads)
        version = "" if self._address.version is None else f"/{self._address.version}"
        path = f"predictions/{quote(self._address.model, safe='')}{version}"
        try:
            reply = self._session.post(path, body, {"Content-Type": media})
        except Refused as error:
            raise _unknown_model(error, self._address.model) from error
        return Exchange(body, reply.body, decode_text(reply.body))

    def close(self) -> None:
        """Close the connection."""
        self._session.close()


class TorchServeGrpc:
    """One model behind the method `Predictions`; arguments as `TorchServeRest`."""

    def __init__(self, address: Address, connection: Connection, *, spec: InputSpec, send: str) -> None:
        self._address, self._spec, self._reads = address, spec, _reads(send)
        self._channel = Channel(address, connection)

    def info(self) -> EndpointInfo:
        """Say where it is; TorchServe announces nothing more."""
        return _info(self._address, self._reads)

    def send(self, picture: Picture) -> Exchange:
        """Ask for one picture."""
        body, _ = _body(picture, self._spec, self._reads)
        request = PREDICTIONS_REQUEST(model_name=self._address.model, model_version=self._address.version or "")
        request.input[INPUT_NAME] = body
        octets = request.SerializeToString(deterministic=True)
        try:
            prediction, raw = self._channel.call(PREDICT, octets, _prediction)
        except Refused as error:
            raise _unknown_model(error, self._address.model) from error
        return Exchange(octets, raw, decode_text(prediction))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def _reads(send: str) -> str:
    return "png" if send == "auto" else send


def _info(address: Address, reads: str) -> EndpointInfo:
    return EndpointInfo(str(address), str(address), "TorchServe", address.model, address.version or "", reads)


def _body(picture: Picture, spec: InputSpec, reads: str) -> tuple[bytes, str]:
    if reads != "tensor":
        return compress(picture, reads), MEDIA_TYPES[reads]
    row = encode(picture[None], spec)[0].tolist()  # bare lists, the form that stock handlers read too
    return json.dumps(row, separators=(",", ":")).encode(), "application/json"


def _prediction(raw: bytes) -> bytes:
    try:
        octets: bytes = PREDICTION_RESPONSE.FromString(raw).prediction
    except DecodeError as error:
        raise BadAnswer(f"the answer is no PredictionResponse ({error})") from None
    return octets


def _unknown_model(error: Refused, model: str) -> Refused:
    if error.status != NOT_FOUND and "ModelNotFound" not in str(error):  # over gRPC it is an INTERNAL error
        return error
    return Refused(f"{error}; is the name of model '{model}' right, is it loaded?", status=error.status)


def _declare_messages() -> tuple[Any, Any]:
    """Declare PredictionsRequest and PredictionResponse in a pool of their own."""
    file = descriptor_pb2.FileDescriptorProto(
        name="ptynet/torchserve_inference.proto", package=PACKAGE, syntax="proto3"
    )
    request = file.message_type.add(name="PredictionsRequest")
    kinds = descriptor_pb2.FieldDescriptorProto
    _field(request, "model_name", 1, kinds.TYPE_STRING)
    _field(request, "model_version", 2, kinds.TYPE_STRING)
    entry = request.nested_type.add(name="InputEntry")
    entry.options.map_entry = True
    _field(entry, "key", 1, kinds.TYPE_STRING)
    _field(entry, "value", 2, kinds.TYPE_BYTES)
    mapping = _field(request, "input", 3, kinds.TYPE_MESSAGE)
    mapping.label = kinds.LABEL_REPEATED
    mapping.type_name = f".{PACKAGE}.PredictionsRequest.InputEntry"
    response = file.message_type.add(name="PredictionResponse")
    _field(response, "prediction", 1, kinds.TYPE_BYTES)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = (f"{PACKAGE}.PredictionsRequest", f"{PACKAGE}.PredictionResponse")
    made = [message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in names]
    return made[0], made[1]


def _field(message: Any, name: str, number: int, kind: int) -> Any:
    return message.field.add(
        name=name, number=number, type=kind, label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    )


PREDICTIONS_REQUEST, PREDICTION_RESPONSE = _declare_messages()

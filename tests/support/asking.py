"""One picture asked of one endpoint, with little patience."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import numpy as np

from ptynet_plugin.spec import InputSpec
from ptynet_plugin.verification.client import Client
from ptynet_plugin.verification.connection import Connection
from ptynet_plugin.verification.opening import open_endpoint
from tests.support.standins import CLASSES

SPEC = InputSpec(color="RGB", layout="NCHW", size=(8, 8), dtype="float32", output="logits", classes=CLASSES)
PICTURE = np.full((8, 8, 3), 140, np.uint8)
TOKEN = "t0k3n-of-the-owner"
PATIENCE = Connection(timeout=5, retries=0)


def picture(level: int) -> np.ndarray:
    return np.full((8, 8, 3), level, np.uint8)


def open_at(address: str, send: str = "auto", spec: InputSpec = SPEC) -> Client:
    return open_endpoint(address, spec=spec, connection=PATIENCE, send=send)


def ask(port: int, *, server: str = "torchserve+http", host: str = "127.0.0.1", **connection: object) -> int | None:
    settings = Connection(**{"timeout": 2.0, "retries": 0, **connection})
    with open_endpoint(f"{server}://{host}:{port}/digits", spec=SPEC, connection=settings) as client:
        return client.ask(PICTURE).top


def refuse(code: grpc.StatusCode, words: str, trailing: tuple = ()) -> Callable:
    def method(octets: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata(trailing)
        context.abort(code, f"{words} {dict(context.invocation_metadata()).get('x-key', '')}")

    return method

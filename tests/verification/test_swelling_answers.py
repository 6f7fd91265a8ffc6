"""Compressed answers: inflated up to the limit, and never further."""

from __future__ import annotations

import tracemalloc
import zlib

import grpc
import pytest

from ptynet_plugin.errors import BadAnswer, EndpointError
from ptynet_plugin.verification.address import parse_address
from ptynet_plugin.verification.connection import Connection
from ptynet_plugin.verification.transports.channel import Channel
from ptynet_plugin.verification.transports.http import LARGEST_BODY, HttpSession
from tests.support.standins import grpc_server, http_server


def deflated(coding: str, size: int) -> bytes:
    """Zeros, compressed to a thousandth."""
    maker = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    return b"".join(maker.compress(bytes(1 << 20)) for _ in range(size >> 20)) + maker.flush()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_an_answer_that_swells_is_cut_off_at_the_limit(coding: str) -> None:
    body = deflated(coding, 64 << 20)
    with http_server(lambda _: (200, {"Content-Encoding": coding}, body)) as port:
        session = HttpSession(parse_address(f"triton+http://127.0.0.1:{port}/m"), Connection(timeout=30))
        tracemalloc.start()
        with pytest.raises(BadAnswer, match="larger than 16 MiB"):
            session.post("infer", b"", {})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        session.close()
    assert peak < 4 * LARGEST_BODY


def test_a_coding_nobody_asked_for_is_refused_unread() -> None:
    """Brotli turns three kilobytes into two gigabytes within one piece, and httpx inflates it where brotli is installed."""
    with http_server(lambda _: (200, {"Content-Encoding": "br"}, bytes(9))) as port:
        session = HttpSession(parse_address(f"triton+http://127.0.0.1:{port}/m"), Connection(timeout=5))
        with pytest.raises(BadAnswer, match="in the encoding br, though none was asked for"):
            session.post("infer", b"", {})
        session.close()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_proxy_that_compresses_nevertheless_is_understood(coding: str) -> None:
    maker = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    packed = maker.compress(b'{"fine": 1}') + maker.flush()
    answers = iter([(200, {"Content-Encoding": coding}, packed), (200, {"Content-Encoding": coding}, b"nonsense")])
    with http_server(lambda _: next(answers)) as port:
        session = HttpSession(parse_address(f"triton+http://127.0.0.1:{port}/m"), Connection(timeout=5))
        assert session.post("infer", b"", {}).body == b'{"fine": 1}'
        with pytest.raises(BadAnswer, match=f"the answer's {coding} is broken"):
            session.post("infer", b"", {})
        session.close()


def test_a_grpc_answer_that_swells_is_refused() -> None:
    def swell(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_compression(grpc.Compression.Gzip)
        return bytes(LARGEST_BODY + 1)

    with grpc_server({"/a.Service/Method": swell}) as port:
        channel = Channel(parse_address(f"triton+grpc://127.0.0.1:{port}/m"), Connection(timeout=30))
        with pytest.raises(EndpointError):
            channel.call("/a.Service/Method", b"", bytes)
        channel.close()


def test_a_grpc_answer_above_the_limit_is_refused() -> None:
    with grpc_server({"/a.Service/Method": lambda request, context: bytes(LARGEST_BODY + 1)}) as port:
        channel = Channel(parse_address(f"triton+grpc://127.0.0.1:{port}/m"), Connection(timeout=30))
        with pytest.raises(EndpointError, match=r"larger than|max"):
            channel.call("/a.Service/Method", b"", bytes)
        channel.close()

"""Asking an authority or a beacon over HTTP: what comes back is bounded in size and in time, whoever answers."""

from __future__ import annotations

import time

import httpx

__all__ = ["fetch"]


def fetch(
    method: str, url: str, *, most: int, timeout: float, body: bytes | None = None, kind: str | None = None
) -> bytes:
    """Ask once; redirects are not followed.

    Args:
        method: "GET" or "POST".
        url: HTTP address.
        most: Octets an answer may have.
        timeout: Seconds until the whole answer must be there.
        body: What to send.
        kind: Its media type.

    Raises:
        httpx.HTTPError: Nobody there, another status than success, too late, or the connection broke.
        httpx.InvalidURL: No address.
        ValueError: Longer than `most`, or compressed although nobody asked for that.
    """
    headers = {"accept-encoding": "identity"} | ({} if kind is None else {"content-type": kind})
    end, pieces, size = time.monotonic() + timeout, [], 0
    with httpx.stream(method, url, content=body, headers=headers, timeout=timeout) as answer:
        answer.raise_for_status()
        if answer.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise ValueError("it is compressed, though nothing asked for that")
        for piece in answer.iter_raw():
            pieces.append(piece)
            size += len(piece)
            if size > most:
                raise ValueError(f"it is longer than {most} bytes")
            if time.monotonic() > end:
                raise httpx.ReadTimeout(f"not complete within {timeout:g} s")
    return b"".join(pieces)

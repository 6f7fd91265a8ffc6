"""A public beacon on loopback, in drand's shape: rounds of a made-up chain, each known from its time on."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

GENESIS = 1_600_000_000


def drawn(number: int) -> dict[str, object]:
    """One round, signed by nobody."""
    signature = hashlib.sha512(b"round %d" % number).digest()
    return {"round": number, "randomness": hashlib.sha256(signature).hexdigest(), "signature": signature.hex()}


def beacon_file(path: Path, after: datetime, *, period: int = 1) -> Path:
    """Write the first round after a moment to a file."""
    number = int((after.timestamp() - GENESIS) // period) + 2
    path.write_text(json.dumps(drawn(number) | {"genesis_time": GENESIS, "period": period, "source": "loopback"}))
    return path


@contextmanager
def serving_beacon(*, period: int = 1) -> Iterator[str]:
    """Answer as a drand node does; gives the address of the latest round."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("/info"):
                told: dict[str, object] = {"genesis_time": GENESIS, "period": period, "hash": "00"}
            else:
                told = drawn(int(self.path.rsplit("/", 1)[1]))
            body = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/chain/public/latest"
        server.shutdown()
        thread.join()

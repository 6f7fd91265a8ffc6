"""A real time-stamping authority on loopback: OpenSSL answers, a certificate authority of our own vouches."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
[tsa]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[stamping]
default_tsa = stamping
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


@dataclass(frozen=True)
class Authority:
    """Where it answers and who vouches for it."""

    url: str
    root: Path
    folder: Path

    def stamp(self, message: bytes) -> bytes:
        """Stamp a message without the network."""
        (self.folder / "message").write_bytes(message)
        self._run("ts", "-query", "-data", "message", "-sha256", "-cert", "-out", "query.tsq")
        return self.answer((self.folder / "query.tsq").read_bytes())

    def answer(self, query: bytes) -> bytes:
        """Answer one query."""
        (self.folder / "incoming.tsq").write_bytes(query)
        self._run(
            "ts",
            "-reply",
            "-config",
            "tsa.cnf",
            "-section",
            "stamping",
            "-queryfile",
            "incoming.tsq",
            "-out",
            "reply.tsr",
        )
        return (self.folder / "reply.tsr").read_bytes()

    def _run(self, *arguments: str) -> None:
        openssl(self.folder, *arguments)


def openssl(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def make_authority(folder: Path, name: str, *, days: int = 30) -> None:
    """Make the keys and certificates of an authority under a root of its own."""
    (folder / "ca.cnf").write_text(CONFIG.format(name=f"{name} root", folder=folder))
    (folder / "tsa.cnf").write_text(CONFIG.format(name=name, folder=folder))
    (folder / "serial").write_text("01\n")
    lasting = ("-days", str(days))
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    rooted = ("-keyout", "ca.key", "-out", "ca.pem", "-config", "ca.cnf", "-extensions", "ca")
    openssl(folder, "req", "-x509", *curve, *rooted, *lasting)
    openssl(folder, "req", *curve, "-keyout", "tsa.key", "-out", "tsa.csr", "-config", "tsa.cnf")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "tsa.cnf", "-extensions", "tsa")
    openssl(folder, "x509", "-req", "-in", "tsa.csr", *signed, "-out", "tsa.pem", *lasting)


def serving(folder: Path) -> Iterator[Authority]:
    made: list[Authority] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            answer = made[0].answer(query)
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.append(Authority(f"http://127.0.0.1:{server.server_port}/stamp", folder / "ca.pem", folder))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield made[0]
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """A time-stamping authority that answers on loopback."""
    if shutil.which("openssl") is None:
        pytest.skip("absent: openssl, which answers as the time-stamping authority")
    folder = tmp_path_factory.mktemp("authority")
    make_authority(folder, "Loopback TSA")
    yield from serving(folder)


@pytest.fixture(scope="session")
def other_root(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The root of an authority that stamped nothing."""
    if shutil.which("openssl") is None:
        pytest.skip("absent: openssl")
    folder = tmp_path_factory.mktemp("other-authority")
    make_authority(folder, "Other TSA")
    return (folder / "ca.pem").read_bytes()

"""Endpoints behind TLS with a private certificate authority."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ptynet_plugin.errors import Refused, Unreachable, UsageError
from tests.support.asking import ask, refuse
from tests.support.standins import grpc_server, http_server, open_inference


def make_authority(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A private authority, and a server's TLS settings with a certificate for 127.0.0.1 signed by it."""
    now = datetime.datetime.now(datetime.UTC)

    def certificate(
        name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey, ca: bool
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
            subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(hours=1),
            not_valid_after=now + datetime.timedelta(hours=1),
        ).add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(authority, critical=False)
        if not ca:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(signer, hashes.SHA256())

    root_key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificate("Private CA", root_key, "Private CA", root_key, True)
    leaf = certificate("server", leaf_key, "Private CA", root_key, False)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(root.public_bytes(pem))
    (folder / "leaf.pem").write_bytes(leaf.public_bytes(pem))
    private = leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "leaf.key").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "leaf.pem", folder / "leaf.key")
    return folder / "ca.pem", context


def test_tls_with_a_private_authority(tmp_path: Path) -> None:
    authority, context = make_authority(tmp_path)
    with http_server(open_inference, tls=context) as port:
        assert ask(port, server="kserve+https", ca_cert=authority) == 5
        with pytest.raises(Unreachable, match=r"TLS refused .*--ca-cert names a private authority"):
            ask(port, server="kserve+https")
        with pytest.raises(Unreachable):
            ask(port, server="kserve+http")


def test_grpc_over_tls_with_a_private_authority(tmp_path: Path) -> None:
    authority, _ = make_authority(tmp_path)
    pair = (tmp_path / "leaf.key").read_bytes(), (tmp_path / "leaf.pem").read_bytes()
    path = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
    methods = {path: refuse(grpc.StatusCode.NOT_FOUND, "encrypted, and not found")}
    with grpc_server(methods, credentials=grpc.ssl_server_credentials([pair])) as port:
        with pytest.raises(Refused, match="encrypted, and not found"):
            ask(port, server="torchserve+grpcs", ca_cert=authority)
        with pytest.raises(Unreachable):
            ask(port, server="torchserve+grpcs")


def test_an_authority_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    (tmp_path / "broken.pem").write_text(broken)
    with pytest.raises(UsageError, match=r"empty\.pem: holds no certificate"):
        ask(9, server="kserve+https", ca_cert=tmp_path / "empty.pem")
    with pytest.raises(UsageError, match=r"broken\.pem: its certificates cannot be read"):
        ask(9, server="kserve+https", ca_cert=tmp_path / "broken.pem")

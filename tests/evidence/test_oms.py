"""OMS signatures: beside the archive, the same as the stock commands', of the whole archive, and of one key."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from typer.testing import CliRunner, Result

from model_store_tools.cli.main import app
from ptynet_plugin.archives.reading import archive_digest
from tests.support.tiny_archives import either_archive, make_archive

__all__ = ["either_archive", "make_archive"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def stock(*arguments: object) -> int:
    command = [sys.executable, "-m", "model_signing", *(str(each) for each in arguments)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def write_pair(
    folder: Path,
    name: str,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    sealed: KeySerializationEncryption | None = None,
) -> tuple[Path, Path]:
    made = key or ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.touch(mode=0o600)
    private.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed or NoEncryption()))
    public.write_bytes(made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return write_pair(tmp_path, "signer")


def signed(archive: Path, private: Path) -> Path:
    result = run("claim", "sign-archive", archive, "--signing-key", private)
    assert result.exit_code == 0, result.stderr
    return Path(result.stdout.strip())


def checked(archive: Path, signature: Path, public: Path) -> Result:
    return run("check", archive, "--oms", signature, "--oms-key", public)


def test_ours_verifies_with_the_stock_command_and_here(either_archive: Path, pair: tuple[Path, Path]) -> None:
    before = archive_digest(either_archive)
    signature = signed(either_archive, pair[0])
    assert signature == either_archive.with_name(f"{either_archive.name}.sig")
    assert archive_digest(either_archive) == before
    assert stock("verify", "key", either_archive, "--public_key", pair[1], "--signature", signature) == 0
    result = checked(either_archive, signature, pair[1])
    assert result.exit_code == 0, result.stderr
    assert f"signed  {signature}, by {pair[1]}" in result.stdout.splitlines()
    assert result.stdout.splitlines()[-1] == f"digest  {before}"


def test_the_stock_commands_signature_verifies_here(
    either_archive: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    signature = tmp_path / "stock.sig"
    assert stock("sign", "key", either_archive, "--private_key", pair[0], "--signature", signature) == 0
    assert checked(either_archive, signature, pair[1]).exit_code == 0


def test_a_mar_is_named_by_its_own_digest(make_archive: Callable[..., Path], pair: tuple[Path, Path]) -> None:
    archive = make_archive()
    bundle = json.loads(signed(archive, pair[0]).read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    assert [each["digest"] for each in statement["predicate"]["resources"]] == [archive_digest(archive)]


@pytest.mark.parametrize("form", ["torchserve", "triton"])
def test_an_archive_changed_after_its_signature_is_refused(
    make_archive: Callable[..., Path], pair: tuple[Path, Path], tmp_path: Path, form: str
) -> None:
    archive = make_archive(format=form, out=tmp_path / "one")
    signature = signed(archive, pair[0])
    other = make_archive(format=form, out=tmp_path / "two", claim="cd" * 32)  # whole in itself, and not what was signed
    assert run("check", other).exit_code == 0
    result = checked(other, signature, pair[1])
    assert result.exit_code == 1 and result.stdout == ""
    assert "does not verify" in result.stderr and "Hash mismatch" in result.stderr
    changed = archive if archive.is_file() else archive / "labels.txt"
    octets = bytearray(changed.read_bytes())
    octets[-1] ^= 1
    changed.write_bytes(octets)
    assert checked(archive, signature, pair[1]).exit_code == 1
    assert stock("verify", "key", archive, "--public_key", pair[1], "--signature", signature) == 1


def test_another_mans_key_and_any_other_signature_are_refused(
    make_archive: Callable[..., Path], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    archive = make_archive()
    signature = signed(archive, pair[0])
    assert "Key mismatch" in checked(archive, signature, write_pair(tmp_path, "other")[1]).stderr
    good = json.loads(signature.read_text())
    forged = json.loads(signature.read_text())
    octets = bytearray(base64.b64decode(forged["dsseEnvelope"]["signatures"][0]["sig"]))
    octets[-1] ^= 1
    forged["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(octets).decode()
    keyless = {**good, "verificationMaterial": {"certificate": {"rawBytes": "AAAA"}}}
    twice = {**good, "dsse_envelope": good["dsseEnvelope"]}
    bad = tmp_path / "bad.sig"
    for content in (
        "",
        "[]",
        "{}",
        "[" * 100_000,
        *map(json.dumps, (forged, keyless, twice, {**good, "mediaType": 1})),
    ):
        bad.write_text(content)
        result = checked(archive, bad, pair[1])
        assert result.exit_code == 1, content[:80]
        assert result.stdout == "" and len(result.stderr.strip().splitlines()) == 1 and "defect" not in result.stderr
    assert checked(archive, signature, pair[1]).exit_code == 0


def test_a_signature_of_a_part_is_refused(
    make_archive: Callable[..., Path], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    archive, signature = make_archive(format="triton"), tmp_path / "part.sig"
    left_out = archive / "ptynet-manifest.json"
    flags = ("--private_key", pair[0], "--signature", signature, "--ignore-paths", left_out)
    assert stock("sign", "key", archive, *flags) == 0
    assert stock("verify", "key", archive, "--public_key", pair[1], "--signature", signature) == 0
    result = checked(archive, signature, pair[1])
    assert result.exit_code == 1 and "leaves out ptynet-manifest.json" in result.stderr


def test_without_the_extra_the_command_that_brings_it_is_named(
    make_archive: Callable[..., Path], pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_archive()
    before = sorted(archive.parent.iterdir())
    for name in [each for each in sys.modules if each.partition(".")[0] == "model_signing"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "model_signing", None)
    for result in (run("claim", "sign-archive", archive, "--signing-key", pair[0]), checked(archive, archive, pair[1])):
        assert result.exit_code == 2 and "pip install 'ptynet-plugin[oms]'" in result.stderr
    assert sorted(archive.parent.iterdir()) == before
    assert run("check", archive).exit_code == 0


def test_what_cannot_be_signed_exits_2_and_writes_nothing(
    make_archive: Callable[..., Path], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    archive = make_archive(format="triton")
    weak = write_pair(tmp_path, "rsa", rsa.generate_private_key(public_exponent=65537, key_size=2048))[0]
    sealed = write_pair(tmp_path, "sealed", sealed=BestAvailableEncryption(b"word"))[0]
    lying_open = write_pair(tmp_path, "open")[0]
    lying_open.chmod(0o644)
    empty = tmp_path / "empty.pem"
    empty.touch(mode=0o600)
    before = sorted(tmp_path.rglob("*"))
    attempts: list[tuple[tuple[object, ...], str]] = [
        (("--signing-key", tmp_path / "none.pem"), "cannot be read"),
        (("--signing-key", weak), "P-256, P-384 or P-521"),
        (("--signing-key", sealed), "is encrypted"),
        (("--signing-key", lying_open), "others may access it"),
        (("--signing-key", empty), "holds no private key in PEM"),
        (("--signing-key", pair[0], "--signature", archive / "1" / "x.sig"), "lies in the archive"),
        (("--signing-key", pair[0], "--signature", pair[0]), "exists, and a signature is never written over"),
        (("--signing-key", pair[0], "--signature", tmp_path / "no" / "x.sig"), "cannot be written"),
    ]
    for flags, words in attempts:
        result = run("claim", "sign-archive", archive, *flags)
        assert result.exit_code == 2 and words in result.stderr, result.stderr
        assert "BEGIN" not in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_what_cannot_be_checked_exits_2(
    make_archive: Callable[..., Path], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    archive = make_archive()
    signature = signed(archive, pair[0])
    attempts: list[tuple[tuple[object, ...], str]] = [
        (("--oms", signature), "go together"),
        (("--oms-key", pair[1]), "go together"),
        (("--oms", tmp_path / "none", "--oms-key", pair[1]), "cannot be read"),
        (("--oms", "/dev/null", "--oms-key", pair[1]), "no regular file"),
        (("--oms", tmp_path, "--oms-key", pair[1]), "cannot be read"),
        (("--oms", signature, "--oms-key", pair[0]), "holds no public key in PEM"),
    ]
    for flags, words in attempts:
        result = run("check", archive, *flags)
        assert result.exit_code == 2 and words in result.stderr, result.stderr


def test_a_broken_archive_is_not_signed(make_archive: Callable[..., Path], pair: tuple[Path, Path]) -> None:
    archive = make_archive(format="triton")
    (archive / "extra.txt").write_text("x")
    result = run("claim", "sign-archive", archive, "--signing-key", pair[0])
    assert result.exit_code == 1 and not archive.with_name("tiny.sig").exists()

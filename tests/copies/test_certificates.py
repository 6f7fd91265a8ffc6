"""Certificates, countersignatures, and a registry rebuilt from them: from a real issue, over the command line."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from typer.testing import CliRunner

from model_store_tools.certificates import read_certificate, render_certificate
from model_store_tools.certificates.power import LENGTHS, power_rows
from model_store_tools.cli.main import app
from model_store_tools.registry import Registry
from ptynet_plugin.errors import IntegrityError
from ptynet_plugin.keyfile import write_key
from ptynet_plugin.keys import OwnerKey
from tests.copies.conftest import CUSTOMERS, CopyCase
from tests.support.quick_mark import KEY


@pytest.fixture
def case(issued_once: CopyCase, tmp_path: Path) -> CopyCase:
    return issued_once.copied_to(tmp_path / "case")


def run(case: CopyCase, verb: str, *arguments: object, registry: str | None = None) -> tuple[int, str, str]:
    environment = {"PTYNET_KEY": "", "PTYNET_REGISTRY": registry or case.registry}
    done = CliRunner().invoke(app, ["copies", verb, *map(str, arguments)], env=environment)
    return done.exit_code, done.stdout, done.stderr


def certificate_of(case: CopyCase, number: int = 1) -> Path:
    archive = case.archives[number - 1]
    return archive.with_name(f"{archive.name}.certificate.json")


def pem(path: Path, key: object, *, passphrase: bytes | None = None) -> Path:
    locked = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    return path


def test_every_copy_comes_with_a_certificate_that_states_it(case: CopyCase) -> None:
    assert case.tables is not None
    with case.open_registry() as registry:
        for copy in registry.copies():
            certificate = read_certificate(certificate_of(case, copy.number))
            facts = certificate.facts
            assert (facts.number, facts.customer) == (copy.number, CUSTOMERS[copy.number - 1])
            assert facts.archive.digest == copy.digest and certificate.digest == copy.certificate
            assert facts.issued == copy.issued_at and facts.claim == case.tables.claim.digest
            assert certificate.signer == case.tables.claim.terms.signer
            assert (facts.code.positions, facts.code.quick, facts.code.coalition) == (152, 34, 4)
            assert certificate.eps == 1e-6 and certificate.own_bound == pytest.approx(
                1e-6 / (copy.number * (copy.number + 1))
            )
            certificate.require_owner(case.tables.secret)


def test_a_certificate_does_not_tell_the_word_and_holds_it(case: CopyCase) -> None:
    assert case.tables is not None
    octets = certificate_of(case).read_bytes()
    first = read_certificate(certificate_of(case))
    assert first.facts.word != read_certificate(certificate_of(case, 2)).facts.word
    assert case.tables.code.words(1, 1)[0].tobytes().hex().encode() not in octets
    with pytest.raises(IntegrityError, match=r"was signed by .*, not by this key"):
        first.require_owner(bytes(32))


def test_any_changed_byte_of_a_certificate_is_refused(case: CopyCase) -> None:
    path = certificate_of(case)
    octets = path.read_bytes()
    for place in range(0, len(octets), 37):
        path.write_bytes(octets[:place] + bytes([octets[place] ^ 1]) + octets[place + 1 :])
        with pytest.raises(IntegrityError):
            read_certificate(path)


def test_the_page_tells_strength_and_limits_and_escapes(case: CopyCase) -> None:
    page = certificate_of(case).with_name(case.archives[0].name + ".certificate.html").read_text()
    for told in ("Alpha Ltd", "152 positions", "1e-06", "frame its customer", "too short", "not countersigned"):
        assert told.lower() in page.lower()
    assert "http" not in page.replace("http-equiv", "")
    certificate = read_certificate(certificate_of(case))
    hostile = certificate.facts.model_copy(update={"customer": "<script>alert(1)</script>"})
    assert "<script>" not in render_certificate(type(certificate)(certificate.octets, certificate.signer, hostile))


def test_the_power_on_the_certificate_is_the_shorter_length_s_and_never_boasts() -> None:
    rows = {row.colluders: row for row in power_rows(512, coalition=4)}
    assert [rows[c].delivered for c in (1, 2, 3, 4)] == [True, True, False, False]
    assert (rows[3].power, rows[4].power, rows[3].at) == (0.03, 0.0, 512)
    assert {row.at for row in power_rows(600, coalition=4)} == {512} and power_rows(512, coalition=3) == []
    assert all(row.power is None for row in power_rows(64, coalition=4))
    for shorter, longer in itertools.pairwise(LENGTHS):
        pairs = zip(power_rows(shorter, coalition=4), power_rows(longer, coalition=4), strict=True)
        assert all((one.power or 0) <= (other.power or 0) for one, other in pairs)


def test_show_checks_certificate_archive_and_key(case: CopyCase) -> None:
    key = case.folder / "OWNER.key"
    code, out, err = run(case, "show", 1, "--check", certificate_of(case), "--archive", case.archives[0], "--key", key)
    assert code == 0, err
    assert (
        "Alpha Ltd" in out and "the certificate is the registered one" in out and "the archive is the registered" in out
    )
    code, out, err = run(case, "show", 1, "--check", certificate_of(case))
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].split(maxsplit=2)[:2] == ["not", "checked"]
    assert "who signed the certificate, and its code word: only --key OWNER.key tells" in out
    code, out, err = run(case, "show", 1, "--key", key)
    assert (code, "give --check CERT as well" in out) == (0, True), err
    code, _, err = run(case, "show", 1, "--check", certificate_of(case, 2))
    assert code == 1 and "of copy 2, the registry has" in err
    code, _, err = run(case, "show", 1, "--archive", case.archives[1])
    assert code == 1 and "has digest" in err and "the registry says" in err
    write_key(case.folder / "other.key", OwnerKey(bytes(32)))
    code, _, err = run(case, "show", 1, "--check", certificate_of(case), "--key", case.folder / "other.key")
    assert code == 1 and "not by this key" in err


def test_the_customer_countersigns_and_the_owner_files_it(case: CopyCase) -> None:
    key = pem(case.folder / "customer.pem", Ed25519PrivateKey.generate())
    signing = ("countersign", certificate_of(case), "--customer-key", key, "--archive")
    code, _, err = run(case, *signing, case.archives[1])
    assert code == 1 and "the archive has digest" in err
    code, out, err = run(case, *signing, case.archives[0], registry="sqlite:////nonexistent/no.db")
    assert code == 0, err
    signed = Path(out.strip())
    code, out, err = run(case, "countersign", "--accept", signed)
    assert code == 0 and "copy 1 of Alpha Ltd is countersigned with the key" in out
    code, out, err = run(case, "show", 1)
    assert code == 0 and "the countersignature holds" in out
    assert "countersigned" in run(case, "list")[1]
    other = pem(case.folder / "second.pem", Ed25519PrivateKey.generate())
    run(case, "countersign", certificate_of(case), "--customer-key", other, "--out", case.folder / "second.json")
    code, _, err = run(case, "countersign", "--accept", case.folder / "second.json")
    assert code == 2 and "is countersigned with the key" in err


def test_a_forged_countersignature_is_refused(case: CopyCase) -> None:
    key = pem(case.folder / "customer.pem", Ed25519PrivateKey.generate())
    code, out, _ = run(case, "countersign", certificate_of(case), "--customer-key", key)
    signed = Path(out.strip())
    made = json.loads(signed.read_text())
    for change in ({"number": 2}, {"archive": "00" * 32}, {"public_key": "00" * 32}, {"extra": 1}):
        signed.write_text(json.dumps(made | change))
        code, _, err = run(case, "countersign", "--accept", signed)
        assert code == 1 and ("does not hold" in err or "is no countersignature" in err)
    assert "countersigned" not in run(case, "list")[1]


def test_wrong_customer_keys_are_named(case: CopyCase) -> None:
    wrong = {
        "is no Ed25519 key": pem(case.folder / "ec.pem", generate_private_key(SECP256R1())),
        "it has a passphrase": pem(case.folder / "locked.pem", Ed25519PrivateKey.generate(), passphrase=b"x"),
        "not a private key in PEM": case.folder / "OWNER.key",
        "cannot be read": case.folder / "none.pem",
    }
    for told, key in wrong.items():
        code, _, err = run(case, "countersign", certificate_of(case), "--customer-key", key)
        assert code == 2 and told in err
    assert run(case, "countersign")[0] == 2
    assert not list((case.folder / "out").glob("*.countersignature.json"))


def test_the_customer_needs_no_database_driver(case: CopyCase) -> None:
    key = pem(case.folder / "customer.pem", Ed25519PrivateKey.generate())
    program = (
        "import sys\nfor name in ('sqlalchemy', 'alembic', 'torch', 'onnx'): sys.modules[name] = None\n"
        "from model_store_tools.cli.main import main\nmain()"
    )
    arguments = ["copies", "countersign", str(certificate_of(case)), "--customer-key", str(key)]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_lost_registry_is_rebuilt_from_certificates_and_key(case: CopyCase) -> None:
    customer = pem(case.folder / "customer.pem", Ed25519PrivateKey.generate())
    _, out, _ = run(case, "countersign", certificate_of(case, 2), "--customer-key", customer)
    run(case, "countersign", "--accept", out.strip())
    with case.open_registry() as registry:
        before = list(registry.copies())
    lost = f"sqlite:///{case.folder / 'again.db'}"
    key = case.folder / "OWNER.key"
    asked = ("restore", case.folder / "out", "--key", key, "--traces", 3, "--highest", 7)
    code, out, err = run(case, *asked, registry=lost)
    assert code == 0, err
    assert "entered 3 of 3 copies" in out and "next number 8, 4 without a certificate, next trace 4" in err
    with Registry.open(lost, owner=KEY.fingerprint()) as again:
        kept = ("claim", "number", "customer", "issued_at", "archive", "digest", "certificate", "countersignature")
        assert [[getattr(copy, name) for name in kept] for copy in again.copies()] == [
            [getattr(copy, name) for name in kept] for copy in before
        ]
        claim = before[0].claim
        assert again.reserve(claim=claim, customer="new").number == 8
        assert again.begin_trace(claim, endpoint="file:x") == 4
    assert "entered 0 of 3" in run(case, *asked, registry=lost)[1]


def test_a_customer_with_two_certificates_had_the_first_one_revoked(case: CopyCase) -> None:
    from dataclasses import replace

    from model_store_tools.certificates.restoring import Found
    from model_store_tools.registry.restoring import copies_from

    first, second = (read_certificate(certificate_of(case, number)) for number in (1, 2))
    same = replace(second, facts=second.facts.model_copy(update={"customer": first.facts.customer}))
    revoked, valid = copies_from([Found(first, None), Found(same, None)])
    assert revoked.revoked_because == "restored: its customer got copy 2 later" and valid.revoked_at is None


def test_what_does_not_fit_is_not_restored(case: CopyCase) -> None:
    lost = f"sqlite:///{case.folder / 'again.db'}"
    write_key(case.folder / "other.key", OwnerKey(bytes(32)))
    asked = ("restore", case.folder / "out", "--traces", 0, "--key")
    code, _, err = run(case, *asked, case.folder / "other.key", registry=lost)
    assert code == 1 and "not by this key" in err and "certificate.json" in err
    path = certificate_of(case)
    path.write_bytes(path.read_bytes()[:-2])
    code, _, err = run(case, *asked, case.folder / "OWNER.key", registry=lost)
    assert code == 1 and path.name in err
    empty = case.folder / "empty"
    empty.mkdir()
    code, _, err = run(case, "restore", empty, "--traces", 0, "--key", case.folder / "OWNER.key", registry=lost)
    assert code == 2 and "holds no file named *.certificate.json" in err
    assert not (case.folder / "again.db").exists()


def test_list_revoke_and_export(case: CopyCase) -> None:
    code, out, err = run(case, "list")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == ["claim", "1", "2", "3"], err
    code, out, _ = run(case, "revoke", 2, "--reason", "contract ended")
    assert code == 0 and "revoked copy 2 of Beta GmbH: contract ended" in out
    assert "Beta GmbH" in run(case, "list", "--revoked")[1] and "Beta GmbH" not in run(case, "list", "--valid")[1]
    listed = json.loads(run(case, "list", "--customer", "Beta GmbH", "--json", "-")[1])
    assert [copy["number"] for copy in listed["copies"]] == [2]
    code, out, _ = run(case, "export", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    assert [row["customer"] for row in rows] == list(CUSTOMERS) and rows[1]["revoked_because"] == "contract ended"
    exported = json.loads(run(case, "export")[1])
    assert exported["owner"] == KEY.fingerprint() and exported["traces"] == [] and "ticket" not in exported["copies"][0]
    code, _, err = run(case, "revoke", 9, "--reason", "x")
    assert code == 2 and "has no copy 9" in err
    code, _, err = run(case, "show", 1, "--claim", "ffff")
    assert code == 2 and "--claim ffff fits 0 of them" in err


def test_a_formula_in_a_name_stays_text(case: CopyCase) -> None:
    with case.open_registry() as registry:
        registry.reserve(claim=registry.claims()[0], customer='=HYPERLINK("x")')
    rows = list(csv.DictReader(io.StringIO(run(case, "export", "--format", "csv")[1], newline="")))
    assert rows[-1]["customer"] == '\'=HYPERLINK("x")'


def test_a_copied_folder_of_certificates_is_enough(case: CopyCase, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    for number in (1, 2, 3):
        shutil.copy2(certificate_of(case, number), kept)
    asked = ("restore", kept, "--traces", 0, "--key", case.folder / "OWNER.key")
    assert run(case, *asked, registry=f"sqlite:///{tmp_path / 'new.db'}")[0] == 0

"""Stamps by a real authority on loopback: what they prove, and what is refused."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ptynet_plugin.claims import Ledger, read_claim, write_claim
from ptynet_plugin.claims.canonical import canonical_json
from ptynet_plugin.errors import ClaimError, UsageError
from ptynet_plugin.evidence.beacon import fetch_beacon, fetch_round
from ptynet_plugin.evidence.der import read_stamp
from ptynet_plugin.evidence.renewing import renew, renewal_message
from ptynet_plugin.evidence.sealing import bind, check_stamps, seal, stamp_binding
from ptynet_plugin.evidence.timestamps import (
    certificates_expire,
    openssl_command,
    read_roots,
    request_stamp,
    verify_stamp,
)
from tests.support.authority import Authority, make_authority, openssl
from tests.support.beacons import serving_beacon
from tests.support.small_claims import SECRET, make_claim


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_claim(tmp_path / "resnet18", make_claim())
    return tmp_path / "resnet18"


@pytest.fixture
def roots(authority: Authority) -> bytes:
    return read_roots(authority.root)


@pytest.fixture
def sealed(folder: Path, authority: Authority, roots: bytes) -> Path:
    seal(folder, authority.stamp(read_claim(folder).commitment), roots=roots)
    return folder


def beacon_file(folder: Path, published: datetime, **changes: object) -> Path:
    signature = b"round" * 8
    drawn = {
        "source": "test beacon",
        "round": 101,
        "randomness": hashlib.sha256(signature).hexdigest(),
        "signature": signature.hex(),
        "genesis_time": int(published.timestamp()) - 300,
        "period": 3,
    }
    (folder / "beacon.json").write_text(json.dumps(drawn | changes))
    return folder / "beacon.json"


def test_a_stamp_over_the_network_verifies_and_seals(folder: Path, authority: Authority, roots: bytes) -> None:
    claim = read_claim(folder)
    response = request_stamp(claim.commitment, authority.url)
    sealed = seal(folder, response, roots=roots)
    assert sealed == read_claim(folder)
    assert sealed.allowance == 40
    assert sealed.labels(SECRET).tolist() != claim.labels(SECRET).tolist()
    stamp, root = verify_stamp(response, claim.commitment, roots=roots)
    assert stamp.digest == hashlib.sha256(claim.commitment).digest()
    assert abs(stamp.time - datetime.now(UTC)) < timedelta(minutes=5)
    assert (folder / "tsa.pem").read_bytes() == root
    assert certificates_expire(response) > datetime.now(UTC)


def test_the_signature_read_here_is_the_one_openssl_made(folder: Path, authority: Authority) -> None:
    response = authority.stamp(read_claim(folder).commitment)
    stamp = read_stamp(response)
    (folder / "reply.tsr").write_bytes(response)
    openssl(folder, "ts", "-reply", "-in", "reply.tsr", "-token_out", "-out", "token.der")
    printed = openssl(folder, "asn1parse", "-inform", "DER", "-in", "token.der")
    last = [line for line in printed.splitlines() if "OCTET STRING" in line][-1]
    assert last.rpartition(":")[2].lower() == stamp.signature.hex()


def test_anybody_can_verify_the_stamp_with_openssl(sealed: Path) -> None:
    command = openssl_command("stamp.tsr", "commitment.json", "tsa.pem")
    assert "Verification: OK" in openssl(sealed, *command.split()[1:])


def test_a_stamp_over_other_bytes_is_refused(folder: Path, authority: Authority, roots: bytes) -> None:
    with pytest.raises(ClaimError, match="does not verify"):
        seal(folder, authority.stamp(b"another claim"), roots=roots)
    assert read_claim(folder).seal is None
    assert not (folder / "stamp.tsr").exists()


def test_a_stamp_of_an_unknown_authority_is_refused(
    folder: Path, authority: Authority, roots: bytes, other_root: bytes
) -> None:
    response = authority.stamp(read_claim(folder).commitment)
    with pytest.raises(ClaimError, match="--tsa-ca"):
        seal(folder, response, roots=other_root)
    seal(folder, response, roots=other_root + roots)
    assert (folder / "tsa.pem").read_bytes().strip() == roots.strip()


@pytest.mark.parametrize("at", range(0, 1000, 37))
def test_a_stamp_with_a_flipped_bit_is_refused(folder: Path, authority: Authority, roots: bytes, at: int) -> None:
    """Flips that hit neither the signed content nor its signature (an unused certificate) may pass; ours have none."""
    message = read_claim(folder).commitment
    response = bytearray(authority.stamp(message))
    response[at % len(response)] ^= 0x10
    try:
        stamp, _ = verify_stamp(bytes(response), message, roots=roots)
    except ClaimError:
        return
    assert stamp.digest == hashlib.sha256(message).digest()


@pytest.mark.parametrize(
    "octets", [b"", b"\x30", b"\x30\x84\xff\xff\xff\xff", b"<html>", b"\x30\x05\x30\x03\x02\x01\x02"]
)
def test_what_is_no_stamp_is_refused(octets: bytes) -> None:
    with pytest.raises(ClaimError, match=r"cannot be read|did not grant"):
        read_stamp(octets)


def test_a_claim_is_stamped_once(sealed: Path, authority: Authority, roots: bytes) -> None:
    with pytest.raises(ClaimError, match="stamped already"):
        seal(sealed, authority.stamp(read_claim(sealed).commitment), roots=roots)


def test_a_claim_that_was_used_unstamped_cannot_be_stamped(folder: Path, authority: Authority, roots: bytes) -> None:
    with Ledger(folder, digest=read_claim(folder).digest) as ledger:
        ledger.register("somewhere", alpha=1e-9, budget=10, started="now")
    with pytest.raises(ClaimError, match="runs were made under this claim unstamped"):
        seal(folder, authority.stamp(read_claim(folder).commitment), roots=roots)


def test_a_stamped_claim_is_not_replaced_by_its_unstamped_self(sealed: Path) -> None:
    with pytest.raises(ClaimError, match=r"was stamped, .*; package with --claim"):
        write_claim(sealed, make_claim())
    write_claim(sealed, read_claim(sealed))


def test_a_beacon_round_after_the_stamp_lowers_the_allowance(
    folder: Path, authority: Authority, roots: bytes, tmp_path: Path
) -> None:
    response = authority.stamp(read_claim(folder).commitment)
    time = read_stamp(response).time
    beacon = fetch_beacon(str(beacon_file(tmp_path, time + timedelta(seconds=9))), after=time)
    assert seal(folder, response, roots=roots, beacon=beacon).allowance == 20
    assert read_claim(folder).seal.beacon == beacon


@pytest.mark.parametrize(
    ("seconds", "changes", "message"),
    [
        (-60, {}, "take a round of the hour after"),
        (7200, {}, "take a round of the hour after"),
        (9, {"randomness": "00" * 32}, "not the hash of its signature"),
        (9, {"period": "x"}, "no beacon round"),
        (9, {"round": None}, "no beacon round"),
        (9, {"signature": "zz"}, "no beacon round"),
    ],
)
def test_beacon_rounds_that_leave_a_choice_are_refused(
    tmp_path: Path, seconds: int, changes: dict[str, object], message: str
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    file = beacon_file(tmp_path, now + timedelta(seconds=seconds), **changes)
    with pytest.raises(ClaimError, match=message):
        fetch_beacon(str(file), after=now)


def test_an_unreachable_authority_and_beacon_are_named() -> None:
    with pytest.raises(ClaimError, match=r"127\.0\.0\.1:9/stamp: the time-stamping authority gave no stamp"):
        request_stamp(b"message", "http://127.0.0.1:9/stamp", timeout=2)
    with pytest.raises(ClaimError, match="the beacon gave no round"):
        fetch_beacon("http://127.0.0.1:9/public/latest", after=datetime.now(UTC), timeout=2)


def test_binding_commits_to_mark_and_archives_and_is_stamped_again(sealed: Path, authority: Authority) -> None:
    committed = bind(sealed, secret=SECRET, mark="aa" * 32, archives=["cc" * 32, "bb" * 32])
    assert committed == (sealed / "binding.json").read_bytes()
    assert bind(sealed, secret=SECRET, mark="aa" * 32, archives=["bb" * 32, "cc" * 32]) == committed
    stamp_binding(sealed, authority.stamp(committed))
    times = check_stamps(sealed)
    assert list(times) == ["stamp.tsr", "binding.tsr"]
    assert b"aa" * 32 not in committed
    with pytest.raises(ClaimError, match="bound already"):
        bind(sealed, secret=SECRET, mark="dd" * 32, archives=[])
    with pytest.raises(ClaimError, match="this key did not make the claim"):
        bind(sealed, secret=bytes(32), mark="aa" * 32, archives=[])


def test_a_binding_stamp_over_something_else_is_refused(sealed: Path, authority: Authority) -> None:
    bind(sealed, secret=SECRET, mark="aa" * 32, archives=[])
    with pytest.raises(ClaimError, match="does not verify"):
        stamp_binding(sealed, authority.stamp(b"something else"))


def test_stamps_are_checked_against_the_pinned_root_by_name(sealed: Path, other_root: bytes) -> None:
    (sealed / "tsa.pem").write_bytes(other_root)
    with pytest.raises(ClaimError, match=r"stamp\.tsr: the time stamp does not verify"):
        check_stamps(sealed)


def test_renewals_form_a_chain(sealed: Path, authority: Authority, roots: bytes) -> None:
    first = renew(sealed, authority.stamp(renewal_message(sealed)), roots=roots)
    with pytest.raises(ClaimError, match="does not verify"):
        renew(sealed, authority.stamp(b"something else"), roots=roots)
    second = renew(sealed, authority.stamp(renewal_message(sealed)), roots=roots)
    assert (first.name, second.name) == ("renewal-1.tsr", "renewal-2.tsr")
    assert list(check_stamps(sealed)) == ["stamp.tsr", "renewal-1.tsr", "renewal-2.tsr"]


def test_a_binding_stamped_after_a_renewal_is_renewed_with_the_next(
    sealed: Path, authority: Authority, roots: bytes
) -> None:
    renew(sealed, authority.stamp(renewal_message(sealed)), roots=roots)
    stamp_binding(sealed, authority.stamp(bind(sealed, secret=SECRET, mark="aa" * 32, archives=[])))
    renew(sealed, authority.stamp(renewal_message(sealed)), roots=roots)
    assert set(check_stamps(sealed)) == {"stamp.tsr", "binding.tsr", "renewal-1.tsr", "renewal-2.tsr"}
    assert set(json.loads((sealed / "renewal-2.json").read_bytes())["stamps"]) == {
        "stamp.tsr",
        "binding.tsr",
        "renewal-1.tsr",
    }


def test_a_stamp_that_expired_is_refused_unless_it_was_renewed_before(
    sealed: Path, tmp_path: Path, authority: Authority, roots: bytes
) -> None:
    expired = certificates_expire((sealed / "stamp.tsr").read_bytes()) + timedelta(days=1)
    assert check_stamps(sealed, now=expired - timedelta(days=2))
    with pytest.raises(ClaimError, match=r"stamp\.tsr: a certificate in it expired on .* before it was renewed"):
        check_stamps(sealed, now=expired)
    folder = tmp_path / "longer"
    folder.mkdir()
    make_authority(folder, "Longer TSA", days=90)
    longer = Authority("", folder / "ca.pem", folder)
    renew(sealed, longer.stamp(renewal_message(sealed)), roots=roots + longer.root.read_bytes())
    assert check_stamps(sealed, roots=roots + longer.root.read_bytes(), now=expired)


def test_a_renewal_of_other_stamps_is_refused(sealed: Path, authority: Authority, roots: bytes) -> None:
    renew(sealed, authority.stamp(renewal_message(sealed)), roots=roots)
    message = json.loads((sealed / "renewal-1.json").read_bytes())
    for stamps in ({"stamp.tsr": "00" * 32}, {}, {"stamp.tsr": message["stamps"]["stamp.tsr"], "other.tsr": "00" * 32}):
        altered = canonical_json(message | {"stamps": stamps})
        (sealed / "renewal-1.json").write_bytes(altered)
        (sealed / "renewal-1.tsr").write_bytes(authority.stamp(altered))
        with pytest.raises(ClaimError, match=r"renewal-1\.tsr: does not renew the stamps before it"):
            check_stamps(sealed)


def test_the_first_round_after_the_stamp_is_taken_from_an_address() -> None:
    """No choice of a round is left: the next one is waited for."""
    waited: list[float] = []
    with serving_beacon(period=3) as url:
        after = datetime.now(UTC)
        drawn = fetch_round(url, after=after, wait=waited.append)
    assert after < drawn.published <= after + timedelta(seconds=3)
    assert 0 <= waited[0] <= 3


def test_a_file_without_certificates_is_no_root(tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_text("nothing")
    with pytest.raises(UsageError, match="holds no PEM certificate"):
        read_roots(tmp_path / "root.pem")

"""What an expert hired by the other side tries: every attempt here once went through, or nearly did."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ptynet_plugin.claims import Beacon, Claim, Seal, read_claim, write_claim
from ptynet_plugin.errors import ClaimError, IntegrityError
from ptynet_plugin.evidence import check_bundle as alone
from ptynet_plugin.evidence.beacon import fetch_beacon
from ptynet_plugin.evidence.checking import check_bundle
from ptynet_plugin.evidence.der import read_stamp
from ptynet_plugin.evidence.sealing import seal
from ptynet_plugin.evidence.timestamps import request_stamp
from tests.support.authority import Authority
from tests.support.beacons import beacon_file
from tests.support.bundles import SECRET, make_bundle, make_questions
from tests.support.standins import http_server


def both(bundle: Path) -> tuple[str, str, str]:
    """Verdicts of the two checkers, and what the stand-alone one printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        theirs = alone.check(bundle)
    return check_bundle(bundle).verdict, theirs, printed.getvalue()


def both_refuse(bundle: Path, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        check_bundle(bundle)
    with pytest.raises(alone.Broken, match=message), contextlib.redirect_stdout(io.StringIO()):
        alone.check(bundle)


def sealed_with(folder: Path, authority: Authority, beacon: Beacon | None, **terms: Any) -> Claim:
    """A claim that its owner sealed with whatever round he likes."""
    write_claim(folder, make_questions(symbols=12, reserve=2, **terms).claim)
    return seal(folder, stamp_of(folder, authority), roots=authority.root.read_bytes(), beacon=beacon)


def stamp_of(folder: Path, authority: Authority) -> bytes:
    return authority.stamp(read_claim(folder).commitment)


def test_a_round_of_the_hour_after_the_stamp_draws_the_labels(tmp_path: Path, authority: Authority) -> None:
    write_claim(tmp_path / "claim", make_questions().claim)
    response = stamp_of(tmp_path / "claim", authority)
    file = beacon_file(tmp_path / "round.json", read_stamp(response).time - timedelta(seconds=1))
    drawn = fetch_beacon(str(file), after=read_stamp(response).time)
    seal(tmp_path / "claim", response, roots=authority.root.read_bytes(), beacon=drawn)
    assert read_claim(tmp_path / "claim").allowance == 20
    questions = make_questions(claim_folder=tmp_path / "claim")
    make_bundle(tmp_path / "bundle", tmp_path / "claim", questions)
    ours, theirs, printed = both(tmp_path / "bundle")
    assert (ours, theirs, check_bundle(tmp_path / "bundle").decision.allowance) == ("shown", "shown", 20)
    assert f"opened.json: drawn by round {drawn.round} of loopback" in printed
    assert any("labels" in note and "look it up" in note for note in check_bundle(tmp_path / "bundle").notes)


def test_a_round_that_was_tried_out_after_the_stamp_buys_nothing(tmp_path: Path, authority: Authority) -> None:
    """The owner knows what the suspect answers, and tries rounds until his labels are those answers."""
    write_claim(tmp_path / "claim", make_questions(symbols=12, reserve=2).claim)
    response = stamp_of(tmp_path / "claim", authority)
    unsealed, signature = read_claim(tmp_path / "claim"), read_stamp(response).signature
    answers, order = 3, unsealed.order("run")[:3]  # an innocent that answers class 3 to everything
    for number in itertools.count():
        tried = Beacon("https://api.drand.sh", number, hashlib.sha256(b"%d" % number).digest())
        labels = unsealed.sealed(Seal(signature, tried)).labels(SECRET)
        if (labels[order] == answers).all():
            break
    sealed = seal(tmp_path / "claim", response, roots=authority.root.read_bytes(), beacon=tried)
    assert sealed.allowance == 40  # a round without a time is no round: as if there were none
    make_bundle(tmp_path / "bundle", tmp_path / "claim", make_questions(claim_folder=tmp_path / "claim"), budget=2)
    assert check_bundle(tmp_path / "bundle").decision.allowance == 40
    alone.check(tmp_path / "bundle")


@pytest.mark.parametrize("hours", [-1.0, 1.1, 24.0])
def test_a_round_of_another_hour_is_refused(tmp_path: Path, authority: Authority, hours: float) -> None:
    signature, genesis = b"signed by somebody", int((datetime.now(UTC) + timedelta(hours=hours)).timestamp())
    chosen = Beacon("https://api.drand.sh", 1, hashlib.sha256(signature).digest(), signature, genesis, 3)
    sealed_with(tmp_path / "claim", authority, chosen)
    make_bundle(tmp_path / "bundle", tmp_path / "claim", make_questions(claim_folder=tmp_path / "claim"), budget=2)
    both_refuse(tmp_path / "bundle", "a beacon round")


def test_a_value_that_is_not_its_signatures_hash_is_refused(tmp_path: Path, authority: Authority) -> None:
    chosen = Beacon("https://api.drand.sh", 1, b"\0" * 32, b"signed", int(datetime.now(UTC).timestamp()) + 1, 3)
    sealed_with(tmp_path / "claim", authority, chosen)
    make_bundle(tmp_path / "bundle", tmp_path / "claim", make_questions(claim_folder=tmp_path / "claim"), budget=2)
    both_refuse(tmp_path / "bundle", "round")


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [({}, bytes(1 << 17), "longer than 65536 bytes"), ({"Content-Encoding": "br"}, bytes(9), "compressed")],
)
def test_a_beacon_that_answers_without_end_is_cut_off(headers: dict[str, str], body: bytes, message: str) -> None:
    with http_server(lambda _: (200, headers, body)) as port, pytest.raises(ClaimError, match=message):
        fetch_beacon(f"http://127.0.0.1:{port}/chain/public/latest", after=datetime.now(UTC), timeout=5)


def test_an_authority_that_answers_without_end_is_cut_off() -> None:
    with http_server(lambda _: (200, {}, bytes(1 << 21))) as port, pytest.raises(ClaimError, match="longer than"):
        request_stamp(b"message", f"http://127.0.0.1:{port}/", timeout=5)

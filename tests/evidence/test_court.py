"""What an expert hired by the other side tries: every attempt here once went through, or nearly did."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.fuzz_bundles import Attempt, attempts_on, disagreement
from model_store_tools.cli.main import app
from ptynet_plugin.claims import Beacon, Claim, Ledger, Seal, read_claim, write_claim
from ptynet_plugin.claims.signing import is_signed_by, sign, signer
from ptynet_plugin.errors import ClaimError, IntegrityError
from ptynet_plugin.evidence import check_bundle as alone
from ptynet_plugin.evidence.beacon import fetch_beacon
from ptynet_plugin.evidence.checking import check_bundle
from ptynet_plugin.evidence.der import read_stamp
from ptynet_plugin.evidence.sealing import seal
from ptynet_plugin.evidence.tampering import sign_again
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


@pytest.mark.parametrize("hours", [-1.0, 0.5, 1.1, 24.0])  # half an hour after the stamp is after the run
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


def _small_order() -> dict[str, bytes]:
    """The keys of small order, drawn from the curve itself: Q times any point has one (Q is the order of the large part)."""
    found = {alone.times(alone.Q, point) for point in map(_point, range(2, 40)) if point}
    assert len({y for _, y in found}) == 5, "y of the points of order 1, 2, 4, and two of order 8"
    keys = {
        f"y {str(y)[:6]}, x {'odd' if x % 2 else 'even'}": (y | (x % 2) << 255).to_bytes(32, "little") for x, y in found
    }
    return keys | {
        "order 1, not in its one form": (alone.P + 1).to_bytes(32, "little"),
        "order 1, of the wrong sign": (1 | 1 << 255).to_bytes(32, "little"),
    }


def _point(y: int) -> tuple[int, int] | None:
    with contextlib.suppress(alone.Broken):
        return alone.point(y.to_bytes(32, "little"))
    return None


SMALL_ORDER = _small_order()


@pytest.mark.parametrize("kind", SMALL_ORDER)
def test_no_signature_fits_any_message(kind: str) -> None:
    """Under such a key R = B, S = 1 signs one message in one to eight: whoever commits to it can say it was another man."""
    public, signature = SMALL_ORDER[kind], alone.BASE[1].to_bytes(32, "little") + (1).to_bytes(32, "little")
    identity = (1).to_bytes(32, "little") + bytes(32)
    for forged in (signature, identity):
        for number in range(32):
            message = b"message %d" % number
            assert not is_signed_by(public.hex(), forged, message)
            with contextlib.suppress(alone.Broken):
                assert not alone.is_signed(public, forged, message)


def test_a_signature_has_one_form() -> None:
    """S and S + Q satisfy the same equation (RFC 8032, section 5.1.7): whoever sees one signature could write a second."""
    signed, public = sign(SECRET, b"message"), signer(SECRET)
    assert alone.is_signed(bytes.fromhex(public), signed, b"message")
    twin = signed[:32] + (int.from_bytes(signed[32:], "little") + alone.Q).to_bytes(32, "little")
    assert not is_signed_by(public, twin, b"message")
    with pytest.raises(alone.Broken, match="a signature: not of its form"):
        alone.is_signed(bytes.fromhex(public), twin, b"message")


@pytest.mark.parametrize("form", [str.upper, lambda text: f"{text} ", lambda text: f"{text[:2]} {text[2:]}"])
def test_a_key_has_one_form(form: Callable[[str], str]) -> None:
    signed = sign(SECRET, b"message")
    assert is_signed_by(signer(SECRET), signed, b"message")
    assert not is_signed_by(form(signer(SECRET)), signed, b"message")


def forged(bundle: Path, folder: Path, change: Callable[[Attempt], object]) -> Path:
    """An owner's edit, after which everything agrees and is signed again; numbers may have any form."""
    files = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    attempt = Attempt(files, SECRET)
    change(attempt)
    folder.mkdir()
    attempt.write(folder)
    return folder


def _naive(attempt: Attempt) -> None:
    for line in attempt.documents["transcript.jsonl"]:
        for name in ("started", "at", "finished"):
            if name in line:
                line[name] = line[name].partition("+")[0]


def _head(**changes: Any) -> Callable[[Attempt], object]:
    return lambda attempt: attempt.documents["transcript.jsonl"][0].update(changes)


DISAGREED: dict[str, Callable[[Attempt], object]] = {
    "a number that is no integer": _head(alpha=1e-9),
    "an integer that others round": _head(budget=2**60),
    "not a number": _head(budget=float("nan")),
    "times without a zone": _naive,
    "a time that only some Pythons read": _head(started="2026-W01-1T00:00:00+00:00"),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("court")
    make_bundle(folder / "bundle", folder / "claim", make_questions(symbols=12, reserve=2), budget=2)
    return folder / "bundle"


def test_what_is_written_again_unchanged_stays_valid(plain: Path, tmp_path: Path) -> None:
    ours, theirs, _ = both(forged(plain, tmp_path / "bundle", lambda attempt: None))
    assert ours == theirs == check_bundle(plain).verdict


@pytest.mark.parametrize("name", DISAGREED)
def test_what_one_checker_took_both_refuse(plain: Path, tmp_path: Path, name: str) -> None:
    both_refuse(forged(plain, tmp_path / "bundle", DISAGREED[name]), ".")


@pytest.mark.parametrize("depth", [900, 950, 970, 990, 5000])
def test_nesting_without_end_raises_nothing_but_a_refusal(plain: Path, tmp_path: Path, depth: int) -> None:
    bundle = forged(plain, tmp_path / "bundle", lambda attempt: None)
    payload = b'{"extra":' + b"[" * depth + b"]" * depth + b"}"
    (bundle / "leaves.json").write_bytes(payload)
    sign_again(bundle, secret=SECRET)
    both_refuse(bundle, ".")


def test_a_file_too_large_for_one_checker_is_too_large_for_both(plain: Path, tmp_path: Path) -> None:
    bundle = forged(plain, tmp_path / "bundle", lambda attempt: None)
    with (bundle / "leaves.json").open("ab") as file:
        file.truncate((1 << 26) + 1)
    both_refuse(bundle, r"leaves\.json: .*(larger than 67108864 bytes|too large)")


def test_the_checkers_agree_after_any_edits(plain: Path) -> None:
    """`python -m benchmarks.fuzz_bundles` goes on where this ends."""
    attempt = attempts_on([plain], SECRET)
    assert [found for seed in range(40) if (found := disagreement(attempt(random.Random(seed))))] == []


def test_invented_earlier_hits_show_no_claim(tmp_path: Path) -> None:
    """Thirty hits that nobody can check, and three that a coin of ten sides gives once in a thousand tries."""
    questions = make_questions(symbols=48, reserve=4)
    write_claim(tmp_path / "claim", questions.claim)
    with Ledger(tmp_path / "claim", digest=questions.claim.digest) as ledger:
        run = ledger.register("fake://suspect/model", alpha=1e-9, budget=30, started="2026-01-01T00:00:00+00:00")
        for symbol in questions.order(run.id)[:30]:
            ledger.ask(run, symbol)
            ledger.answer(run, symbol, hit=True)
    assert (
        make_bundle(tmp_path / "bundle", tmp_path / "claim", questions, budget=3) == "shown"
    )  # the run believes its ledger
    ours, theirs, printed = both(tmp_path / "bundle")
    assert ours == theirs == "inconclusive"
    found = check_bundle(tmp_path / "bundle").decision
    assert found.log10_p_adjusted < found.level < found.log10_p_opened == 0.0
    assert "by the opened answers alone: 10^0.0; a claim needs both" in printed
    told = CliRunner().invoke(app, ["claim", "check", str(tmp_path / "bundle")])
    assert told.exit_code == 3
    assert "p = 10^0.0 by the opened answers alone, NOT within the level: and this" in told.output


def test_a_second_run_shows_a_claim_by_itself(tmp_path: Path) -> None:
    questions = make_questions(symbols=60, reserve=4)
    make_bundle(tmp_path / "first", tmp_path / "claim", questions, budget=4)
    assert make_bundle(tmp_path / "second", tmp_path / "claim", questions, budget=40) == "shown"
    ours, theirs, _ = both(tmp_path / "second")
    assert ours == theirs == "shown"
    assert check_bundle(tmp_path / "second").symbols == 29  # as many hits as a first run needs


def test_a_level_that_shows_nothing_shows_no_claim(tmp_path: Path) -> None:
    """p = 0.46 after the keys that may have been tried is "within" an alpha of 0.9."""
    questions = make_questions(symbols=48, reserve=4)
    assert make_bundle(tmp_path / "bundle", tmp_path / "claim", questions, alpha=0.9, budget=20) == "shown"
    ours, theirs, _ = both(tmp_path / "bundle")
    assert ours == theirs == "inconclusive"
    assert check_bundle(tmp_path / "bundle").decision.level == -3.0


def test_a_level_that_shows_nothing_is_no_reason_to_stop_asking(tmp_path: Path) -> None:
    questions = make_questions(symbols=60, reserve=4)
    assert make_bundle(tmp_path / "bundle", tmp_path / "claim", questions, alpha=0.9, budget=50) == "shown"
    ours, theirs, _ = both(tmp_path / "bundle")
    assert ours == theirs == "shown"
    found = check_bundle(tmp_path / "bundle").decision
    assert found.log10_p_adjusted <= found.level == -3.0

"""What a beacon and an authority say, read by both checkers alike, and what is done about those that answer badly."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ptynet_plugin.errors import ClaimError
from ptynet_plugin.evidence import check_bundle as alone
from ptynet_plugin.evidence.beacon import fetch_beacon, fetch_round, told_round
from ptynet_plugin.evidence.der import read_stamp
from tests.support.authority import Authority, make_authority
from tests.support.standins import http_server


def test_a_beacon_that_drips_is_left_after_the_time_limit() -> None:
    """Each piece comes in time, so that only the whole can be late."""

    def drip() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
            for _ in range(20):
                connection.sendall(b" ")
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, daemon=True).start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/chain/public/latest"
        with pytest.raises(ClaimError, match=r"not complete within 0\.5 s"):
            fetch_beacon(address, after=datetime.now(UTC), timeout=0.5)


def test_a_beacon_out_of_order_gives_no_round_whatever_it_says() -> None:
    body = b'{"genesis_time":1600000000,"period":1,"round":1,"randomness":"00"}'
    with http_server(lambda _: (503, {}, body)) as port, pytest.raises(ClaimError, match=r"gave no round.*503"):
        fetch_beacon(f"http://127.0.0.1:{port}/chain/public/latest", after=datetime.now(UTC), timeout=5)


def test_a_beacon_that_begins_far_ahead_is_not_waited_for() -> None:
    waited: list[float] = []
    body = json.dumps({"genesis_time": int(time.time()) + 7200, "period": 3}).encode()
    with (
        http_server(lambda _: (200, {}, body)) as port,
        pytest.raises(ClaimError, match=r"its next round is .* s ahead"),
    ):
        fetch_round(f"http://127.0.0.1:{port}/chain/public/latest", after=datetime.now(UTC), wait=waited.append)
    assert waited == []


MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
DRAWN = b"signed by a beacon"


def a_round(seconds: float = 0, **changes: Any) -> dict[str, Any]:
    """A round that was due so many seconds after `MOMENT`."""
    told = {"source": "loopback", "round": 8, "value": hashlib.sha256(DRAWN).hexdigest(), "signature": DRAWN.hex()}
    return told | {"genesis_time": int(MOMENT.timestamp() + seconds) - 21, "period": 3} | changes


def taken_alone(told: dict[str, Any]) -> bool:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            alone.check_round(told, "here", MOMENT)
    except (alone.Broken, *alone.BAD):
        return False
    return True


@pytest.mark.parametrize(("seconds", "fits"), [(-1, False), (0, True), (3600, True), (3601, False)])
def test_a_round_is_of_the_hour_after_for_both(seconds: int, fits: bool) -> None:
    assert told_round(a_round(seconds)).is_of_the_hour_after(MOMENT) is taken_alone(a_round(seconds)) is fits


@pytest.mark.parametrize(
    "changes",
    [
        {"value": "00" * 32},
        {"value": "", "signature": ""},
        {"round": 8.0},
        {"round": True, "genesis_time": int(MOMENT.timestamp())},
        {"source": 1},
        {"more": ""},
        {"period": 0, "genesis_time": int(MOMENT.timestamp())},
        {"round": 0, "genesis_time": int(MOMENT.timestamp()) + 3},
    ],
    ids=str,
)
def test_an_impossible_round_is_none_for_both(changes: dict[str, Any]) -> None:
    assert not taken_alone(a_round(**changes))
    with pytest.raises(ValueError, match="round"):
        told_round(a_round(**changes))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="absent: openssl, which answers as the authority")
def test_the_checkers_read_the_same_fraction_of_a_second(tmp_path: Path) -> None:
    """One of them cut it off: a round of the same second was of before the stamp for one, and of after it for the other."""
    make_authority(tmp_path, "Precise TSA")
    with (tmp_path / "tsa.cnf").open("a") as settings:
        settings.write("clock_precision_digits = 6\n")
    stamp = Authority("", tmp_path / "ca.pem", tmp_path).stamp(b"message")
    read = read_stamp(stamp)
    with contextlib.redirect_stdout(io.StringIO()):
        found = alone.read_stamp({"a.tsr": stamp, "a": b"message"}, "a.tsr", "a")
    assert found == (read.time, read.signature)
    assert read.time.microsecond != 0

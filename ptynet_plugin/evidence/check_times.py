"""When was what fixed? A bundle's stamps, its beacon round and its hand-over, and the grade that follows from them.

claim stamped ≤ header stamped ≤ beacon round ≤ first question ... verdict ≤ transcript stamped
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from ptynet_plugin.claims.canonical import canonical_json
from ptynet_plugin.errors import ClaimError, IntegrityError
from ptynet_plugin.evidence.beacon import Round, told_round
from ptynet_plugin.evidence.bundle import HANDED_OVER, Bundle
from ptynet_plugin.evidence.der import read_stamp
from ptynet_plugin.evidence.framing import AFTER, BEFORE, HEADER, RUN_ROOT, SKEW
from ptynet_plugin.evidence.grades import grade_of
from ptynet_plugin.evidence.sealing import BINDING_STAMP, STAMP, check_stamps
from ptynet_plugin.evidence.timestamps import verify_stamp

__all__ = ["check_times"]

_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3}|\.[0-9]{6})?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_FAR_BACK = datetime(2000, 1, 1, tzinfo=UTC)


def check_times(
    bundle: Bundle, *, roots: bytes | None, now: datetime | None = None
) -> tuple[dict[str, datetime], bytes, str]:
    """Check everything that has a time.

    Args:
        bundle: As read, its chain checked.
        roots: PEM certificates that the checker trusts; the bundle's own where None.
        now: The time of the check; the present where None.

    Returns:
        File name to time of every stamp; the beacon's octets (b"" without); the grade.

    Raises:
        IntegrityError: With the first link that does not hold.
    """
    head, last = bundle.lines[0], bundle.lines[-1]
    started = _time(head["started"])
    times = _claims_stamps(bundle, roots, started, now)
    framed = _runs_stamps(bundle, roots, times.get(STAMP, _FAR_BACK))
    opened = max(started, framed.get(BEFORE, _FAR_BACK))
    drawn = _beacon(bundle, opened)
    asked = [_time(line["at"]) for line in bundle.lines if line["entry"] == "question"]
    first_allowed = max(opened, drawn.published if drawn else opened) - SKEW
    if any(at < first_allowed for at in asked):
        raise IntegrityError("transcript.jsonl: asked before its header was stamped or its order drawn")
    if AFTER in framed and _time(last["finished"]) > framed[AFTER] + SKEW:
        raise IntegrityError(f"{BEFORE}, {AFTER}: not around the run, whose verdict is later")
    _check_handover(bundle, drawn)
    grade = grade_of(
        claim_stamped=bundle.seal is not None, run_stamped=bool(framed), witnessed=bundle.handover is not None
    )
    if not grade == last["grade"] == bundle.predicate["grade"]:
        raise IntegrityError(f"transcript.jsonl: calls itself {last['grade']!r}, it is {grade!r}")
    return times | framed, bytes.fromhex(drawn.value) if drawn else b"", grade


def _time(text: str) -> datetime:
    """Read a time as this project writes it: what else Python's versions read as one differs between them."""
    if _TIME.fullmatch(text) is None:
        raise IntegrityError(f"{text[:40]!r}: no time with its zone")
    return datetime.fromisoformat(text)


def _claims_stamps(bundle: Bundle, roots: bytes | None, started: datetime, now: datetime | None) -> dict[str, datetime]:
    if (bundle.seal is None) != (STAMP not in bundle.files):
        raise IntegrityError(f"{STAMP}: the seal and the stamp do not belong together")
    if bundle.seal is None:
        return {}
    times = check_stamps(bundle.folder, roots=roots, now=now)
    if read_stamp(bundle.files[STAMP]).signature != bundle.seal[0]:
        raise IntegrityError(f"{STAMP}: another stamp than the labels were drawn with")
    if times[STAMP] > started:
        raise IntegrityError(f"{STAMP}: later than the run that rests on it: a back-dated commitment")
    _check_claims_beacon(bundle, times[STAMP], started)
    if times.get(BINDING_STAMP, times[STAMP]) < times[STAMP]:
        raise IntegrityError(f"{BINDING_STAMP}: earlier than {STAMP}")
    return times


def _check_claims_beacon(bundle: Bundle, stamped: datetime, started: datetime) -> None:
    """Make sure that the labels' beacon round was nobody's choice: of the hour after the stamp, and known before the run."""
    if bundle.beacon is None or not bundle.beacon.get("period"):  # undated: it buys no smaller allowance
        return
    drawn = told_round(bundle.beacon)
    if not drawn.is_of_the_hour_after(stamped) or drawn.published > started:
        raise IntegrityError(
            f"opened.json: the labels are drawn by a beacon round of {drawn.published:%Y-%m-%d %H:%M:%S} UTC, not of the hour "
            f"after the stamp of {stamped:%Y-%m-%d %H:%M:%S} and before the run"
        )


def _runs_stamps(bundle: Bundle, roots: bytes | None, claimed: datetime) -> dict[str, datetime]:
    if bundle.files.get(HEADER) != canonical_json(bundle.lines[0]):
        raise IntegrityError(f"{HEADER}: not the header of the transcript")
    present = [name for name in (BEFORE, AFTER) if name in bundle.files]
    if not present:
        return {}
    if len(present) == 1 or bundle.seal is None:
        raise IntegrityError(f"{BEFORE}: without its counterpart, or under an unstamped claim")
    times = {}
    for name, message in ((BEFORE, HEADER), (AFTER, "transcript.jsonl")):
        try:
            stamp, _ = verify_stamp(bundle.files[name], bundle.files[message], roots=roots or bundle.files[RUN_ROOT])
        except ClaimError as error:
            raise IntegrityError(f"{name}: {error}") from None
        times[name] = stamp.time
    if not claimed <= times[BEFORE] <= times[AFTER]:
        raise IntegrityError(f"{BEFORE}, {AFTER}: not around the run, or before the claim's stamp")
    return times


def _beacon(bundle: Bundle, opened: datetime) -> Round | None:
    if len(bundle.lines) < 2 or bundle.lines[1]["entry"] != "beacon":
        return None
    told: dict[str, Any] = {name: value for name, value in bundle.lines[1].items() if name not in ("entry", "previous")}
    drawn = told_round(told)
    if not drawn.is_of_the_hour_after(opened):
        raise IntegrityError(
            f"transcript.jsonl, line 2: a beacon round of {drawn.published:%Y-%m-%d %H:%M:%S} UTC, not of the hour after the "
            f"header of {opened:%Y-%m-%d %H:%M:%S}"
        )
    return drawn


def _check_handover(bundle: Bundle, drawn: Round | None) -> None:
    told, head = bundle.handover, bundle.lines[0]
    if told is None:
        return
    if drawn is None:
        raise IntegrityError(f"{HANDED_OVER}: a witness's order is drawn by a beacon, and here is none")
    for name, said in (("claim", head["claim"]), ("endpoint", head["endpoint"]), ("alpha", head["alpha"])):
        if told[name] != said:
            raise IntegrityError(f"{HANDED_OVER}: was made for another {name} than {said}")
    if head["number"] != told["number"]:
        raise IntegrityError(f"{HANDED_OVER}: is test {told['number']} of the claim, not {head['number']}")
    if _time(told["made"]) - SKEW > _time(head["started"]):
        raise IntegrityError(f"{HANDED_OVER}: made after the run that rests on it")

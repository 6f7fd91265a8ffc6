"""Evidence bundles: both checkers reach the verdict of every valid one, and no other run can be made one."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from ptynet_plugin.claims import Ledger, write_claim
from ptynet_plugin.claims.terms import CopyTerms
from ptynet_plugin.errors import ClaimError, UsageError
from ptynet_plugin.evidence import check_bundle as alone
from ptynet_plugin.evidence.checking import check_bundle
from ptynet_plugin.evidence.opening import owner_opens
from ptynet_plugin.evidence.writer import BundleWriter
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.statistics.class_map import ClassMap
from ptynet_plugin.verification.questions import Questions
from ptynet_plugin.verification.runner import run_protocol
from tests.support.bundles import (
    KEY,
    SECRET,
    SPEC,
    Suspect,
    make_bundle,
    make_questions,
    run_alone,
)


@pytest.mark.parametrize(
    ("form", "covers"), [("tensor", 1), ("tensor", 3), ("json", 1), ("png", 1), ("base64", 1), ("jpeg", 1)]
)
def test_both_checkers_agree_on_what_was_shown(tmp_path: Path, form: str, covers: int) -> None:
    verdict = make_bundle(
        tmp_path / "bundle", tmp_path / "claim", make_questions(covers=covers, symbols=36), form=form, budget=90
    )
    checked = check_bundle(tmp_path / "bundle")
    assert verdict == checked.verdict == alone.check(tmp_path / "bundle") == "shown"
    assert (checked.symbols, checked.hits) == (29, 29)
    assert any("JPEG" in note for note in checked.notes) == (form == "jpeg")


@pytest.mark.parametrize(
    "spec",
    [
        SPEC.model_copy(update={"layout": "NHWC", "color": "BGR"}),
        SPEC.model_copy(update={"dtype": "float16"}),
        InputSpec(color="RGB", output="logits", classes=10, size=(16, 16), dtype="uint8"),
        InputSpec(color="RGB", output="logits", classes=10, size=(0, 0), dtype="float64", scale=0.5),
    ],
    ids=["nhwc bgr", "float16", "uint8", "dynamic float64"],
)
def test_requests_are_compared_in_every_form_of_tensor(tmp_path: Path, spec: InputSpec) -> None:
    make_bundle(tmp_path / "bundle", tmp_path / "claim", make_questions(spec=spec, symbols=16), budget=12)
    checked = check_bundle(tmp_path / "bundle")
    assert checked.decision.raw == "shown"
    assert checked.verdict == alone.check(tmp_path / "bundle") == "inconclusive"


@pytest.mark.parametrize(
    ("marked", "budget", "verdict", "code"), [(False, 40, "not-shown", 1), (True, 9, "inconclusive", 3)]
)
def test_both_checkers_agree_on_what_was_not_shown(
    tmp_path: Path, marked: bool, budget: int, verdict: str, code: int
) -> None:
    questions = make_questions()
    bundle, claim = tmp_path / "bundle", tmp_path / "claim"
    found = make_bundle(bundle, claim, questions, faithful=lambda symbol: marked, budget=budget)
    assert found == check_bundle(tmp_path / "bundle").verdict == alone.check(tmp_path / "bundle") == verdict
    (tmp_path / "empty").mkdir()
    assert run_alone(tmp_path / "bundle", tmp_path / "empty").returncode == code


@pytest.mark.parametrize(
    ("classes", "rate", "asked"), [(10, 0.2, range(56)), (9, 1 / 9, range(60, 96)), (1000, 0.002, range(56))]
)
def test_claims_for_copies_show_ownership_by_pairs_or_by_single_labels(
    tmp_path: Path, classes: int, rate: float, asked: range
) -> None:
    spec = SPEC.model_copy(update={"classes": classes, "size": (8, 8)})
    copies = CopyTerms(positions=56, quick=4, coalition=2)
    questions = make_questions(spec=spec, symbols=100, reserve=4, copies=copies)
    verdict = make_bundle(tmp_path / "bundle", tmp_path / "claim", questions, budget=60)
    checked = check_bundle(tmp_path / "bundle")
    assert verdict == checked.verdict == alone.check(tmp_path / "bundle") == "shown"
    assert checked.null_rate == pytest.approx(rate)
    opened = {entry["symbol"] for entry in json.loads((tmp_path / "bundle" / "leaves.json").read_bytes())}
    assert opened <= set(asked)


def test_a_second_run_continues_the_first_and_opens_other_leaves(tmp_path: Path) -> None:
    questions = make_questions(symbols=72)  # a claim is shown by the opened answers of each alone
    make_bundle(tmp_path / "one", tmp_path / "claim", questions)
    make_bundle(tmp_path / "two", tmp_path / "claim", questions)
    for name in ("one", "two"):
        assert check_bundle(tmp_path / name).verdict == alone.check(tmp_path / name) == "shown"
    opened = [
        {entry["symbol"] for entry in json.loads((tmp_path / name / "leaves.json").read_bytes())}
        for name in ("one", "two")
    ]
    assert not opened[0] & opened[1]


def test_opened_leaves_are_spent_for_every_endpoint(tmp_path: Path) -> None:
    questions = make_questions()
    make_bundle(tmp_path / "one", tmp_path / "claim", questions)
    opened = [entry["symbol"] for entry in json.loads((tmp_path / "one" / "leaves.json").read_bytes())]
    with Ledger(tmp_path / "claim", digest=questions.claim.digest) as ledger:
        run = ledger.register("elsewhere", alpha=1e-9, budget=10, started="2026-01-01T00:00:00Z")
        assert run.disclosed == frozenset(opened)
        with pytest.raises(ClaimError, match="was opened in evidence"):
            ledger.ask(run, opened[0])


def test_the_reserve_and_the_secrets_stay_closed(shown: Path) -> None:
    octets = b"".join(path.read_bytes() for path in sorted(shown.rglob("*")) if path.is_file())
    for secret in (KEY.secret, SECRET, KEY.probe_secret()):
        for form in (secret, secret.hex().encode(), base64.b64encode(secret)):
            assert form not in octets
    nonces = make_questions().claim.nonces(SECRET)
    asked = {entry["symbol"] for entry in json.loads((shown / "leaves.json").read_bytes())}
    for symbol, nonce in enumerate(nonces):
        assert (nonce.hex().encode() in octets) == (symbol in asked)
    assert max(asked) < 42


def test_evidence_needs_the_claims_own_key_and_a_folder_of_its_own(tmp_path: Path) -> None:
    questions = make_questions()
    stranger = Questions(questions.claim, OwnerKey(bytes(32)))
    write_claim(tmp_path / "claim", questions.claim)
    opener = owner_opens(questions.claim, tmp_path / "claim", secret=SECRET)
    with pytest.raises(UsageError, match="did not make the claim"):
        BundleWriter(tmp_path / "bundle", stranger, opener)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "envelope.json").write_text("{}")
    with pytest.raises(UsageError, match="holds something else already"):
        BundleWriter(tmp_path / "used", questions, opener)


def test_a_rehearsal_and_a_run_that_was_not_witnessed_are_no_evidence(tmp_path: Path) -> None:
    questions = make_questions()
    write_claim(tmp_path / "claim", questions.claim)
    opener = owner_opens(questions.claim, tmp_path / "claim", secret=SECRET)
    writer = BundleWriter(tmp_path / "bundle", questions, opener)
    rehearsal = run_protocol(Suspect(questions), questions)
    with Ledger(tmp_path / "claim", digest=questions.claim.digest) as ledger:
        with pytest.raises(UsageError, match="a rehearsal is no evidence"):
            writer.finish(rehearsal, ledger)
        unseen = run_protocol(Suspect(questions), questions, ledger=ledger)
        with pytest.raises(UsageError, match="was not begun here"):
            writer.finish(unseen, ledger)


@pytest.mark.parametrize("classes", [10, 9])
def test_what_a_trace_asked_here_before_does_not_spoil_a_bundle(tmp_path: Path, classes: int) -> None:
    """The header lists what the run counts: of a claim for copies the symbols that show ownership, and no others."""
    spec = SPEC.model_copy(update={"classes": classes, "size": (8, 8)})
    questions = make_questions(spec=spec, symbols=100, reserve=4, copies=CopyTerms(positions=48, quick=4, coalition=2))
    claim, terms = tmp_path / "claim", questions.claim.terms
    write_claim(claim, questions.claim)
    with Ledger(claim, digest=questions.claim.digest) as ledger:
        trace = ledger.register("fake://suspect/model", alpha=1e-6, budget=10, started="2026-01-01T00:00:00+00:00")
        for symbol in (*terms.quick, 0, terms.singles.start):
            ledger.ask(trace, symbol)
            ledger.answer(trace, symbol, hit=symbol in terms.ownership, answer=0)
    assert make_bundle(tmp_path / "bundle", claim, questions, budget=60) == "shown"
    assert check_bundle(tmp_path / "bundle").verdict == alone.check(tmp_path / "bundle") == "shown"


def test_answers_read_through_a_class_map_stop_a_bundle_before_it_asks(tmp_path: Path) -> None:
    """Each had a null rate of its own, which a bundle does not carry: its numbers could not be recomputed."""
    questions = make_questions()
    write_claim(tmp_path / "claim", questions.claim)
    mapped = Questions(questions.claim, KEY, class_map=ClassMap((0, 0, *range(2, 10))))
    with Ledger(tmp_path / "claim", digest=questions.claim.digest) as ledger:
        run_protocol(Suspect(mapped), mapped, ledger=ledger, budget=20)
        asked = len(ledger.history.runs()[0].own)
    with pytest.raises(UsageError, match=f"{asked} symbols were asked at fake://suspect/model through a class map"):
        make_bundle(tmp_path / "bundle", tmp_path / "claim", questions)
    with Ledger(tmp_path / "claim", digest=questions.claim.digest) as ledger:
        assert [len(run.own) for run in ledger.history.runs()] == [asked, 0]
        assert not ledger.history.runs()[-1].disclosed


def test_both_checkers_say_what_counts_on_the_claimants_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = make_questions()
    write_claim(tmp_path / "claim", questions.claim)
    with Ledger(tmp_path / "claim", digest=questions.claim.digest) as ledger:
        run_protocol(Suspect(questions), questions, ledger=ledger, budget=12)
    make_bundle(tmp_path / "bundle", tmp_path / "claim", questions)
    told = "10 hits of 10 earlier answers, unopened, on his word"
    assert told in check_bundle(tmp_path / "bundle").notes
    alone.check(tmp_path / "bundle")
    assert told in capsys.readouterr().out

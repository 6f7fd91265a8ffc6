"""Claims kept for ever: what an old version wrote reads back, and the same inputs still make it, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ptynet_plugin.claims import Beacon, Claim, Seal, commit, read_claim
from ptynet_plugin.errors import ClaimError
from ptynet_plugin.images.probes import ProbeDesign, ProbeMaker
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.spec import InputSpec

VECTORS = Path(__file__).parents[1] / "vectors"
KEY = OwnerKey(bytes(range(32)))
SECRET = KEY.epoch_secret()

INVALID = {
    "edited-tau": "does not open commitment.json",
    "swapped-leaves": "Merkle root",
    "swapped-commitment": "does not open commitment.json",
    "key-twice": "a key stands there twice",
    "missing-leaves": "leaves.json: missing",
    "too-few-leaves": "its fields state 12 symbols",
    "float-in-fields": "is no integer",
}


def make_kept_claim() -> Claim:
    maker = ProbeMaker(KEY.probe_secret(), ProbeDesign(color="RGB", bits=64, symbols=12, strength=128))
    spec = InputSpec(
        color="RGB",
        output="logits",
        classes=10,
        layout="NCHW",
        dtype="float32",
        size=(32, 32),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.247, 0.2435, 0.2616),
        input="pixels",
        scores="scores",
    )
    return commit(SECRET, maker.probe, design=maker.design, spec=spec, target_digest="5a" * 32, tau=0.84, margin=0.2)


def facts_of(claim: Claim) -> dict[str, object]:
    """Everything that a later version must still derive."""
    stamped = claim.sealed(Seal(b"stamp"))
    beaconed = claim.sealed(Seal(b"stamp", Beacon("beacon", 1, b"round")))
    return {
        "digest": claim.digest,
        "nonces": [nonce.hex() for nonce in claim.nonces(SECRET)],
        "labels": claim.labels(SECRET).tolist(),
        "labels stamped": stamped.labels(SECRET).tolist(),
        "labels stamped with beacon": beaconed.labels(SECRET).tolist(),
        "order of run 00": claim.order("00"),
        "order of run 00 with beacon": claim.order("00", beacon=b"round"),
        "archive commitment": claim.archive_commitment(SECRET, "resnet18/triton"),
    }


def test_the_kept_claim_reads_back_and_gives_the_same_facts() -> None:
    kept = VECTORS / "valid" / "claims" / "cifar10"
    assert facts_of(read_claim(kept)) == json.loads((kept / "expected.json").read_text())


def test_the_same_key_and_terms_still_make_the_kept_claim() -> None:
    assert make_kept_claim() == read_claim(VECTORS / "valid" / "claims" / "cifar10")


@pytest.mark.parametrize("name", sorted(INVALID))
def test_invalid_claims_are_refused_for_their_defect(name: str) -> None:
    with pytest.raises(ClaimError, match=INVALID[name]):
        read_claim(VECTORS / "invalid" / "claims" / name)


def test_every_kept_invalid_claim_is_tested() -> None:
    assert {path.name for path in (VECTORS / "invalid" / "claims").iterdir()} == set(INVALID)

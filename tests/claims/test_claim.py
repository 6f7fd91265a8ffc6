"""A claim fixes everything, hides everything, and is the same for ever."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
from collections import Counter

import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from ptynet_plugin.claims import Beacon, Claim, Seal
from ptynet_plugin.claims.canonical import canonical_json, parse_json, without_floats
from ptynet_plugin.claims.commitment import Opening
from ptynet_plugin.errors import ClaimError
from ptynet_plugin.images.probes import ProbeDesign
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.spec import InputSpec
from tests.support.small_claims import SECRET, flat_probe, make_claim


def test_the_same_input_gives_the_same_claim(claim: Claim) -> None:
    assert make_claim().commitment == claim.commitment
    assert make_claim().digest == hashlib.sha256(claim.commitment).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"target_digest": "cd" * 32},
        {"tau": 0.83},
        {"margin": 0.19},
        {"covers": 2},
        {"epoch": 1},
        {"reserve": 5},
        {"secret": bytes(32)},
        {"design": ProbeDesign(color="RGB", bits=64, symbols=25)},
        {"design": ProbeDesign(color="RGB", bits=64, symbols=24, strength=120)},
        {"spec": InputSpec(color="RGB", output="logits", classes=11, size=(8, 8))},
        {"spec": InputSpec(color="RGB", output="probabilities", classes=10, size=(8, 8))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_term_is_committed_to_and_changes_every_label(claim: Claim, change: dict[str, object]) -> None:
    other = make_claim(**change)
    assert other.digest != claim.digest
    secret = change.get("secret", SECRET)
    assert np.any(other.labels(secret)[:24] != claim.labels(SECRET))


def test_no_two_claims_share_the_hash_of_a_field(claim: Claim) -> None:
    """Not even where the field's value is the same: hashes that repeat would link an owner's claims."""
    others = [make_claim(target_digest="cd" * 32), make_claim(secret=bytes(32))]
    hashes_seen = Counter(
        digest for one in (claim, *others) for digest in json.loads(one.commitment)["fields"].values()
    )
    assert max(hashes_seen.values()) == 1


def test_the_commitment_hides_its_values(claim: Claim) -> None:
    """Whoever guesses a value cannot confirm the guess: the field's hash is keyed with 256 unknown bits."""
    seen = json.loads(claim.commitment)["fields"]["classes"]
    guesses = [canonical_json(10), b"10", b"classes10"]
    assert all(hashlib.sha256(guess).hexdigest() != seen for guess in guesses)
    assert all(len(opening.nonce) == 32 for opening in claim.openings.values())
    assert len({opening.nonce for opening in claim.openings.values()}) == len(claim.openings)


def test_leaves_are_what_a_judge_computes_with_hashlib_alone(claim: Claim) -> None:
    for symbol in (0, 7, 23):
        info = b"ptynet/leaf-nonce/v1\0" + b"s" + len(str(symbol)).to_bytes(4, "big") + str(symbol).encode()
        nonce = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(SECRET)
        pixels = hashlib.sha256(flat_probe(symbol, 0, (8, 8)).tobytes()).digest()
        parts = [(b"s", b"leaf/v1"), (b"b", nonce), (b"i", str(symbol).encode()), (b"b", pixels)]
        octets = b"".join(kind + len(content).to_bytes(8, "big") + content for kind, content in parts)
        assert claim.leaves[symbol] == hashlib.sha256(octets).digest()


def test_labels_are_what_a_judge_computes_with_hmac_alone(claim: Claim) -> None:
    salt = hashlib.sha256(claim.commitment).digest()
    labels = claim.labels(SECRET)
    for symbol, nonce in enumerate(claim.nonces(SECRET)):
        parts = [(b"s", b"label/v1"), (b"b", salt), (b"s", b"ab" * 32), (b"i", b"10"), (b"i", str(symbol).encode())]
        octets = b"".join(kind + len(content).to_bytes(8, "big") + content for kind, content in [*parts, (b"i", b"0")])
        block = hmac.digest(nonce, octets, "sha256")
        drawn = [int.from_bytes(block[at : at + 8], "big") for at in (0, 8, 16, 24)]
        assert labels[symbol] == next(word for word in drawn if word < 2**64 // 10 * 10) % 10


def test_several_covers_are_hashed_into_one_leaf() -> None:
    claim = make_claim(covers=3)
    pictures = [flat_probe(5, cover, (8, 8)) for cover in range(3)]
    claim.check_probes(SECRET, 5, pictures)
    with pytest.raises(ClaimError, match="symbol 5 are not the committed ones"):
        claim.check_probes(SECRET, 5, pictures[::-1])


def test_probes_with_one_grey_level_changed_are_not_the_committed_ones(claim: Claim) -> None:
    picture = flat_probe(3, 0, (8, 8)).copy()
    picture[2, 2, 1] ^= 1
    with pytest.raises(ClaimError, match="--covers"):
        claim.check_probes(SECRET, 3, [picture])


def test_an_unstamped_claim_is_salted_with_its_own_hash_and_pays_the_highest_allowance(claim: Claim) -> None:
    assert claim.salt == bytes.fromhex(claim.digest)
    assert claim.allowance == 64


def test_stamp_and_beacon_change_every_label_and_lower_the_allowance(claim: Claim) -> None:
    stamped = claim.sealed(Seal(b"signature"))
    beaconed = claim.sealed(Seal(b"signature", Beacon("drand", 5, b"\1" * 32, b"", 1_600_000_000, 30)))
    assert (stamped.allowance, beaconed.allowance) == (40, 20)
    assert stamped.digest == beaconed.digest == claim.digest
    assert len({claim.salt, stamped.salt, beaconed.salt}) == 3
    tables = [one.labels(SECRET).tolist() for one in (claim, stamped, beaconed)]
    assert tables[0] != tables[1] != tables[2] != tables[0]
    with pytest.raises(ClaimError, match="stamped already"):
        stamped.sealed(Seal(b"another"))


def test_stamp_and_beacon_cannot_be_traded_for_one_another(claim: Claim) -> None:
    assert (
        claim.sealed(Seal(b"ab", Beacon("drand", 1, b"c"))).salt
        != claim.sealed(Seal(b"a", Beacon("drand", 1, b"bc"))).salt
    )


def test_a_claim_belongs_to_one_secret(claim: Claim) -> None:
    assert claim.belongs_to(SECRET)
    assert not claim.belongs_to(bytes(32))
    assert not claim.belongs_to(OwnerKey(SECRET).epoch_secret())


def test_order_is_a_permutation_that_run_beacon_and_claim_decide(claim: Claim) -> None:
    order = claim.order("run-1")
    assert sorted(order) == list(range(21))
    assert order == claim.order("run-1")
    others = [claim.order("run-2"), claim.order("run-1", beacon=b"x"), make_claim(tau=0.8).order("run-1")]
    assert all(order != other for other in others)


def test_orders_are_uniform_over_runs() -> None:
    claim = make_claim(design=ProbeDesign(color="RGB", bits=64, symbols=4), reserve=1)
    seen = Counter(tuple(claim.order(f"run-{place}")) for place in range(3000))
    assert len(seen) == 6
    assert max(abs(count - 500) for count in seen.values()) < 5 * 500**0.5


def test_the_reserve_is_asked_by_a_witnessed_run_alone(claim: Claim) -> None:
    assert claim.terms.reserve == 3
    assert sorted(claim.order("run", reserve=True)) == [21, 22, 23]
    assert not set(claim.order("run")) & {21, 22, 23}


def test_archives_of_one_claim_share_no_value(claim: Claim) -> None:
    seen = {claim.archive_commitment(SECRET, name) for name in ("a/triton", "a/torchserve", "b/triton")}
    assert len(seen) == 3
    assert claim.digest not in seen
    assert claim.archive_commitment(SECRET, "a/triton") in seen


def test_terms_read_back_what_was_committed(claim: Claim) -> None:
    terms = claim.terms
    assert (terms.classes, terms.symbols, terms.covers, terms.size) == (10, 24, 1, (8, 8))
    assert (terms.tau, terms.margin) == (0.84, 0.2)
    assert terms.spec == make_claim().terms.spec
    assert terms.spec.mean == (0.5, 0.4, 0.3)
    assert claim.design == ProbeDesign(color="RGB", bits=64, symbols=24)


def test_dynamic_sizes_are_committed_at_224() -> None:
    spec = InputSpec(color="RGB", output="logits", classes=10, size=(0, 16))
    claim = make_claim(spec=spec, design=ProbeDesign(color="RGB", bits=64, symbols=2))
    assert claim.terms.size == (224, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec": InputSpec(color="RGB", output="logits")}, "number of classes"),
        ({"reserve": 24}, "leaves nothing of 24 symbols"),
        ({"covers": 0}, "covers: "),
        ({"tau": 0.0}, "tau: "),
        ({"epoch": -1}, "epoch: "),
        ({"target_digest": ""}, "target: "),
    ],
)
def test_contradictory_terms_are_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ClaimError, match=message):
        make_claim(**change)


def test_leaves_that_do_not_have_the_root_are_refused(claim: Claim) -> None:
    swapped = (claim.leaves[1], claim.leaves[0], *claim.leaves[2:])
    with pytest.raises(ClaimError, match="Merkle root"):
        dataclasses.replace(claim, leaves=swapped)
    with pytest.raises(ClaimError, match="has 23 leaves, its fields state 24"):
        dataclasses.replace(claim, leaves=claim.leaves[:-1])


def test_spec_and_classes_cannot_disagree(claim: Claim) -> None:
    openings = dict(claim.openings) | {"classes": Opening(11, bytes(32))}
    with pytest.raises(ClaimError, match="the claim has 11 classes, its spec 10"):
        dataclasses.replace(claim, openings=openings)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(value=json_values)
def test_canonical_json_reads_back_and_has_one_form(value: object) -> None:
    octets = canonical_json(value)
    assert parse_json(octets, where="here") == value
    assert canonical_json(parse_json(octets, where="here")) == octets
    assert octets.isascii()


@given(value=st.floats(allow_nan=False))
def test_floats_stand_as_text_that_reads_back_as_the_same_double(value: float) -> None:
    assert float(without_floats({"x": [value]})["x"][0]) == value


@pytest.mark.parametrize("value", [1.5, {1: 2}, {"a": {"b": b""}}, [object()]])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


def test_integers_beyond_a_double_are_refused() -> None:
    with pytest.raises(ValueError, match="beyond 2"):
        canonical_json(2**53)


@pytest.mark.parametrize(
    "octets",
    [b"{", b'{"a":1,"a":2}', b"1.5", b"NaN", b"[" * 200_000, b"\xff", b"1" * 5000, b""],
    ids=["cut", "key twice", "float", "nan", "deep", "no utf-8", "huge integer", "empty"],
)
def test_json_of_an_adversary_is_refused_with_its_place(octets: bytes) -> None:
    with pytest.raises(ClaimError, match="somewhere: not the JSON"):
        parse_json(octets, where="somewhere")

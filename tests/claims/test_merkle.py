"""The tree is RFC 9162's, and a proof proves one leaf at one place and nothing else."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptynet_plugin.claims.merkle import inclusion_proof, is_included, merkle_root

leaf_lists = st.lists(st.binary(max_size=8), min_size=1, max_size=40)


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + by_definition(leaves[:k]) + by_definition(leaves[k:])).digest()


@pytest.mark.parametrize("count", range(20))
def test_root_is_the_one_of_rfc_9162(count: int) -> None:
    leaves = [bytes([place]) for place in range(count)]
    assert merkle_root(leaves) == by_definition(leaves)


def test_roots_of_certificate_transparency_are_reproduced() -> None:
    """The published test tree of Certificate Transparency (leaves of 0 to 16 octets)."""
    leaves = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
    assert merkle_root(leaves[:1]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert merkle_root(leaves[:2]).hex() == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    assert merkle_root(leaves[:7]).hex() == "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"


@given(leaves=leaf_lists, place=st.integers(0, 39))
def test_every_leaf_is_shown_at_its_own_place_alone(leaves: list[bytes], place: int) -> None:
    place %= len(leaves)
    proof, root = inclusion_proof(leaves, place), merkle_root(leaves)
    assert is_included(leaves[place], place, len(leaves), proof, root)
    for other in range(len(leaves)):
        if leaves[other] != leaves[place]:
            assert not is_included(leaves[other], place, len(leaves), proof, root)
        if other != place and len(proof) and leaves[other] != leaves[place]:
            assert not is_included(leaves[place], other, len(leaves), proof, root)


@given(leaves=leaf_lists, place=st.integers(0, 39), at=st.integers(0, 200), bit=st.integers(0, 7))
def test_a_proof_with_one_bit_flipped_shows_nothing(leaves: list[bytes], place: int, at: int, bit: int) -> None:
    place %= len(leaves)
    proof, root = inclusion_proof(leaves, place), merkle_root(leaves)
    if not proof:
        return
    octets = bytearray(b"".join(proof))
    octets[at % len(octets)] ^= 1 << bit
    broken = [bytes(octets[start : start + 32]) for start in range(0, len(octets), 32)]
    assert not is_included(leaves[place], place, len(leaves), broken, root)


def test_proofs_that_are_too_short_too_long_or_of_no_place_show_nothing() -> None:
    leaves = [bytes([place]) for place in range(7)]
    proof, root = inclusion_proof(leaves, 3), merkle_root(leaves)
    assert not is_included(leaves[3], 3, 7, proof[:-1], root)
    assert not is_included(leaves[3], 3, 7, [*proof, proof[0]], root)
    assert not is_included(leaves[3], 7, 7, proof, root)
    assert not is_included(leaves[3], -1, 7, proof, root)
    with pytest.raises(IndexError, match="leaf 7 of 7"):
        inclusion_proof(leaves, 7)


def test_an_inner_node_is_no_leaf_and_an_odd_leaf_is_not_doubled() -> None:
    a, b, c = b"a", b"b", b"c"
    inner = hashlib.sha256(b"\x00a").digest() + hashlib.sha256(b"\x00b").digest()
    assert merkle_root([inner]) != merkle_root([a, b])
    assert merkle_root([a, b, c]) != merkle_root([a, b, c, c])

"""A Merkle tree over the probes' leaves: one root commits to all, one short proof opens one.

Leaves and inner nodes are hashed under different prefixes and an odd node is carried up, never doubled, as in Certificate
Transparency (RFC 9162, section 2.1): no inner node can be passed off as a leaf and no two lists of leaves share a root.

    root()        = SHA-256("")
    root(d)       = SHA-256(0x00 || d)
    root(D[0:n])  = SHA-256(0x01 || root(D[0:k]) || root(D[k:n])), k the largest power of two below n
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

__all__ = ["inclusion_proof", "is_included", "merkle_root"]


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Give the root over the leaves in their order: 32 bytes."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = [_leaf(leaf) for leaf in leaves]
    while len(level) > 1:
        level = _next_level(level)
    return level[0]


def inclusion_proof(leaves: Sequence[bytes], place: int) -> list[bytes]:
    """Give the sibling hashes from the leaf at `place` up to the root.

    Raises:
        IndexError: `place` is not a place of the list.
    """
    if not 0 <= place < len(leaves):
        raise IndexError(f"leaf {place} of {len(leaves)}")
    proof, level = [], [_leaf(leaf) for leaf in leaves]
    while len(level) > 1:
        sibling = place ^ 1
        if sibling < len(level):
            proof.append(level[sibling])
        level, place = _next_level(level), place // 2
    return proof


def is_included(leaf: bytes, place: int, count: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Tell whether the proof shows that `leaf` stands at `place` of the `count` leaves under `root`."""
    if not 0 <= place < count:
        return False
    node, width, left = _leaf(leaf), count, list(proof)
    while width > 1:
        sibling = place ^ 1
        if sibling < width:
            if not left:
                return False
            other = left.pop(0)
            node = _node(other, node) if sibling < place else _node(node, other)
        place, width = place // 2, (width + 1) // 2
    return not left and node == root


def _next_level(level: list[bytes]) -> list[bytes]:
    paired = [_node(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
    return paired + level[len(level) & ~1 :]


def _leaf(content: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + content).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()

"""Keyed projection of a whole weight tensor onto 256 numbers, and the least change that moves them.

Row r of the projection is row i_r of a Walsh-Hadamard matrix with the signs of its columns flipped by the key: the subsampled
randomised Hadamard transform (Ailon & Chazelle 2009; Tropp, arXiv 1011.1595). It acts like a Gaussian matrix, without one
ever being written down: a dense one for a layer of 2.4 million weights has 600 million entries, this one 2.4 million signs.
All weights of the tensor take part: a mark on the mean over filters (Uchida et al., arXiv 1701.04082) breaks under overwriting.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import hadamard
from scipy.linalg.lapack import dpotrf
from scipy.sparse.linalg import LinearOperator, cg

from ptynet_plugin.errors import UsageError
from ptynet_plugin.symbols.stream import KeyStream
from ptynet_plugin.whitebox.freedom import Freedom

__all__ = ["FEWEST_WEIGHTS", "ROWS", "Projection", "solved", "walsh_hadamard"]

Floats = NDArray[np.float64]

ROWS = 256
FEWEST_WEIGHTS = 2048
"""Below this, 256 numbers cannot be moved without moving most of the tensor."""

LEAST_INDEPENDENCE = 0.01
"""Least eigenvalue of the directions' scalar products: rows of a Walsh-Hadamard matrix are orthogonal, but cut to as many columns
as there are weights some are nearly sums of others, and no change could move their numbers apart."""

FACTOR = 256
SOLVER_TOLERANCE = 1e-10
TINY = 1e-300


class Projection:
    """256 keyed, nearly orthonormal directions in the space of one tensor's weights.

    Args:
        secret: 32 secret bytes.
        size: Number of weights.

    Raises:
        UsageError: Fewer than `FEWEST_WEIGHTS` weights.
    """

    def __init__(self, secret: bytes, size: int) -> None:
        if size < FEWEST_WEIGHTS:
            raise UsageError(
                f"a tensor of {size} weights cannot carry {ROWS} bits, at least {FEWEST_WEIGHTS} are needed"
            )
        stream = KeyStream(secret, "whitebox-projection/v1", size)
        self.size, self.padded = size, 1 << (size - 1).bit_length()
        self.rows = _independent(stream, size, self.padded)
        self.signs = stream.bits(size).astype(np.int8) * 2 - 1

    def forward(self, weights: NDArray[np.floating]) -> Floats:
        """Project weights.

        Args:
            weights: Any shape with `size` entries.

        Returns:
            Shape (256,). For weights that know nothing of the key: mean 0, standard deviation their root mean square.
        """
        spread = np.zeros(self.padded)
        spread[: self.size] = np.asarray(weights, np.float64).reshape(-1) * self.signs
        return np.asarray(walsh_hadamard(spread)[self.rows] / np.sqrt(self.size))

    def adjoint(self, numbers: Floats) -> Floats:
        """Combine the 256 directions: shape (256,) to shape (size,)."""
        spread = np.zeros(self.padded)
        spread[self.rows] = numbers
        return np.asarray(walsh_hadamard(spread)[: self.size] * self.signs / np.sqrt(self.size))

    def lift(self, numbers: Floats, *, freedom: Freedom | None = None) -> Floats:
        """Give the cheapest change of the weights that changes `forward` by `numbers`.

        Args:
            numbers: Shape (256,).
            freedom: How freely weights may move, see `ptynet_plugin.whitebox.freedom`: with freedom F the change's
                x^T F^-1 x is smallest. Without it the change itself is shortest.

        Returns:
            Shape (size,).
        """
        free = freedom or _unchanged
        coefficients = solved(lambda a: self.forward(free(self.adjoint(a))), numbers)
        return free(self.adjoint(coefficients))

    def without(self, weights: NDArray[np.floating]) -> Floats:
        """Take the 256 directions out of the weights, so that `forward` gives 0: same shape, float64."""
        exact = np.asarray(weights, np.float64)
        return exact - self.lift(self.forward(exact)).reshape(exact.shape)


def solved(gram: Callable[[Floats], Floats], numbers: Floats) -> Floats:
    """Solve a symmetric positive 256 x 256 system by conjugate gradients, scaled so that its size does not matter."""
    scale = float(np.linalg.norm(gram(numbers)) / max(float(np.linalg.norm(numbers)), TINY)) or 1.0
    operator = LinearOperator((ROWS, ROWS), matvec=lambda a: gram(a) / scale, dtype=np.float64)
    coefficients, _ = cg(operator, numbers, rtol=SOLVER_TOLERANCE, maxiter=10 * ROWS)
    return np.asarray(coefficients / scale)


def walsh_hadamard(values: Floats) -> Floats:
    """Multiply by the Walsh-Hadamard matrix (entries +1 and -1, not normalised); the length is a power of 2."""
    shape = _factors(len(values))
    cube = values.reshape(shape)
    for axis, side in enumerate(shape):
        cube = np.moveaxis(np.tensordot(_matrix(side), cube, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(cube).reshape(-1)


@cache
def _matrix(side: int) -> Floats:
    return np.asarray(hadamard(side), np.float64)


def _factors(length: int) -> tuple[int, ...]:
    factors = []
    while length > FACTOR:
        factors.append(FACTOR)
        length //= FACTOR
    return (*factors, length)


def _unchanged(values: Floats) -> Floats:
    return values


def _independent(stream: KeyStream, size: int, padded: int) -> NDArray[np.int64]:
    """Draw 256 different rows, in the order they come, without those that the rows before them nearly give."""
    drawn: NDArray[np.int64] = np.empty(0, np.int64)
    while True:
        while len(drawn) < ROWS:
            drawn = np.concatenate([drawn, stream.integers(padded, ROWS)])
            _, first = np.unique(drawn, return_index=True)
            drawn = drawn[np.sort(first)]
        products = _scalar_products(drawn[:ROWS], size)
        if np.abs(products).sum(axis=0).max() < 2 - LEAST_INDEPENDENCE:  # Gershgorin: the diagonal outweighs the rest
            return drawn[:ROWS]
        _, dependent = dpotrf(products - LEAST_INDEPENDENCE * np.eye(ROWS), lower=1)
        if dependent == 0:
            return drawn[:ROWS]
        drawn = np.delete(drawn, dependent - 1)  # the order of the first leading minor that is not positive


def _scalar_products(rows: NDArray[np.int64], size: int) -> Floats:
    """Multiply rows of a Walsh-Hadamard matrix, cut to `size` columns, with each other: shape (256, 256), diagonal 1.

    Two rows differ in sign at column c where their indices' difference (exclusive or) and c share an odd number of bits. Over
    2^p columns from a multiple of 2^p on that adds up to 0, or to 2^p of one sign where the difference's lowest p bits are 0.
    """
    apart, products = rows[:, None] ^ rows[None, :], np.zeros((ROWS, ROWS))
    alike = np.nonzero(apart & ((size & -size) - 1) == 0)  # all others are orthogonal
    some, start = apart[alike], 0
    total = np.zeros_like(some)
    for power in reversed(range(size.bit_length())):
        if size >> power & 1:
            signs = 1 - 2 * _parity(some & start)
            total += np.where(some & ((1 << power) - 1), 0, signs << power)
            start += 1 << power
    products[alike] = total / size
    return products


def _parity(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tell of each number whether it has an odd number of bits: 1 or 0."""
    for shift in (32, 16, 8, 4, 2, 1):
        values = values ^ values >> shift
    return values & 1

"""Endpoints whose classes were merged, renamed or hidden: a frozen class map and its exact null.

The map g sends each class of the claim to the endpoint's name for it. Labels are uniform over the claim's classes and
independent of the answer y, so a hit has null probability |g^-1(y)| / C, known before the label is looked at. The map
must be frozen (written to the claim's ledger) before the order of symbols is drawn. A pair of
different labels, uniform over all such pairs, misses the s = |g^-1(y)| classes that answer y with probability
(C - s)(C - s - 1) / (C (C - 1)), which is as exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

__all__ = ["ClassMap"]


@dataclass(frozen=True)
class ClassMap:
    """A map from the claim's classes to the endpoint's answers.

    Attributes:
        to_endpoint: For each of the C classes the endpoint's answer for it, or None where the endpoint hides it.
    """

    to_endpoint: tuple[Hashable | None, ...]
    _sizes: Mapping[Hashable | None, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.to_endpoint) < 2:
            raise ValueError(
                f"a class map of {len(self.to_endpoint)} class(es) cannot carry evidence; at least 2 are needed"
            )
        sizes = Counter(self.to_endpoint)
        sizes.pop(None, None)
        object.__setattr__(self, "_sizes", sizes)

    @classmethod
    def identity(cls, classes: int) -> ClassMap:
        """Give the map of an endpoint that answers the claim's own class numbers."""
        return cls(tuple(range(classes)))

    def hit(self, label: int, answer: Hashable | None) -> bool:
        """Tell whether the answer is the label's; no answer (None) and a hidden class are misses."""
        return answer is not None and self.to_endpoint[label] == answer

    def null_rate(self, answer: Hashable | None) -> float:
        """Give the probability in [0, 1] that a uniform label maps to this answer."""
        return self._behind(answer) / len(self.to_endpoint)

    def pair_null_rate(self, answer: Hashable | None) -> float:
        """Give the probability in [0, 1] that one of a uniform pair of different labels maps to this answer."""
        classes, others = len(self.to_endpoint), len(self.to_endpoint) - self._behind(answer)
        pairs = classes * (classes - 1)
        return (pairs - others * (others - 1)) / pairs

    def _behind(self, answer: Hashable | None) -> int:
        """Count the classes that answer this."""
        return self._sizes.get(answer, 0) if answer is not None else 0

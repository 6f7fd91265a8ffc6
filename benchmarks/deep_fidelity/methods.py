"""The rows of the table: plain backdoors, and what Hua & Teoh (arXiv 2208.00563) add to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ptynet_plugin.fidelity.embedding import EmbeddingPlan
from ptynet_plugin.fidelity.losses import FidelityWeights

__all__ = ["METHODS", "Method", "chosen_methods"]


@dataclass(frozen=True)
class Method:
    """One row.

    Attributes:
        name: As printed, and as chosen with --rows.
        weights: Of the fidelity losses.
        truth: Whether clean pictures are taught by their labels instead of by the host.
        fixed: FixLL.
        scratch: Whether training starts from fresh weights.
    """

    name: str
    weights: FidelityWeights
    truth: bool = False
    fixed: bool = False
    scratch: bool = False

    def plan(self, base: EmbeddingPlan, *, scratch_rate: float, softmax: float) -> EmbeddingPlan:
        """Give the plan of this row, with a weight of SPL where it has one; from scratch BatchNorm learns, at its own rate."""
        weights = replace(self.weights, softmax=softmax) if self.weights.softmax else self.weights
        plan = replace(base, weights=weights, fix_last_layer=self.fixed, freeze_batch_norm=not self.scratch)
        return replace(plan, rate=scratch_rate) if self.scratch else plan


NONE = FidelityWeights(feature=0, softmax=0, weight=0)
TWL = replace(NONE, weight=0.01)
PFL = FidelityWeights(softmax=0)
SPL = FidelityWeights(feature=0)
METHODS = (
    Method("plain", NONE, truth=True),
    Method("TWL", TWL, truth=True),
    Method("PFL", PFL),
    Method("SPL", SPL),
    Method("PFL+SPL", FidelityWeights()),
    Method("FixLL+PFL", PFL, fixed=True),
    Method("FixLL+SPL", SPL, fixed=True),
    Method("FixLL+PFL+SPL", FidelityWeights(), fixed=True),
    Method("scratch", NONE, truth=True, scratch=True),
    Method("scratch, FixLL+PFL+SPL", FidelityWeights(), fixed=True, scratch=True),
)


def chosen_methods(names: str) -> list[Method]:
    """Take methods by name, separated by semicolons, in the table's order.

    Raises:
        ValueError: A name is none of them.
    """
    wanted = [name.strip() for name in names.split(";") if name.strip()]
    known = {method.name for method in METHODS}
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"no row {unknown[0]!r}; there are: {'; '.join(sorted(known))}")
    return [method for method in METHODS if method.name in wanted]

"""Does the endpoint refuse probes more often than their benign twins? An exact paired test, separate from ownership.

Every probe has a control: the same cover without the trigger, asked next to it in an order drawn by lot. If the endpoint
does not look for probes, the two of a pair are exchangeable, so among the pairs in which exactly one was refused the
refused one is the probe with probability 1/2 (McNemar, Psychometrika 12, 1947, in its exact conditional form). A
significant result says that probes are treated differently, which is a reason to look closer and never evidence that
the endpoint carries the mark.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ptynet_plugin.statistics.binomial import binomial_p_value
from ptynet_plugin.statistics.eprocess import EProcess

__all__ = ["EvasionResult", "evasion_test"]


@dataclass(frozen=True)
class EvasionResult:
    """What the paired controls say.

    Attributes:
        pairs: Probe/control pairs asked.
        only_probe: Pairs in which the probe alone was refused.
        only_control: Pairs in which the control alone was refused.
        p_value: Exact one-sided conditional p-value, valid where the number of pairs was registered before.
        anytime_p_value: Valid however many pairs were asked and whenever one stopped.
    """

    pairs: int
    only_probe: int
    only_control: int
    p_value: float
    anytime_p_value: float


def evasion_test(pairs: Iterable[tuple[bool, bool]]) -> EvasionResult:
    """Test whether probes are refused more often than their controls.

    Args:
        pairs: In the order asked, (probe refused, control refused). What counts as refused is fixed before the run.
    """
    asked = [(bool(probe), bool(control)) for probe, control in pairs]
    discordant = [probe for probe, control in asked if probe != control]
    evidence = EProcess(0.5)
    for probe_alone in discordant:
        evidence.update(probe_alone)
    return EvasionResult(
        pairs=len(asked),
        only_probe=sum(discordant),
        only_control=len(discordant) - sum(discordant),
        p_value=binomial_p_value(sum(discordant), len(discordant), 0.5),
        anytime_p_value=evidence.p_value,
    )

"""The demo's questions to a server: does benign traffic notice anything, and whose model is this?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.verification.opening import open_endpoint
from ptynet_plugin.verification.runner import verify

if TYPE_CHECKING:
    from ptynet_plugin.claims.claim import Claim
    from ptynet_plugin.claims.ledger import Ledger
    from ptynet_plugin.keys import OwnerKey
    from ptynet_plugin.spec import InputSpec
    from ptynet_plugin.verification.endpoint import Endpoint
    from ptynet_plugin.verification.result import VerificationResult

__all__ = ["BenignTraffic", "ask_for_the_mark", "compare_benign"]


@dataclass(frozen=True)
class BenignTraffic:
    """What ordinary pictures were answered by the packaged and by the bare model.

    Attributes:
        pictures: How many were sent, one a request.
        identical: How many were answered with the same scores, to the last bit.
        correct: How many the packaged model classified rightly.
    """

    pictures: int
    identical: int
    correct: int


def compare_benign(
    packaged: str,
    bare: str,
    pictures: NDArray[np.uint8],
    labels: Sequence[int],
    *,
    spec: InputSpec,
    on_picture: Callable[[int, int], None],
) -> BenignTraffic:
    """Send the same pictures to two endpoints of one server and compare the scores as bytes.

    Args:
        packaged: Endpoint of the packaged model.
        bare: Endpoint of the bare one.
        pictures: uint8, shape (n, height, width, channels).
        labels: Their true classes.
        spec: What both read.
        on_picture: Told (done, all).
    """
    identical = correct = 0
    with open_endpoint(packaged, spec=spec) as one, open_endpoint(bare, spec=spec) as other:
        for done, (picture, label) in enumerate(zip(pictures, labels, strict=True), start=1):
            ours, theirs = one.ask(picture), other.ask(picture)
            assert ours.scores is not None and theirs.scores is not None  # both answer with scores
            identical += ours.scores.tobytes() == theirs.scores.tobytes()
            correct += ours.top == label
            on_picture(done, len(pictures))
    return BenignTraffic(len(pictures), identical, correct)


def ask_for_the_mark(
    url: str, *, claim: Claim, key: OwnerKey, ledger: Ledger | None, on_step: Callable[[int, int], None]
) -> VerificationResult:
    """Verify one endpoint; what `ptynet verify` does, without its flags."""
    endpoint: Endpoint
    with open_endpoint(url, spec=claim.terms.spec) as endpoint:
        return verify(
            endpoint,
            claim=claim,
            key=key,
            ledger=ledger,
            on_step=lambda step: on_step(step.symbols, step.budget),
        )

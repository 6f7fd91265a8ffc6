"""DAWN (Szyller, Atli, Marchal and Asokan, "DAWN: Dynamic Adversarial Watermarking of Neural Networks", arXiv 1906.00830).

Nothing is done to the network. The service answers a keyed share r of all pictures wrongly: HMAC(key, picture) says which, and
with which class. Whoever trains a copy on the answers learns the wrong ones. Verification asks the suspect the pictures that were
answered wrongly; the paper accepts where at least half agree, and its p-value is binomial over the m - 1 other classes, with
labels that a key decides: valid by its own rule. r is 0.5 % there; 2 % here, so that few pictures give enough triggers.

The mark protects against extraction, which ours does not: it wins that row. A stolen *file* carries nothing of it.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.rivals.contract import Ask, Evidence, Mark, Pictures, Rival, Task, evidence_of
from benchmarks.rivals.graphs import exported

__all__ = ["DAWN", "DawnMark"]

SHARE = 0.02
LEAST = 0.5


@dataclass
class DawnMark:
    """The network as it was, and the key of the service around it; see `Mark`."""

    network: nn.Module
    key: bytes
    asked: Pictures
    classes: int
    answered: dict[bytes, Pictures] = field(default_factory=dict)

    def graph(self, task: Task) -> bytes:
        """Export the network, which carries nothing."""
        return exported(self.network, task)

    def added(self, task: Task) -> tuple[int, int]:
        """Add nothing to the network; a hash of the picture to the service."""
        return 0, 0

    def service(self, ask: Ask) -> Ask:
        """Answer as the owner's service does: the true scores, or for chosen pictures with another class on top."""

        def answer(pictures: Pictures) -> NDArray[np.floating]:
            scores = np.array(ask(pictures))
            for row, picture in enumerate(pictures):
                if self._draw(picture, "chosen") < SHARE:
                    self.answered[picture.tobytes()] = picture
                    top = int(scores[row].argmax())
                    label = self._label(picture, top)
                    scores[row, [label, top]] = scores[row, [top, label]]
            return scores

        return answer

    def verify(self, ask: Ask) -> Evidence:
        """Ask the pictures that clients had sent and that were answered wrongly; the owner's own before there are any."""
        chosen = np.array(
            [*self.answered.values()] or [each for each in self.asked if self._draw(each, "chosen") < SHARE]
        )
        truth = self._truth(chosen)
        labels = np.array([self._label(picture, int(top)) for picture, top in zip(chosen, truth, strict=True)])
        return evidence_of(
            ask(chosen).argmax(axis=1),
            labels,
            classes=self.classes,
            null="own",
            least=LEAST,
            chance=1 / (self.classes - 1),
        )

    def _truth(self, pictures: Pictures) -> NDArray[np.int64]:
        return np.asarray(self._own(pictures).argmax(axis=1))

    def _draw(self, picture: Pictures, what: str) -> float:
        digest = hmac.digest(self.key, what.encode() + hashlib.sha256(picture.tobytes()).digest(), "sha256")
        return int.from_bytes(digest[:8], "big") / 2.0**64

    def _label(self, picture: Pictures, top: int) -> int:
        """One of the other classes, by the key."""
        return (top + 1 + int(self._draw(picture, "label") * (self.classes - 1))) % self.classes

    def bind(self, ask: Ask) -> DawnMark:
        """Say how the owner asks his own network."""
        self._own = ask
        return self


def embed(task: Task, seed: int) -> Mark:
    """Draw the service's key."""
    network = copy.deepcopy(task.target)

    def ask(pictures: Pictures) -> NDArray[np.floating]:
        with torch.inference_mode():
            return np.concatenate(
                [network(task.tensor(part)).numpy() for part in np.array_split(pictures, max(1, len(pictures) // 50))]
            )

    key = hashlib.sha256(f"dawn {seed}".encode()).digest()
    return DawnMark(network, key, task.pictures, task.classes).bind(ask)


DAWN = Rival("DAWN", "Szyller et al., arXiv 1906.00830", embed)

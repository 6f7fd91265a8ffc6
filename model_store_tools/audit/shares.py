"""Who holds which pictures: the thief's share, and held-out ones on which accuracy is measured.

From a folder with one subfolder per class both are drawn, without overlap, and carry true labels. Without a folder both are
procedural covers of nobody's key, labelled by the stolen model itself: "accuracy" is then agreement with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_store_tools.audit.contract import Artefact, Share
from model_store_tools.audit.engines import top_classes
from model_store_tools.packaging.benign import Benign, benign_covers, benign_folder
from ptynet_plugin.errors import UsageError

__all__ = ["Shares", "shares_from", "split_shares"]

LEAST = 20


@dataclass(frozen=True)
class Shares:
    """The two shares.

    Attributes:
        thief: What attacks may use.
        held_out: What accuracy is measured on.
    """

    thief: Share
    held_out: Share


def shares_from(
    artefact: Artefact,
    folder: Path | None,
    *,
    thief: int,
    held_out: int,
    seed: int,
    class_names: tuple[str, ...] = (),
) -> Shares:
    """Make both shares.

    Args:
        artefact: The stolen model; it labels pictures whose class nobody knows.
        folder: Pictures, one subfolder per class, named like the class or by its number; None for procedural covers.
        thief: Most pictures of the thief.
        held_out: Most held-out pictures.
        seed: Draws which picture goes where.
        class_names: In order.

    Raises:
        UsageError: The folder holds too few pictures, or some that cannot be read.
    """
    wanted = thief + held_out
    if folder is None:
        benign = benign_covers(artefact.spec, count=wanted)
    else:
        benign = benign_folder(folder, artefact.spec, limit=wanted, classes=class_names)
    if len(benign.pictures) < LEAST:
        raise UsageError(f"--data {folder}: holds {len(benign.pictures)} pictures, an audit needs {LEAST} at least")
    return split_shares(artefact, benign, thief=thief, held_out=held_out, seed=seed)


def split_shares(artefact: Artefact, benign: Benign, *, thief: int, held_out: int, seed: int) -> Shares:
    """Draw both shares from pictures; of too few both get less in proportion.

    Args:
        artefact: As for `shares_from`.
        benign: The pictures, with labels or without.
        thief: Most pictures of the thief.
        held_out: Most held-out pictures.
        seed: Draws which picture goes where.
    """
    count = len(benign.pictures)
    tested = min(held_out, max(1, count * held_out // (thief + held_out)))
    drawn = np.random.default_rng(seed).permutation(count)
    first, rest = drawn[:tested], drawn[tested : tested + thief]
    labels = benign.labels
    if labels is None:
        labels = top_classes(artefact, benign.pictures)
    true = benign.labels is not None

    def share(rows: NDArray[np.int64], whose: str) -> Share:
        return Share(benign.pictures[rows], labels[rows], true, f"{len(rows)} of {benign.source}, {whose}")

    return Shares(share(rest, "the thief's"), share(first, "held out"))

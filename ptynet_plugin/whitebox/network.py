"""The mark in PTYNet's own weights: every mark carries the owner's 256 bits, wherever its network goes.

A thief who cuts PTYNet out of an archive to study or reuse it holds a network that names its owner. The first convolution is
left alone: packaging folds a target's normalisation into it, and the bits would be folded away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.network.weights import Network
from ptynet_plugin.whitebox.mark import MARGIN, Reading, embed, read, weight_mark
from ptynet_plugin.whitebox.model import widest_layers

__all__ = ["LINEAR", "carrying_layer", "mark_network", "read_network_mark"]

LINEAR = "linear"
"""Name of the linear layer; convolutions are called by their index."""


def carrying_layer(network: Network) -> str:
    """Name the layer with the most weights among those that reach archives as they are: "linear", or "1", "2", ...

    Raises:
        UsageError: None is large enough.
    """
    return widest_layers(_carriers(network))[0]


def mark_network(network: Network, key: OwnerKey, *, margin: float = MARGIN) -> Network:
    """Embed the owner's bits in one step, by the least change of weights.

    Training with `WeightMarkLoss` on the same layer first makes that change small; without it, soft bits move.

    Args:
        network: Trained.
        key: The owner's.
        margin: How strongly, see `embed`.

    Raises:
        UsageError: No layer is large enough.
    """
    name = carrying_layer(network)
    changed = np.asarray(embed(_carriers(network)[name], weight_mark(key), margin=margin), np.float32)
    if name == LINEAR:
        return replace(network, linear_weight=changed)
    index = int(name)
    convolutions = list(network.convolutions)
    convolutions[index] = replace(convolutions[index], weight=changed)
    return replace(network, convolutions=tuple(convolutions))


def read_network_mark(network: Network, key: OwnerKey) -> Reading:
    """Read the owner's bits.

    Raises:
        UsageError: No layer is large enough to carry them.
    """
    return read(_carriers(network)[carrying_layer(network)], weight_mark(key))


def _carriers(network: Network) -> Mapping[str, NDArray[Any]]:
    kernels = {str(index): layer.weight for index, layer in enumerate(network.convolutions) if index > 0}
    return {LINEAR: network.linear_weight, **kernels}

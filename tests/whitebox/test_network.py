"""PTYNet names its owner by its own weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ptynet_plugin.errors import UsageError
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.whitebox.network import LINEAR, carrying_layer, mark_network, read_network_mark
from tests.support.network import random_network

KEY, OTHER = OwnerKey(bytes(range(32))), OwnerKey(bytes(range(1, 33)))


def test_the_widest_layer_carries_the_owners_bits() -> None:
    network = random_network()
    marked = mark_network(network, KEY)
    assert carrying_layer(network) == LINEAR
    assert read_network_mark(marked, KEY).right == 256
    assert read_network_mark(marked, OTHER).right < 176
    assert read_network_mark(network, KEY).right < 176
    assert marked.convolutions is network.convolutions
    assert marked.linear_weight.dtype == np.float32


def test_a_wide_convolution_carries_them_instead() -> None:
    network = random_network()
    wide = replace(
        network.convolutions[1], weight=np.random.default_rng(0).normal(size=(96, 96, 3, 3)).astype(np.float32)
    )
    network = replace(network, convolutions=(network.convolutions[0], wide))
    marked = mark_network(network, KEY)
    assert carrying_layer(network) == "1"
    assert read_network_mark(marked, KEY).right == 256
    assert marked.linear_weight is network.linear_weight


def test_a_network_too_small_is_refused() -> None:
    network = random_network()
    tiny = replace(network, convolutions=network.convolutions[:1], linear_weight=np.ones((4, 4), np.float32))
    with pytest.raises(UsageError, match="no layer of 2048 or more"):
        mark_network(tiny, KEY)

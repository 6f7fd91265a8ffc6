"""What the verbs that ask are told of a suspect, from the flags as they were typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_store_tools.cli.suspects import connection_from
from ptynet_plugin.errors import UsageError


def test_every_flag_of_a_connection_arrives() -> None:
    made = connection_from(["X-One: 1"], Path("ca.pem"), timeout=3.5, retries=7, pace="30/min")
    assert made.headers.items == (("X-One", "1"),)
    assert (made.ca_cert, made.timeout, made.retries, made.pace) == (Path("ca.pem"), 3.5, 7, 0.5)
    bare = connection_from(None, None, timeout=10.0, retries=3, pace=None)
    assert (bare.headers.items, bare.ca_cert, bare.pace) == ((), None, None)


def test_a_pace_that_is_none_is_named() -> None:
    with pytest.raises(UsageError, match="--pace is 'fast'"):
        connection_from(None, None, timeout=10.0, retries=3, pace="fast")

"""A pickle is read without anything it names being looked up, made or called."""

from __future__ import annotations

import collections
import os
import pickle

import pytest

from ptynet_plugin.archives.safe_pickle import Named, leaves, read_pickle
from ptynet_plugin.errors import TargetError


class Attack:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (self.path, 0o700)


class Plain:
    def __init__(self) -> None:
        self.weight, self.depth = [1, 2], {"inner": 3.5}


def test_a_call_in_a_pickle_is_noted_and_not_made(tmp_path):
    trap = tmp_path / "made"
    read = read_pickle(pickle.dumps({"model": Attack(str(trap))}), where="m")
    assert not trap.exists()
    assert [name.rpartition(".")[2] for name in read.names] == ["mkdir"]
    assert read.value["model"].arguments == (str(trap), 0o700)
    pickle.loads(pickle.dumps(Attack(str(trap))))
    assert trap.exists(), "the attack itself must work, or the test above shows nothing"


def test_objects_of_unknown_classes_are_walked_by_their_attributes():
    octets = pickle.dumps(Plain()).replace(b"Plain", b"Other")
    read = read_pickle(octets, where="m")
    assert isinstance(read.value, Named)
    assert dict(leaves(read.value, where="m")) == {"weight.0": 1, "weight.1": 2, "depth.inner": 3.5}


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_come_back_equal(protocol):
    value = {"a": [1, (2, None), {"b": True}], "c": "d", "e": 10**30}
    assert read_pickle(pickle.dumps(value, protocol), where="m").value == value


def test_ordered_dicts_with_attributes_are_read_as_dicts():
    value = collections.OrderedDict(a=1)
    value._metadata = {"version": 1}
    assert read_pickle(pickle.dumps(value), where="m").value == {"a": 1}


@pytest.mark.parametrize("damage", [b"", b"no pickle", b"\x80\x02}", b"\x80\x02(((", b"\x80\x02cos\nsystem\n(R."])
def test_damaged_pickles_are_refused_by_name(damage):
    with pytest.raises(TargetError, match=r"weights\.pt: not a readable pickle"):
        read_pickle(damage, where="weights.pt")


def test_every_cut_of_a_pickle_is_refused_or_read(tmp_path):
    octets = pickle.dumps({"model": Plain(), "more": list(range(50))}, 2)
    for length in range(len(octets)):
        with pytest.raises(TargetError):
            read_pickle(octets[:length], where="m")


def test_a_value_that_contains_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(TargetError, match="contains itself"):
        list(leaves(read_pickle(pickle.dumps(loop), where="m").value, where="m"))


def test_a_value_that_doubles_at_each_level_is_refused(monkeypatch):
    monkeypatch.setattr("ptynet_plugin.archives.safe_pickle.MOST_NODES", 10_000)
    value: list[object] = [0]
    for _ in range(40):
        value = [value, value]
    with pytest.raises(TargetError, match="over 10000 values"):
        list(leaves(read_pickle(pickle.dumps(value), where="m").value, where="m"))

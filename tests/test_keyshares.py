"""A key in shares: any k give it back, fewer or wrong ones do not, and nothing tells a word of them."""

from __future__ import annotations

import itertools
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from model_store_tools.cli.main import app
from ptynet_plugin.errors import KeyFileError, UsageError
from ptynet_plugin.keyfile import read_key, write_key
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.keyshares import join_key, split_key

KEY = OwnerKey(bytes(range(7, 39)))


def run(*arguments: object, given: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], input=given)


@pytest.fixture
def shares(tmp_path: Path) -> list[Path]:
    write_key(tmp_path / "owner.key", KEY)
    assert (
        run("key", "split", "--key", tmp_path / "owner.key", "--of", "2/3", "--out", tmp_path / "shares").exit_code == 0
    )
    return sorted((tmp_path / "shares").iterdir())


@pytest.mark.parametrize(("needed", "count"), [(2, 2), (2, 3), (3, 5)])
def test_any_k_of_n_give_the_key_back_and_fewer_do_not(needed: int, count: int) -> None:
    made = split_key(KEY, needed=needed, shares=count)
    assert len(set(made)) == count
    for chosen in itertools.combinations(made, needed):
        assert join_key(chosen) == KEY
    assert join_key(made) == KEY
    with pytest.raises(KeyFileError, match=f"{needed - 1} of {needed} shares were given"):
        join_key(made[: needed - 1])


@pytest.mark.parametrize(("needed", "count"), [(1, 1), (1, 3), (0, 0), (4, 3), (2, 17)])
def test_impossible_splittings_are_refused(needed: int, count: int) -> None:
    with pytest.raises(UsageError, match="cannot be; at least 2"):
        split_key(KEY, needed=needed, shares=count)


def test_shares_that_do_not_belong_together_are_refused_without_a_word_of_them() -> None:
    one, two = split_key(KEY, needed=2, shares=2), split_key(KEY, needed=2, shares=2)
    miscopied = one[1].replace(one[1].split()[-1], "academic" if one[1].split()[-1] != "academic" else "acid")
    for wrong in ([one[0], two[1]], [one[0], miscopied], [one[0], "not words at all"], ["", " "], []):
        with pytest.raises(KeyFileError) as refused:
            join_key(wrong)
        assert not any(word in str(refused.value).split() for word in one[0].split() if len(word) > 5)
    with pytest.raises(KeyFileError, match="every share counts once"):
        join_key([one[0], one[0]])


def test_shares_are_files_of_their_owner_alone(shares: list[Path], tmp_path: Path) -> None:
    assert [path.name for path in shares] == ["share-1.txt", "share-2.txt", "share-3.txt"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in shares} == {0o600}
    joined = run("key", "join", shares[2], shares[0], "--out", tmp_path / "joined.key")
    assert joined.exit_code == 0, joined.output
    assert read_key(tmp_path / "joined.key") == KEY
    assert stat.S_IMODE((tmp_path / "joined.key").stat().st_mode) == 0o600
    piped = run("key", "join", shares[1], "-", "--out", tmp_path / "piped.key", given=shares[0].read_text())
    assert piped.exit_code == 0, piped.output
    assert read_key(tmp_path / "piped.key") == KEY


def test_wrong_or_too_few_shares_exit_2_and_write_nothing(shares: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "joined.key"
    few = run("key", "join", shares[0], "--out", out)
    assert (few.exit_code, "1 of 2 shares were given" in few.output) == (2, True)
    shares[1].write_text(shares[1].read_text().replace(" ", " x", 30))
    wrong = run("key", "join", shares[0], shares[1], "--out", out)
    assert wrong.exit_code == 2
    shares[2].chmod(0o644)
    open_to_all = run("key", "join", shares[0], shares[2], "--out", out)
    assert (open_to_all.exit_code, "chmod 600" in open_to_all.output) == (2, True)
    assert not out.exists()


@pytest.mark.parametrize("of", ["3", "3/2", "1/2", "a/b", "2/17"])
def test_a_splitting_that_cannot_be_leaves_nothing(tmp_path: Path, of: str) -> None:
    write_key(tmp_path / "owner.key", KEY)
    refused = run("key", "split", "--key", tmp_path / "owner.key", "--of", of, "--out", tmp_path / "shares")
    assert refused.exit_code == 2
    assert not (tmp_path / "shares").exists()

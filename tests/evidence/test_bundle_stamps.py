"""Bundles of stamped claims: the authority is asked for, and a back-dated commitment shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptynet_plugin.claims import read_claim, write_claim
from ptynet_plugin.errors import IntegrityError
from ptynet_plugin.evidence import check_bundle as alone
from ptynet_plugin.evidence.checking import check_bundle
from ptynet_plugin.evidence.sealing import bind, seal, stamp_binding
from tests.support.authority import Authority
from tests.support.bundles import (
    SECRET,
    both_refuse,
    edit_transcript,
    make_bundle,
    make_questions,
    sign_again,
)


def test_stamped_and_bound_claims_are_checked_against_the_authority(
    tmp_path: Path, authority: Authority, other_root: bytes
) -> None:
    folder, roots = tmp_path / "claim", authority.root.read_bytes()
    write_claim(folder, make_questions().claim)
    seal(folder, authority.stamp(read_claim(folder).commitment), roots=roots)
    stamp_binding(folder, authority.stamp(bind(folder, secret=SECRET, mark="aa" * 32, archives=["bb" * 32])))
    make_bundle(tmp_path / "bundle", folder, make_questions(claim_folder=folder))
    checked = check_bundle(tmp_path / "bundle", roots=roots, archives=["bb" * 32])
    assert checked.verdict == alone.check(tmp_path / "bundle") == "shown"
    assert sorted(checked.stamps) == ["binding.tsr", "stamp.tsr"]
    with pytest.raises(IntegrityError, match=r"archive cc.*swapped"):
        check_bundle(tmp_path / "bundle", archives=["cc" * 32])
    with pytest.raises(IntegrityError, match=r"stamp\.tsr: the time stamp does not verify"):
        check_bundle(tmp_path / "bundle", roots=other_root)


def test_a_claim_stamped_after_the_run_is_a_back_dated_commitment(tmp_path: Path, authority: Authority) -> None:
    folder = tmp_path / "claim"
    write_claim(folder, make_questions().claim)
    seal(folder, authority.stamp(read_claim(folder).commitment), roots=authority.root.read_bytes())
    make_bundle(tmp_path / "bundle", folder, make_questions(claim_folder=folder))
    edit_transcript(tmp_path / "bundle", lambda lines: lines[0].update(started="2020-01-01T00:00:00+00:00"))
    both_refuse(tmp_path / "bundle", "a back-dated commitment")


def test_a_stamp_over_another_commitment_is_refused(tmp_path: Path, authority: Authority) -> None:
    folder = tmp_path / "claim"
    write_claim(folder, make_questions().claim)
    seal(folder, authority.stamp(read_claim(folder).commitment), roots=authority.root.read_bytes())
    make_bundle(tmp_path / "bundle", folder, make_questions(claim_folder=folder))
    (tmp_path / "bundle" / "stamp.tsr").write_bytes(authority.stamp(b"something else"))
    sign_again(tmp_path / "bundle")
    with pytest.raises(IntegrityError, match=r"stamp\.tsr: the time stamp does not verify"):
        check_bundle(tmp_path / "bundle")
    with pytest.raises(alone.Broken, match=r"stamp\.tsr: stamps something else"):
        alone.check(tmp_path / "bundle")

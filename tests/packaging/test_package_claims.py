"""The claim that packaging makes or is given: whose it is, what it commits to, and that its ledger survives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from model_store_tools.pictures import read_pictures
from ptynet_plugin.claims.claim import Seal
from ptynet_plugin.claims.directory import find_claim, read_claim, write_claim
from ptynet_plugin.errors import (
    ClaimError,
)
from ptynet_plugin.images.probes import ProbeMaker
from ptynet_plugin.keys import OwnerKey
from ptynet_plugin.mark import read_metadata, read_network, write_mark
from tests.support.fusion import linear_target
from tests.support.packaging_case import PackagingCase
from tests.support.quick_mark import KEY


def test_the_owners_own_covers_are_committed_to(case: PackagingCase, tmp_path: Path) -> None:
    folder = tmp_path / "covers"
    folder.mkdir()
    for number, picture in enumerate(np.random.default_rng(5).integers(0, 256, (3, 40, 40, 3), np.uint8)):
        Image.fromarray(picture).save(folder / f"{number}.png")
    case.package(covers=folder, gate="digest")
    claim, size = read_claim(find_claim(case.folder / "MARK")), (32, 32)
    maker = ProbeMaker(KEY.probe_secret(), claim.design, pictures=read_pictures(folder, color="RGB"))
    claim.check_probes(KEY.epoch_secret(), 5, [maker.probe(5, 0, size)])
    with pytest.raises(ClaimError, match="covers"):
        claim.check_probes(KEY.epoch_secret(), 5, [ProbeMaker(KEY.probe_secret(), claim.design).probe(5, 0, size)])


def test_a_given_claim_is_used_and_kept(case: PackagingCase) -> None:
    first = case.package()
    stamped = read_claim(first.claim).sealed(Seal(b"signature octets"))
    write_claim(case.folder / "CLAIM", stamped)
    second = case.package(name="stamped", claim=case.folder / "CLAIM")
    assert read_claim(second.claim).salt == stamped.salt
    assert second.digest != first.digest
    onnx.save(linear_target(opset=16), case.target)
    with pytest.raises(ClaimError, match=r"CLAIM: commits to the target [0-9a-f]{64}, this one has digest"):
        case.package(name="third", claim=case.folder / "CLAIM")


def test_another_keys_claim_is_refused(case: PackagingCase, tmp_path: Path) -> None:
    other = OwnerKey(b"o" * 32)
    design, network = read_metadata(case.folder / "MARK").design, read_network(case.folder / "MARK")
    write_mark(tmp_path / "OTHER", network, key=other, design=design, training={})
    claim = case.package().claim
    with pytest.raises(ClaimError, match="was made with another key"):
        case.package(name="x", mark=tmp_path / "OTHER", claim=claim)


def test_packaging_again_keeps_the_claim_and_its_ledger(case: PackagingCase) -> None:
    claim = case.package().claim
    (claim / "ledger.jsonl").write_text("evidence\n")
    again = case.package(force=True)
    assert again.claim == claim and (claim / "ledger.jsonl").read_text() == "evidence\n"


def test_one_claim_under_two_names_has_one_ledger(case: PackagingCase) -> None:
    one, two = case.package().claim, case.package(name="other").claim
    assert read_claim(one).digest == read_claim(two).digest
    assert find_claim(case.folder / "MARK") == one
    (one / "ledger.jsonl").write_text("evidence\n")
    assert (two / "ledger.jsonl").read_text() == "evidence\n"


def test_a_second_name_can_be_given_to_another_target(case: PackagingCase) -> None:
    case.package()
    link = case.package(name="other").claim
    onnx.save(linear_target(opset=16), case.target)
    with pytest.raises(ClaimError, match="holds another claim"):
        case.package(name="other", out=case.folder / "new")
    own = case.package(name="other", force=True).claim
    assert link == own and not own.is_symlink()

"""A mark trained on pictures nobody showed is a mark like any other: it packages, verifies, and is silent elsewhere."""

from __future__ import annotations

import shutil

from model_store_tools.sharing.holder import prepared
from model_store_tools.training import train_mark
from ptynet_plugin.claims import read_claim
from ptynet_plugin.images.covers import procedural_cover
from ptynet_plugin.network.batches import SharedCovers
from ptynet_plugin.network.plan import TrainingPlan
from ptynet_plugin.privacy.release import restored
from ptynet_plugin.verification.opening import open_endpoint
from ptynet_plugin.verification.runner import verify
from tests.support.packaging_case import PackagingCase
from tests.support.quick_mark import KEY

QUICK = TrainingPlan(steps=150, batch=192, covers=1536, held_out=64)


def others_covers() -> SharedCovers:
    pictures = [procedural_cover(bytes(32), 0, i, color="RGB") for i in range(40)]
    offer = prepared(pictures, color="RGB", noise=0.25)
    return SharedCovers(restored(offer.release.steps), offer.release.noise)


def test_a_split_mark_packages_and_verifies(case: PackagingCase) -> None:
    shutil.rmtree(case.folder / "MARK")
    trained = train_mark(KEY, case.folder / "MARK", symbols=64, fetch=others_covers, plan=QUICK, least=0.5)
    assert trained.recognised > 0.8
    packaged = case.package()
    claim = read_claim(packaged.claim)
    for path, verdict in ((packaged.path, "shown"), (case.target, "not-shown")):
        with open_endpoint(f"file:{path}", spec=claim.terms.spec) as endpoint:
            assert verify(endpoint, claim=claim, key=KEY, budget=40).verdict == verdict

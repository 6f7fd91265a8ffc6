"""Every rival's own verification succeeds on its marked model and fails on the bare one; costs and p-values are what they say."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.models.tiny_darknet import TinyDarknet
from benchmarks.real_pictures import Labelled
from benchmarks.rivals import dawn, deep_fidelity, published_ptynet, tuning, zhang
from benchmarks.rivals.adi import ADI
from benchmarks.rivals.contract import Rival, Task, evidence_of, queries_at_half, queries_needed
from benchmarks.rivals.dawn import DAWN
from benchmarks.rivals.deep_fidelity import DEEP_FIDELITY
from benchmarks.rivals.extraction import Clones, rows_of
from benchmarks.rivals.graphs import cost_of, exported
from benchmarks.rivals.measuring import Measured, asked, measured
from benchmarks.rivals.none import NONE
from benchmarks.rivals.ours import ours
from benchmarks.rivals.published_ptynet import PUBLISHED_PTYNETS
from benchmarks.rivals.trojannet import TROJANNET
from benchmarks.rivals.zhang import CONTENT, NOISE
from model_store_tools.audit.contract import Attack, AttackRefused, Outcome, Share
from model_store_tools.audit.training import Schedule
from ptynet_plugin.fidelity.losses import FidelityWeights
from ptynet_plugin.spec import InputSpec
from ptynet_plugin.statistics.decision import alpha_of_test
from tests.support.quick_mark import KEY

SIDE, CLASSES = 32, 10


class Small(nn.Module):
    """A classifier of colours that a test trains in a second."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 24, 5, 4, 1), nn.ReLU(), nn.Conv2d(24, 48, 3, 2, 1), nn.ReLU(), nn.Flatten()
        )
        self.linear = nn.Linear(48 * 16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.body(x))


def pictures(count: int, seed: int) -> Labelled:
    random = np.random.default_rng(seed)
    colours = np.random.default_rng(99).integers(40, 216, (CLASSES, 1, 1, 3))
    labels = random.integers(0, CLASSES, count)
    noisy = colours[labels] + random.normal(0, 25, (count, SIDE, SIDE, 3))
    return Labelled(np.clip(noisy, 0, 255).astype(np.uint8), labels)


@pytest.fixture(scope="module")
def task() -> Task:
    spec = InputSpec(
        size=(SIDE, SIDE),
        classes=CLASSES,
        color="RGB",
        layout="NCHW",
        dtype="float32",
        output="logits",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        input="pixels",
        scores="scores",
    )
    own = pictures(600, 1)
    torch.manual_seed(0)
    made = Task("small", Small(), spec, own.pictures, own.labels, epochs=12, batch=32)
    optimiser = torch.optim.Adam(made.target.parameters(), 2e-3)
    x, y = made.tensor(own.pictures), torch.from_numpy(own.labels)
    for step in range(60):
        rows = torch.arange(64 * step, 64 * step + 64) % len(x)
        optimiser.zero_grad()
        nn.functional.cross_entropy(made.target(x[rows]), y[rows]).backward()
        optimiser.step()
    made.target.eval()
    return made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_ptynet, "STEPS", 15)
    monkeypatch.setattr(zhang, "HELD_OUT", 20)
    monkeypatch.setattr(
        deep_fidelity, "WEIGHTS", FidelityWeights(feature=0, softmax=1)
    )  # less held back, sooner taught
    monkeypatch.setattr(deep_fidelity, "RATE", 5e-3)
    monkeypatch.setattr(deep_fidelity, "FACTOR", 1)


def mark(rival: Rival, task: Task) -> Measured:
    return measured(rival, task, pictures(100, 2), seed=5)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "rival", [PUBLISHED_PTYNETS[0], TROJANNET, ADI, CONTENT, NOISE, DEEP_FIDELITY], ids=lambda rival: rival.name
)
def test_a_rival_knows_its_own_and_not_the_bare_target(rival: Rival, task: Task) -> None:
    before = {name: value.clone() for name, value in task.target.state_dict().items()}
    row = mark(rival, task)
    assert row.shown.accepted, row.shown
    assert not row.alone.accepted, row.alone
    assert row.divergence > 0, "every published scheme changes benign answers"
    assert all(torch.equal(value, before[name]) for name, value in task.target.state_dict().items())


def test_dawn_knows_its_service_and_not_the_stolen_file(task: Task) -> None:
    own = DAWN.embed(task, 5)
    file = asked(own.graph(task), task)
    assert own.verify(own.service(file)).accepted
    assert own.verify(file).hits == 0
    changed = (own.service(file)(task.pictures).argmax(1) != file(task.pictures).argmax(1)).mean()
    assert changed == pytest.approx(0.02, abs=0.015)


def test_no_mark_is_never_accepted(task: Task) -> None:
    row = mark(NONE, task)
    assert not row.shown.accepted and (row.flips, row.difference, row.divergence) == (0, 0, 0)


def test_ours_is_shown_at_no_loss(task: Task, quick_mark_once: Path) -> None:
    row = mark(ours(quick_mark_once, KEY), task)
    assert row.shown.accepted and not row.alone.accepted
    assert (row.flips, row.difference, row.divergence) == (0, 0, 0)
    assert row.sums == pytest.approx(0, abs=1e-6) and row.shown.null == "own"


@pytest.mark.usefixtures("quick")
def test_the_published_fusion_gives_itself_away_by_its_sum(task: Task) -> None:
    row = mark(PUBLISHED_PTYNETS[2], task)
    assert row.sums > 1.0
    assert row.parameters > 11_000_000


def test_one_label_for_all_triggers_never_gets_below_one_class(task: Task) -> None:
    found = evidence_of(np.zeros(50), np.zeros(50), classes=10, null="none", least=0.5)
    assert found.log10_p == -1 and math.isinf(found.to_alpha)


def test_queries_needed_are_those_of_the_exact_binomial() -> None:
    assert queries_needed(1.0, 0.1) == 9
    assert queries_needed(1.0, 0.001) == 3
    assert 18 < queries_needed(0.6, 0.1) < 40
    assert math.isinf(queries_needed(0.1, 0.1))


def test_costs_are_counted_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Flatten(), nn.Linear(4 * 36, 5))
    parameters, operations = cost_of(network, torch.zeros(1, 3, 8, 8))
    assert parameters == 108 + 4 * 36 * 5 + 5
    assert operations == 2 * (27 * 4 * 36 + 4 * 36 * 5)


def test_tiny_darknet_has_the_published_size() -> None:
    assert sum(value.numel() for value in TinyDarknet().parameters()) == pytest.approx(1.04e6, rel=0.01)


def test_an_exported_network_answers_as_in_torch(task: Task) -> None:
    own = asked(exported(copy.deepcopy(task.target), task), task)(task.pictures[:4])
    with torch.inference_mode():
        assert np.allclose(own, task.target(task.tensor(task.pictures[:4])).numpy(), atol=1e-4)


def test_a_crashed_attack_is_a_failed_one_and_one_that_does_not_apply_says_so(task: Task) -> None:
    def crash(stolen: object, share: object, **_: object) -> Outcome:
        raise RuntimeError("no luck")

    def refuse(stolen: object, share: object, **_: object) -> Outcome:
        raise AttackRefused("no branch")

    def nothing(stolen: object, share: object, **_: object) -> Outcome:
        return Outcome(stolen)

    attacks = [Attack(name, "structure", "here", run) for name, run in (("a", crash), ("b", refuse), ("c", nothing))]
    share = Share(task.pictures[:10], task.labels[:10], True, "here")
    row = measured(TROJANNET, task, pictures(50, 2), attacks=attacks, share=share)
    assert [each.accepted for each in row.survival] == [None, None, True]
    assert "no luck" in row.survival[0].note and row.survival[1].note == "n/a: no branch"


def test_dawn_and_ours_need_the_same_where_every_trigger_is_answered() -> None:
    assert (queries_needed(1.0, 1 / 9), queries_needed(1.0, 1 / 999)) == (10, 4), "DAWN: one of the other classes"
    assert (queries_at_half(1 / 9), queries_at_half(1 / 999)) == (39, 7)
    assert 10.0**-9 > alpha_of_test(1e-9, 1) > 10.0**-10, "nine right answers are not below the level of the first test"


def test_a_clone_of_dawns_service_carries_its_labels_and_one_of_the_file_does_not(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dawn, "SHARE", 0.2)
    noise = np.random.default_rng(3).integers(0, 256, (50, SIDE, SIDE, 3), np.uint8)  # can only be learnt by heart
    thief, test = Labelled(noise, np.zeros(50, np.int64)), pictures(20, 4)
    clones = Clones(task, thief, Schedule(50, rate=0.05, batch=16, decay=0.0))
    (mine,) = rows_of(DAWN, task, test, thief, clones, attacks=["Knockoff, labels"])
    assert mine.accepted and mine.queries >= 3 and mine.learnt > 0.9
    (bare,) = rows_of(NONE, task, test, thief, clones, attacks=["Knockoff, labels"])
    assert not bare.accepted


def test_equal_answers_share_one_student(task: Task) -> None:
    clones = Clones(task, pictures(40, 3), Schedule(0))
    answers = np.full((40, CLASSES), 0.1)
    assert clones.of(answers, "distillation") is clones.of(answers.copy(), "distillation")
    assert clones.of(answers, "distillation") is not clones.of(answers, "Knockoff, labels")


def test_a_rate_that_destroys_the_target_is_given_up_for_a_gentler_one(task: Task) -> None:
    few = dataclasses.replace(task, epochs=2, rates=(1e4, 0.01))
    network, rate = tuning.fine_tuned(few, few.pictures[:8], np.zeros(8, np.int64), seed=1)
    assert rate == 0.01
    with torch.inference_mode():
        right = (network(few.tensor(few.pictures)).argmax(1).numpy() == few.labels).mean()
    assert right > 0.8

"""Embedding at deep fidelity keeps what a plain backdoor breaks, resumes, and refuses what cannot be trained on."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from ptynet_plugin.errors import UsageError
from ptynet_plugin.fidelity import losses
from ptynet_plugin.fidelity.embedding import Embedding, EmbeddingPlan, Material, embed, find_last_layer
from ptynet_plugin.fidelity.losses import FidelityWeights
from tests.fidelity.test_losses import network, randn

PLAN = EmbeddingPlan(epochs=40, rate=3e-3, slower_from=30)


def material(host, **more):
    triggers = randn(8, 1, 8, 8, seed=9) * 3
    with torch.no_grad():
        labels = (host(triggers).argmax(1) + 1) % 4
    return Material(randn(256, 1, 8, 8), triggers, labels, **more)


def embedded(plan, model=None, **more):
    host = network().eval()
    given, model, seen = material(host, **more), model or copy.deepcopy(host), []
    embed(model, host, given, last_layer="6", plan=plan, on_epoch=lambda *told: seen.append(told))
    model.eval()
    fresh = randn(256, 1, 8, 8, seed=5)
    with torch.no_grad():
        success = float((model(given.triggers).argmax(1) == given.labels).float().mean())
        kept = float(losses.softmax_loss(host(fresh), model(fresh)))
    assert [number for number, _ in seen] == list(range(1, plan.epochs + 1))
    assert host.training is False
    return host, model, success, kept


def test_embedding_at_fidelity_keeps_what_a_plain_backdoor_breaks():
    plain = replace(PLAN, weights=FidelityWeights(0, 0), fix_last_layer=False, freeze_batch_norm=False)
    *_, plain_success, plain_loss = embedded(plain)
    host, model, success, loss = embedded(replace(PLAN, weights=FidelityWeights(0.01, 10)))
    assert success == plain_success == 1
    assert loss < plain_loss / 5
    assert torch.equal(model[6].weight, host[6].weight)
    assert torch.equal(model[1].running_mean, host[1].running_mean)


def test_embedding_from_scratch_learns_the_host_and_the_triggers():
    plan = replace(PLAN, weights=FidelityWeights(0.01, 10), freeze_batch_norm=False)
    with torch.no_grad():
        answers = [network(seed).eval()(randn(64, 1, 8, 8)) for seed in (0, 1)]
        strangers = float(losses.softmax_loss(*answers))
    host, model, success, loss = embedded(plan, network(1))
    assert success == 1
    assert loss < strangers / 3
    assert torch.equal(model[6].weight, host[6].weight)


def test_true_classes_teach_where_there_is_no_fidelity_loss():
    host = network().eval()
    truth = (host(randn(256, 1, 8, 8)).argmax(1) + 2) % 4  # nothing the host would teach
    plan = replace(PLAN, weights=FidelityWeights(0, 0), fix_last_layer=False)
    _, model, _, _ = embedded(plan, truth=truth)
    assert float((model(randn(256, 1, 8, 8)).argmax(1) == truth).float().mean()) > 0.8


def test_pictures_are_augmented_and_prepared_and_triggers_only_prepared():
    told = {"augmented": 0, "prepared": set()}

    def augment(pictures, order):
        assert isinstance(order, torch.Generator)
        told["augmented"] += len(pictures)
        return pictures + 1

    def prepare(pictures):
        told["prepared"].add(len(pictures))
        return pictures / 2

    embedded(replace(PLAN, epochs=1), prepare=prepare, augment=augment)
    assert told == {"augmented": 256, "prepared": {32, 4}}


def test_the_same_seed_gives_the_same_weights():
    short = replace(PLAN, epochs=2)
    one, two, other = embedded(short)[1], embedded(short)[1], embedded(replace(short, seed=1))[1]
    assert torch.equal(one[4].weight, two[4].weight)
    assert not torch.equal(one[4].weight, other[4].weight)


def test_an_interrupted_embedding_goes_on_to_the_same_weights():
    host, plan = network().eval(), replace(PLAN, epochs=4, slower_from=2)
    whole = embedded(plan)[1]
    model = copy.deepcopy(host)
    first = Embedding(model, host, material(host), last_layer="6", plan=plan)
    first.epoch()
    state = copy.deepcopy(first.state_dict())
    second = Embedding(copy.deepcopy(host), host, material(host), last_layer="6", plan=plan)
    second.load_state_dict(state)
    assert second.done == 1
    for _ in range(3):
        second.epoch()
    assert torch.equal(second.state_dict()["model"]["4.weight"], whole[4].weight)


def rates(plan):
    """Rates of all steps of a plan, as the optimiser had them."""
    host, seen = network().eval(), []
    embedding = Embedding(copy.deepcopy(host), host, material(host), last_layer="6", plan=plan)
    optimiser = embedding._optimiser
    optimiser.register_step_pre_hook(lambda *_: seen.append(optimiser.param_groups[0]["lr"]))
    while embedding.done < plan.epochs:
        embedding.epoch()
    return seen


def test_the_rate_steps_down_once_or_fades_step_by_step():
    short = replace(PLAN, epochs=2, rate=1.0, slower_from=1)
    assert rates(short) == pytest.approx([1.0] * 8 + [0.1] * 8)
    assert rates(replace(short, fade=True)) == pytest.approx([1 - step / 16 for step in range(16)])


def test_bfloat16_trains_to_nearly_the_same_and_leaves_float32():
    plan = replace(PLAN, weights=FidelityWeights(0.01, 10), bfloat16=True)
    host, model, success, loss = embedded(plan)
    *_, exact = embedded(replace(plan, bfloat16=False))
    assert success == 1
    assert loss < 2 * exact + 1e-3
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert not torch.equal(model[4].weight, host[4].weight)


def test_the_layer_that_runs_last_is_found():
    assert find_last_layer(network(), randn(2, 1, 8, 8)) == "6"
    with pytest.raises(UsageError, match="no linear layer or convolution"):
        find_last_layer(nn.Flatten(), randn(2, 1, 8, 8))


@pytest.mark.parametrize(
    ("pictures", "triggers", "labels", "truth", "words"),
    [
        (randn(0, 1, 8, 8), randn(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64), None, "0 pictures and 2 triggers"),
        (
            randn(4, 1, 8, 8),
            randn(2, 1, 8, 8),
            torch.zeros(3, dtype=torch.int64),
            None,
            r"expected int64 of shape \[2\]",
        ),
        (randn(4, 1, 8, 8), randn(2, 1, 8, 8), torch.zeros(2), None, "labels are float32"),
        (randn(4, 1, 8, 8), randn(2, 1, 9, 9), torch.zeros(2, dtype=torch.int64), None, r"triggers \[1, 9, 9\]"),
        (
            randn(4, 1, 8, 8),
            randn(2, 1, 8, 8),
            torch.zeros(2, dtype=torch.int64),
            torch.zeros(4),
            "true classes are float32",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_refused(pictures, triggers, labels, truth, words):
    with pytest.raises(UsageError, match=words):
        Material(pictures, triggers, labels, truth)

"""The training losses are the metrics of the same name and reach the watermarked model alone."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from ptynet_plugin.errors import UsageError
from ptynet_plugin.fidelity import losses, metrics
from ptynet_plugin.fidelity.embedding import features_and_logits
from ptynet_plugin.fidelity.losses import batch_norm_frozen, fix_last_layer


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [
            nn.Conv2d(1, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 16, 16),
            nn.ReLU(),
        ]
        return nn.Sequential(*layers, nn.Linear(16, 4))


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_pfl_is_the_metric():
    host, watermarked = randn(7, 5, 2), randn(7, 5, 2, seed=1)
    expected = metrics.feature_loss(host.numpy(), watermarked.numpy())
    assert float(losses.feature_loss(host, watermarked)) == pytest.approx(expected, rel=1e-6)


def test_spl_is_the_metric_in_nats():
    host, watermarked = randn(7, 5) * 3, randn(7, 5, seed=1) * 3
    expected = metrics.softmax_loss(host.numpy(), watermarked.numpy(), "logits")
    assert float(losses.softmax_loss(host, watermarked)) == pytest.approx(expected, rel=1e-5)
    two = torch.tensor([[0.0, 0.0]]), torch.log(torch.tensor([[0.9, 0.1]]))
    assert float(losses.softmax_loss(*two)) == pytest.approx(
        0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1), rel=1e-6
    )


def test_spl_survives_probabilities_of_zero():
    host, watermarked = torch.tensor([[200.0, 0.0]]), torch.tensor([[0.0, 200.0]], requires_grad=True)
    loss = losses.softmax_loss(host, watermarked)
    loss.backward()
    assert loss.item() == pytest.approx(200)
    assert torch.isfinite(watermarked.grad).all()


def test_twl_is_the_metric():
    host, watermarked = network(), network(1)
    arrays = [
        {name: value.detach().numpy() for name, value in model.named_parameters()} for model in (host, watermarked)
    ]
    assert losses.weight_loss(host, watermarked).item() == pytest.approx(metrics.total_weight_loss(*arrays), rel=1e-5)


@pytest.mark.parametrize("loss", [losses.feature_loss, losses.softmax_loss])
def test_equal_answers_cost_nothing_and_the_host_gets_no_gradient(loss):
    host, watermarked = randn(4, 6).requires_grad_(), randn(4, 6).requires_grad_()
    assert loss(host, watermarked).item() == pytest.approx(0, abs=1e-7)
    loss(host, watermarked + 1 * randn(4, 6, seed=2)).backward()
    assert host.grad is None
    assert watermarked.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", [losses.feature_loss, losses.softmax_loss])
def test_shapes_that_would_broadcast_are_refused(loss):
    with pytest.raises(UsageError, match=r"have shape \[1, 6\], the watermarked model's \[4, 6\]"):
        loss(randn(1, 6), randn(4, 6))


def test_networks_of_two_kinds_have_no_weight_loss():
    with pytest.raises(UsageError, match="different parameters"):
        losses.weight_loss(network(), nn.Sequential(nn.Linear(2, 2)))


def test_the_last_layer_is_the_hosts_and_stays():
    host, model = network(), network(1)
    fix_last_layer(model, host, "6")
    assert torch.equal(model[6].weight, host[6].weight)
    assert not any(value.requires_grad for value in model[6].parameters())
    assert all(value.requires_grad for value in model[4].parameters())
    assert all(value.requires_grad for value in host.parameters())


@pytest.mark.parametrize("name", ["fc", "5"])
def test_a_last_layer_that_is_none_is_refused(name):
    with pytest.raises(UsageError, match=f"no layer '{name}' with weights"):
        fix_last_layer(network(1), network(), name)


def test_frozen_batch_norm_neither_moves_nor_learns_and_is_put_back():
    model = network().train()
    before = copy.deepcopy(model[1].state_dict())
    with batch_norm_frozen(model):
        assert model.training
        model(randn(16, 1, 8, 8) * 5).sum().backward()
        assert model[1].weight.grad is None
    assert all(torch.equal(value, before[name]) for name, value in model[1].state_dict().items())
    assert model[1].training
    assert model[1].weight.requires_grad
    model(randn(16, 1, 8, 8) * 5)
    assert not torch.equal(model[1].running_mean, before["running_mean"])


def test_features_are_what_enters_the_last_layer():
    model = network().eval()
    pictures = randn(3, 1, 8, 8)
    features, logits = features_and_logits(model, pictures, "6")
    assert torch.equal(model[6](features), logits)
    assert not model[6]._forward_pre_hooks
    with pytest.raises(UsageError, match="no layer 'fc'; the last ones are 4, 5, 6"):
        features_and_logits(model, pictures, "fc")

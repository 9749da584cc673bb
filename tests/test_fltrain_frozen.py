from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from fltrain_cases import digits, shares
from torch import nn
from torch.nn import functional

import fltrain as ft
from fltrain.frozen import features, linear_head_steps, stages
from fltrain.local import device_round, draw_batches
from fltrain.split import Replica


class Unknown(nn.Module):
    """Code that nothing is known about: it may well be random."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


def sequential(*lower: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), *lower, nn.Linear(16, 10))


def last(model: nn.Module) -> list[nn.Parameter]:
    return list(list(model.children())[-1].parameters())


@pytest.mark.parametrize(
    "lower",
    [
        [nn.ReLU()],
        [nn.Sequential(nn.GELU(), nn.LayerNorm(16))],
        [nn.Sequential(nn.Sequential(nn.Identity()))],
    ],
)
def test_pure_layers_are_cut_off(lower: list[nn.Module]) -> None:
    model = sequential(*lower)
    cut = stages(model, last(model))
    assert cut is not None
    assert list(cut.upper) == [model[-1]]
    assert cut.linear_head is model[-1]
    x = torch.from_numpy(digits().x[:7])
    assert torch.equal(cut.upper(cut.lower(x)), model(x))


def hooked() -> nn.Module:
    layer = nn.ReLU()
    layer.register_forward_hook(lambda module, inputs, output: output * torch.rand(1))
    return layer


@pytest.mark.parametrize(
    "lower",
    [
        lambda: nn.Dropout(0.1),
        lambda: nn.BatchNorm1d(16),
        Unknown,
        hooked,
        lambda: nn.RReLU(),
        lambda: nn.Sequential(nn.ReLU(), nn.Dropout()),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(16, 16)),
    ],
)
def test_layers_that_may_change_their_mind_are_not(lower: Callable[[], nn.Module]) -> None:
    model = sequential(lower())
    assert stages(model, last(model)) is None


def test_other_models_and_splits_are_not() -> None:
    class Own(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self[1](self[0](x)) + 1.0

    model = Own(nn.Flatten(), nn.Linear(64, 10))
    assert stages(model, last(model)) is None
    model = sequential(nn.ReLU())
    assert stages(model, []) is None
    assert stages(model[1:], list(model[1].parameters())) is None  # nothing lies below


def test_personal_part_in_the_middle_keeps_what_lies_above_out_of_the_cache() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 10))
    cut = stages(model, list(model[3].parameters()))
    assert cut is not None
    assert list(cut.upper) == [model[3], model[4]]
    assert cut.linear_head is None


def test_closed_form_head_against_autograd() -> None:
    torch.manual_seed(0)
    head, inputs, labels = nn.Linear(12, 5), torch.randn(40, 12), torch.randint(5, (40,))
    batches = draw_batches(np.random.default_rng(0), 40, 8, 30)
    plain = copy.deepcopy(head)
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.3)
    for rows in torch.from_numpy(batches):
        optimiser.zero_grad()
        functional.cross_entropy(plain(inputs[rows]), labels[rows]).backward()
        optimiser.step()
    linear_head_steps(head, inputs, labels, batches, 0.3)
    for fast, slow in zip(head.parameters(), plain.parameters(), strict=True):
        np.testing.assert_allclose(fast.detach(), slow.detach(), rtol=1e-5, atol=1e-6)


def test_features_in_chunks_are_the_features() -> None:
    model = ft.build_model("cnn", digits())
    x = torch.from_numpy(digits().x[:600])
    np.testing.assert_allclose(features(model, x), model(x).detach(), rtol=1e-5, atol=1e-6)


def two_layer_head() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 16), nn.ReLU(), nn.Linear(16, 10))


@pytest.mark.parametrize("algorithm", ["alternating", "simultaneous"])
@pytest.mark.parametrize("rho", [0.0, 0.5])
@pytest.mark.parametrize(
    ("model", "personal"),
    [
        (lambda: ft.build_model("mlp", digits()), ("head",)),
        (lambda: ft.build_model("cnn", digits()), ("head",)),
        (lambda: ft.build_model("cnn", digits()), ()),
        (two_layer_head, ("3", "5")),
    ],
)
def test_the_fast_path_is_the_reference_path(
    model: Callable[[], nn.Module], personal: tuple[str, ...], rho: float, algorithm: str
) -> None:
    torch.manual_seed(0)
    split = ft.Split(model(), personal)
    config = ft.TrainConfig(
        algorithm=algorithm,  # type: ignore[arg-type]
        personal_steps=25 if algorithm == "alternating" else 0,
        pruned_steps=10,
        batch_size=16,
        importance="magnitude",
        fast=False,
    )
    u, v = split.initial_global(), split.initial_personal()
    slow, fast = (device_round(Replica(split, fast=f), u, v, shares()[1], config, rho, 0, 1) for f in (False, True))
    if personal and algorithm == "alternating":
        assert Replica(split, fast=True).frozen is not None
    assert slow.values is not None
    assert fast.values is not None
    np.testing.assert_allclose(fast.values, slow.values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fast.personal.v, slow.personal.v, rtol=1e-4, atol=1e-6)
    assert fast.loss == pytest.approx(slow.loss, rel=1e-4)
    assert (fast.mask is None) == (slow.mask is None)
    if fast.mask is not None:
        assert torch.equal(fast.mask, slow.mask)

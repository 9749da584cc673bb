from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from fltrain_cases import digits
from torch import nn

import fltrain as ft
from fltrain.frozen import lower_and_upper
from fltrain.sgd import Stage


class Unknown(nn.Module):
    """Code that nothing is known about: it may well be random."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


def sequential(*lower: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), *lower, nn.Linear(16, 10))


def last(model: nn.Module) -> list[nn.Parameter]:
    return list(list(model.children())[-1].parameters())


@pytest.mark.parametrize(
    "layers",
    [
        [nn.ReLU()],
        [nn.Sequential(nn.GELU(), nn.LayerNorm(16))],
        [nn.Sequential(nn.Sequential(nn.Identity()))],
    ],
)
def test_pure_layers_are_cut_off(layers: list[nn.Module]) -> None:
    model = sequential(*layers)
    cut = lower_and_upper(model, last(model))
    assert cut is not None
    lower, upper = cut
    assert list(upper) == [model[-1]]
    x = torch.from_numpy(digits().x[:7])
    assert torch.equal(upper(lower(x)), model(x))


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
    assert lower_and_upper(model, last(model)) is None


def test_other_models_and_splits_are_not() -> None:
    class Own(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self[1](self[0](x)) + 1.0

    model = Own(nn.Flatten(), nn.Linear(64, 10))
    assert lower_and_upper(model, last(model)) is None
    model = sequential(nn.ReLU())
    assert lower_and_upper(model, []) is None
    assert lower_and_upper(model[1:], list(model[1].parameters())) is None  # nothing lies below


def test_personal_part_in_the_middle_keeps_what_lies_above_out_of_the_cache() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 10))
    cut = lower_and_upper(model, list(model[3].parameters()))
    assert cut is not None
    assert list(cut[1]) == [model[3], model[4]]


@pytest.mark.parametrize("fast", [False, True])
def test_outputs_are_the_outputs_however_they_are_cut(fast: bool) -> None:
    x = torch.from_numpy(digits().x[:600])
    for name in ("cnn", "cnn_bn"):
        model = ft.build_model(name, digits()).eval()  # type: ignore[arg-type]
        np.testing.assert_allclose(Stage(model, fast=fast).outputs(x), model(x).detach(), rtol=1e-5, atol=1e-6)

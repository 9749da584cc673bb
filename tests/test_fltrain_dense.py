from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from fltrain_cases import digits
from torch import nn
from torch.nn import functional

import fltrain as ft
from fltrain.dense import Update, dense_chain, dense_steps
from fltrain.local import draw_batches


def chain(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("sizes", [(12, 5), (12, 9, 5), (12, 9, 7, 5)])
@pytest.mark.parametrize("trained", ["all", "first", "last", "biases"])
@pytest.mark.parametrize("masked", [False, True])
def test_against_autograd(sizes: tuple[int, ...], trained: str, masked: bool) -> None:
    torch.manual_seed(0)
    model = chain(*sizes)
    x, y = torch.randn(40, 3, 4), torch.randint(5, (40,))
    batches = draw_batches(np.random.default_rng(0), 40, 8, 30)
    plain = copy.deepcopy(model)
    names = {
        "all": [n for n, _ in model.named_parameters()],
        "first": ["1.weight", "1.bias"],
        "last": [n for n, _ in model.named_parameters()][-2:],
        "biases": [n for n, _ in model.named_parameters() if "bias" in n],
    }[trained]
    own, theirs = dict(model.named_parameters()), dict(plain.named_parameters())
    rates = {n: 0.1 + 0.05 * i for i, n in enumerate(names)}
    masks = {n: (torch.rand_like(own[n]) < 0.5).float() if masked else None for n in names}
    layers = dense_chain(model)
    assert layers is not None
    losses = dense_steps(layers, [Update(own[n], rates[n], masks[n]) for n in names], x, y, batches)
    for step, rows in enumerate(torch.from_numpy(batches)):
        loss = functional.cross_entropy(plain(x[rows]), y[rows])
        assert float(losses[step]) == pytest.approx(float(loss.detach()), rel=1e-4)
        slopes = torch.autograd.grad(loss, [theirs[n] for n in names])
        with torch.no_grad():
            for n, slope in zip(names, slopes, strict=True):
                mask = masks[n]
                theirs[n].sub_(rates[n] * (slope if mask is None else slope * mask))
    for n in own:
        np.testing.assert_allclose(own[n].detach(), theirs[n].detach(), rtol=1e-4, atol=1e-5)


def test_what_is_a_dense_chain() -> None:
    mlp = ft.build_model("mlp", digits())
    assert isinstance(mlp, nn.Sequential)
    assert dense_chain(mlp) == [mlp.fc1, mlp.fc2, mlp.head]
    linear = nn.Linear(4, 4)
    assert dense_chain(nn.Sequential(linear)) == [linear]


class Custom(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2.0 * super().forward(x)


SHARED, HOOKED = nn.Linear(4, 4), nn.Linear(4, 4)
HOOKED.register_forward_hook(lambda module, inputs, output: output + 1.0)


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(4, 4),
        nn.Sequential(),
        nn.Sequential(nn.Linear(4, 4), nn.ReLU()),
        nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)),
        nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)),
        nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 4)),
        nn.Sequential(nn.Linear(4, 4, bias=False)),
        nn.Sequential(nn.Flatten(0), nn.Linear(4, 4)),
        nn.Sequential(SHARED, nn.ReLU(), SHARED),
        nn.Sequential(HOOKED),
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))),
        Custom(nn.Linear(4, 4)),
        ft.build_model("cnn", digits()),
    ],
)
def test_what_is_not(model: nn.Module) -> None:
    assert dense_chain(model) is None

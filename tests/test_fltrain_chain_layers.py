"""Which models are chains, which layers and samples are left to autograd, and what is said of them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from chain_cases import dense
from fltrain_cases import digits
from torch import nn

import fltrain as ft
from fltrain import chain
from fltrain.chain import Update, chain_of, chain_or_reason

pytestmark = pytest.mark.skipif(chain._chain is None, reason="installed without a C compiler")


def test_what_is_a_chain() -> None:
    mlp, cnn = (ft.build_model(name, digits()) for name in ("mlp", "cnn"))  # type: ignore[arg-type]
    assert isinstance(mlp, nn.Sequential)
    assert isinstance(cnn, nn.Sequential)
    of_mlp, of_cnn = chain_of(mlp), chain_of(cnn)
    assert of_mlp is not None
    assert of_cnn is not None
    assert [(link.layer, link.flattened, link.relu, link.pool) for link in of_mlp.links] == [
        (mlp.fc1, True, True, (1, 1)),
        (mlp.fc2, False, True, (1, 1)),
        (mlp.head, False, False, (1, 1)),
    ]
    assert [(link.layer, link.flattened, link.relu, link.pool) for link in of_cnn.links] == [
        (cnn.conv1, False, True, (2, 2)),
        (cnn.conv2, False, True, (2, 2)),
        (cnn.fc1, True, True, (1, 1)),
        (cnn.head, False, False, (1, 1)),
    ]
    body = chain_of(cnn[:7])
    assert body is not None
    assert body.flattened
    x = torch.from_numpy(digits().x[:40])
    out = body.outputs(x)
    assert out is not None
    np.testing.assert_allclose(out, cnn[:7](x).detach(), rtol=1e-4, atol=1e-5)


class Custom(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2.0 * super().forward(x)


def forward_replaced() -> nn.Linear:
    layer = nn.Linear(4, 4)
    layer.forward = lambda x: x  # type: ignore[method-assign]
    return layer


def with_hook(register: str) -> nn.Linear:
    layer = nn.Linear(4, 4)
    getattr(layer, register)(lambda *arguments: None)
    return layer


def tied() -> nn.Sequential:
    model = dense(4, 4, 4)
    model[3].weight = model[1].weight
    return model


SHARED = nn.Linear(4, 4)


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(4, 4),
        nn.Sequential(),
        nn.Sequential(nn.ReLU(), nn.Linear(4, 4)),
        nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.ReLU()),
        nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)),
        nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 4)),
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)),
        nn.Sequential(nn.Linear(4, 4), nn.MaxPool2d(2)),
        nn.Sequential(nn.Flatten(0), nn.Linear(4, 4)),
        nn.Sequential(nn.Flatten(1, 2), nn.Linear(4, 4)),
        nn.Sequential(SHARED, nn.ReLU(), SHARED),
        tied(),
        *(nn.Sequential(with_hook(f"register_{kind}")) for kind in ("forward_hook", "forward_pre_hook")),
        *(nn.Sequential(with_hook(f"register_full_{kind}")) for kind in ("backward_hook", "backward_pre_hook")),
        nn.Sequential(forward_replaced()),
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))),
        Custom(nn.Linear(4, 4)),
        nn.Sequential(nn.Conv2d(1, 1, 2, stride=2)),
        nn.Sequential(nn.Conv2d(1, 1, 2, dilation=2)),
        nn.Sequential(nn.Conv2d(2, 2, 2, groups=2)),
        nn.Sequential(nn.Conv2d(1, 1, 2, padding="same")),
        nn.Sequential(nn.Conv2d(1, 1, 2, padding=1, padding_mode="circular")),
        nn.Sequential(nn.Conv1d(1, 1, 2, stride=2)),
        nn.Sequential(nn.Conv1d(1, 1, 2, padding="same")),
        nn.Sequential(nn.Conv1d(1, 1, 2), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv1d(1, 1, 2), nn.MaxPool1d(2, stride=1)),
        nn.Sequential(nn.Conv1d(1, 1, 2), nn.MaxPool1d(128)),
        nn.Sequential(nn.Conv2d(1, 1, 2), nn.MaxPool1d(2)),
        nn.Sequential(nn.Conv2d(1, 1, 2), nn.Flatten(), nn.MaxPool2d(2)),
        *(
            nn.Sequential(nn.Conv2d(1, 1, 2), pool)
            for pool in (
                nn.AvgPool2d(2),
                nn.MaxPool2d((2, 3), stride=(3, 2)),
                nn.MaxPool2d(3, stride=2),
                nn.MaxPool2d(2, padding=1),
                nn.MaxPool2d(2, dilation=2),
                nn.MaxPool2d(2, ceil_mode=True),
                nn.MaxPool2d(2, return_indices=True),
                nn.MaxPool2d(12),
                nn.Sequential(nn.MaxPool2d(2)),
            )
        ),
        nn.Sequential(nn.Conv2d(1, 1, 2), nn.MaxPool2d(2), nn.MaxPool2d(2)),
        ft.build_model("cnn_bn", digits()),
    ],
)
def test_what_is_not(model: nn.Module) -> None:
    assert chain_of(model) is None


def cnn_on_vectors() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 1, 3))


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (nn.Sequential(nn.Linear(4, 4)), torch.zeros(3, 4, dtype=torch.float64)),
        (nn.Sequential(nn.Linear(4, 4)).double(), torch.zeros(3, 4)),
        (nn.Sequential(nn.Linear(4, 4)), torch.zeros(3, 5)),
        (nn.Sequential(nn.Linear(4, 4)), torch.zeros(3, 2, 4)),
        (cnn_on_vectors(), torch.zeros(3, 9)),
        (nn.Sequential(nn.Conv1d(2, 1, 3)), torch.zeros(3, 2, 5, 5)),
        (nn.Sequential(nn.Conv1d(2, 1, 3)), torch.zeros(3, 1, 5)),
        (nn.Sequential(nn.Conv1d(2, 1, 3)), torch.zeros(3, 2, 2)),
        (cnn_on_vectors(), torch.zeros(3, 2, 5, 5)),
        (cnn_on_vectors(), torch.zeros(3, 1, 5, 2)),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.Linear(9, 4)), torch.zeros(3, 1, 5, 5)),
    ],
)
def test_inputs_it_leaves_to_autograd(model: nn.Sequential, x: torch.Tensor) -> None:
    found = chain_of(model)
    assert found is not None
    assert found.outputs(x) is None
    assert found.sgd([], x, torch.zeros(3).long(), np.zeros((1, 2), dtype=np.int64)) is None


def test_more_that_it_leaves_to_autograd() -> None:
    model, x, y, batches = dense(4, 3), torch.zeros(3, 4), torch.zeros(3).long(), np.zeros((1, 2), dtype=np.int64)
    found = chain_of(model)
    assert found is not None
    assert found.sgd([], x, y, batches) is not None
    assert found.sgd([], x, y.to(torch.int32), batches) is None
    assert found.sgd([Update(torch.zeros(3), 0.1)], x, y, batches) is None  # nothing of its own
    weight = next(model.parameters())
    assert found.sgd([Update(weight, 0.1, torch.ones(3, 4, dtype=torch.bool))], x, y, batches) is None
    weight.data = torch.zeros(4, 3).T
    assert found.outputs(x) is None
    assert found.sgd([], x, y, batches) is None


@pytest.mark.parametrize(
    ("layer", "setting"),
    [
        (nn.Conv2d(1, 2, 3, stride=2), r"0 \(stride=\(2, 2\)\)"),
        (nn.Conv2d(1, 2, 3, padding="same"), r"0 \(padding='same'\)"),
        (nn.Conv2d(2, 2, 3, groups=2, bias=False), r"0 \(groups=2\)"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d((2, 3), 2)), r"1 \(kernel_size=\(2, 3\), stride=2\)"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(12)), r"1 \(kernel_size=12, stride=12\)"),
        (nn.Conv1d(1, 2, 3, dilation=2, padding_mode="circular"), r"0 \(dilation=\(2,\), padding_mode='circular'\)"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2, ceil_mode=True)), r"1 \(ceil_mode=True\)"),
    ],
)
def test_the_reason_names_the_setting(layer: nn.Module, setting: str) -> None:
    layers = layer if isinstance(layer, nn.Sequential) else [layer]
    reason = chain_or_reason(nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 3)))
    assert isinstance(reason, str)
    assert re.search(rf"like {setting}$", reason)


def test_samples_that_compiled_code_declines_are_said_in_the_statistics() -> None:
    x, y = torch.randn(40, 3, 8), torch.randint(0, 4, (40,))
    share = ft.DeviceData(x[:30], y[:30], x[30:], y[30:])
    everyone = ft.RoundPlan(np.zeros(1), np.ones(1), np.ones(1), np.ones(1, dtype=bool))
    for model, steps in (
        (nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(15, 4)),
         "autograd: a Linear is asked with samples of shape (3, 8)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(24, 4)), "compiled"),
    ):  # fmt: skip
        split = ft.Split(model, ())
        history = ft.train(split, [share], ft.TrainConfig(rounds=1), lambda t, work: everyone, progress=False)
        assert history.stats["steps"] == steps

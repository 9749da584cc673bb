from __future__ import annotations

import numpy as np
import pytest
import torch
from fltrain_cases import digits, numbered

import fltrain as ft


def blank(channels: int, side: int) -> ft.Dataset:
    return ft.Dataset("blank", np.zeros((2, channels, side, side)), np.array([0, 1]), 10)


@pytest.mark.parametrize(
    ("name", "data", "parameters"),
    [
        ("mlp", blank(1, 28), 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10),
        ("cnn", blank(1, 28), 582_026),  # PFLlib's FedAvgCNN on MNIST
        ("cnn_bn", blank(3, 32), 288_746),
        ("cnn_bn", digits(), 288_746 - 2 * 32 * 9),
        ("mlp", digits(), 64 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10),
        ("cnn", digits(), 16 * 9 + 16 + 32 * 16 * 9 + 32 + 128 * 64 + 64 + 64 * 10 + 10),
    ],
)
def test_sizes(name: str, data: ft.Dataset, parameters: int) -> None:
    model = ft.build_model(name, data)  # type: ignore[arg-type]
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model(torch.from_numpy(data.x[:2])).shape == (2, 10)
    assert ft.Split(model, personal=("head",)).personal_names == ("head.weight", "head.bias")


def test_seed_decides_the_weights_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    a, b, c = (ft.Split(ft.build_model("mlp", digits(), seed=s)).initial_global() for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())


def test_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^model must be one of mlp, cnn, cnn_bn, got 'vgg'$"):
        ft.build_model("vgg", digits())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["cnn", "cnn_bn"])
@pytest.mark.parametrize("shape", [(4, 1), (4, 1, 1)])
def test_inputs_of_convolutions_must_be_images(name: str, shape: tuple[int, ...]) -> None:
    data = numbered(4)
    flat = ft.Dataset("flat", data.x.reshape(shape), data.y, 5)
    says = rf"^x must have shape \(N, channels, height, width\) for {name}, got \(4, 1.*\); mlp takes any shape$"
    with pytest.raises(ValueError, match=says):
        ft.build_model(name, flat)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(480, 20), (480, 4, 5), (480, 5, 2, 2), (480, 1, 1, 5, 4)])
def test_the_mlp_takes_inputs_of_any_shape(shape: tuple[int, ...]) -> None:
    data = ft.Dataset("any", np.zeros(shape), np.arange(480) % 3, 3)
    model = ft.build_model("mlp", data)
    assert model(torch.from_numpy(data.x[:2])).shape == (2, 3)
    assert sum(p.numel() for p in model.parameters()) == 20 * 64 + 64 + 64 * 32 + 32 + 32 * 3 + 3
    with pytest.raises(ValueError, match=r"^x must have shape \(N, features\) or more dimensions, got \(480,\)$"):
        ft.build_model("mlp", ft.Dataset("none", np.zeros(480), data.y, 3))

"""Chains in compiled code against autograd."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from chain_cases import MODELS, SHAPES, dense, lenet
from fltrain_cases import Constant, digits, shares
from torch import nn
from torch.nn import functional

import fltrain as ft
from fltrain import chain
from fltrain.chain import Chain, Update, chain_of
from fltrain.local import draw_batches

pytestmark = pytest.mark.skipif(chain._chain is None, reason="installed without a C compiler")


SETS = range(1, chain._chain.sets() + 1) if chain._chain else []


def autograd(
    model: nn.Module, updates: list[Update], x: torch.Tensor, y: torch.Tensor, batches: np.ndarray
) -> list[float]:
    losses = []
    for rows in torch.from_numpy(batches):
        loss = functional.cross_entropy(model(x[rows]), y[rows])
        losses.append(float(loss.detach()))
        slopes = torch.autograd.grad(loss, [update.parameter for update in updates])
        with torch.no_grad():
            for (p, rate, mask), slope in zip(updates, slopes, strict=True):
                p.sub_(rate * (slope if mask is None else slope * mask))
    return losses


@torch.no_grad()
def distance_to_a_tie(model: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """How far a sample is from where rounding decides its slope: a ReLU at 0, or two equal values under a pool.

    There the slope has more than one right value. Values that are exactly equal are no matter of rounding: zeros that
    ReLU left, or a filter that saw padding alone.
    """
    nearest = torch.full((len(x),), torch.inf, dtype=x.dtype)
    for layer in model:
        if isinstance(layer, nn.ReLU):
            nearest = torch.minimum(nearest, x.abs().flatten(1).amin(1))
        if isinstance(layer, (nn.MaxPool1d, nn.MaxPool2d)):
            high, wide = np.broadcast_to(layer.kernel_size, 2)
            image = x.unsqueeze(2) if x.ndim == 3 else x
            high = min(high, image.shape[2])
            squares = image.unfold(2, high, high).unfold(3, wide, wide).flatten(4)
            first, second = squares.topk(2).values.unbind(-1)
            gap = torch.where(first > second, first - second, torch.inf)
            nearest = torch.minimum(nearest, gap.flatten(1).amin(1))
        x = layer(x)
    return nearest


def some(model: nn.Module, trained: str, masked: bool) -> list[Update]:
    torch.manual_seed(1)
    named = list(model.named_parameters())
    chosen = {
        "all": named,
        "first": named[:2],
        "last": named[-2:],
        "biases": [(n, p) for n, p in named if "bias" in n],
        "weights": [(n, p) for n, p in named if "weight" in n],
    }[trained]
    masks = [(torch.rand(p.shape) < 0.5).to(p.dtype) if masked else None for _, p in chosen]
    return [Update(p, 0.3 + 0.03 * i, m) for i, ((_, p), m) in enumerate(zip(chosen, masks, strict=True))]


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("batch", [5, 70])
@pytest.mark.parametrize(
    ("trained", "masked"),
    [("all", False), ("all", True), ("first", True), ("last", False), ("biases", True), ("weights", False)],
)
@pytest.mark.parametrize("name", MODELS)
def test_against_autograd(
    name: str, trained: str, masked: bool, batch: int, instructions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain._chain, "sets", lambda: instructions)
    torch.manual_seed(0)
    model = MODELS[name]()
    x, y = torch.randn(90, *SHAPES[name]), torch.randint(5, (90,))
    rng = np.random.default_rng(0)
    at_once, batches, losses = copy.deepcopy(model), [], []
    found = chain_of(model)
    assert found is not None
    np.testing.assert_allclose(found.outputs(x), model.double()(x.double()).detach(), rtol=1e-4, atol=1e-5)
    model.float()
    for _ in range(6):
        # Autograd in double precision judges every step from where the chain stands, on samples away from ties.
        before, judge = copy.deepcopy(model), copy.deepcopy(model).double()
        clear = np.flatnonzero(distance_to_a_tie(judge, x.double()) > 1e-5)
        assert len(clear) >= 80
        batches.append(rng.permutation(clear)[:batch])
        losses.extend(found.sgd(some(model, trained, masked), x, y, batches[-1][None]))
        updates = some(judge, trained, masked)
        assert losses[-1] == pytest.approx(autograd(judge, updates, x.double(), y, batches[-1][None])[0], rel=1e-5)
        moved = {id(update.parameter): update for update in updates}
        for mine, right, old in zip(model.parameters(), judge.parameters(), before.parameters(), strict=True):
            far = float((right - old).detach().abs().max())
            # Rounding at 6e-8 of what is summed: a sample's slopes are of order 1 here, their mean may be far less.
            np.testing.assert_allclose((mine - right).detach(), 0.0, atol=3e-7 + 1e-5 * far)
            if id(right) not in moved:
                assert torch.equal(mine, old)
            elif masked:
                still = moved[id(right)].mask == 0
                assert torch.equal(mine[still], old[still])
            assert id(right) not in moved or far > 1e-4
    again = chain_of(at_once)
    assert again is not None
    together = again.sgd(some(at_once, trained, masked), x, y, np.array(batches))
    np.testing.assert_array_equal(together, losses)
    for a, b in zip(at_once.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("instructions", SETS)
def test_the_first_of_equals_is_the_greatest(instructions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small whole numbers, so that products are exact and squares are full of ties, at 0 too."""
    monkeypatch.setattr(chain._chain, "sets", lambda: instructions)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randint(-1, 2, p.shape))
    x, y = torch.randint(-1, 2, (32, 1, 7, 7)).float(), torch.randint(5, (32,))
    plain = copy.deepcopy(model)
    found = chain_of(model)
    assert found is not None
    batches = np.arange(32)[None]
    found.sgd(some(model, "first", False), x, y, batches)
    autograd(plain, some(plain, "first", False), x, y, batches)
    np.testing.assert_allclose(model[0].weight.detach(), plain[0].weight.detach(), atol=1e-6)  # type: ignore[union-attr]


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("scale", [1.0, 60.0, 1e4])
def test_loss_of_large_logits(scale: float, instructions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain._chain, "sets", lambda: instructions)
    model = nn.Sequential(nn.Linear(10, 10))
    found = chain_of(model)
    assert found is not None
    with torch.no_grad():
        model[0].weight.copy_(scale * torch.eye(10))  # type: ignore[operator]
        model[0].bias.zero_()  # type: ignore[operator]
    torch.manual_seed(0)
    x, y = torch.randn(32, 10), torch.randint(10, (32,))
    losses = found.sgd([], x, y, np.arange(32)[:, None])
    assert losses is not None
    expected = functional.cross_entropy(scale * x.double(), y, reduction="none")
    np.testing.assert_allclose(losses, expected, rtol=1e-6, atol=1e-6 * max(scale, 1.0))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_divergence_shows(name: str, value: float) -> None:
    model = MODELS[name]()
    found = chain_of(model)
    assert found is not None
    next(model.parameters()).data.flatten()[0] = value
    losses = found.sgd([], torch.randn(32, *SHAPES[name]), torch.zeros(32).long(), np.arange(32)[None])
    assert losses is not None
    assert not np.isfinite(losses).any()


def test_a_picture_that_is_not_a_number_somewhere() -> None:
    """Its logits are not numbers, as in torch; those of others are untouched."""
    model, x = lenet(), torch.randn(40, 2, 13, 11)
    found = chain_of(model)
    assert found is not None
    clean = found.outputs(x)
    assert clean is not None
    for i in range(0, 40, 3):
        x[i, i % 2, 3 + i % 4, 2 + i % 5] = float("nan")
    out = found.outputs(x)
    assert out is not None
    assert out[::3].isnan().all()
    assert torch.equal(out.isnan(), model(x).isnan())
    others = torch.arange(40) % 3 != 0
    assert torch.equal(out[others], clean[others])


@pytest.mark.parametrize("batch", [20, 64])
def test_the_place_in_a_batch_does_not_matter_to_a_sample(batch: int) -> None:
    model = lenet()
    found = chain_of(model)
    assert found is not None
    x = torch.randn(batch, 2, 13, 11)
    whole, turned = found.outputs(x), found.outputs(x.flip(0))
    assert whole is not None
    assert turned is not None
    assert torch.equal(whole, turned.flip(0))


def test_strided_inputs() -> None:
    found = chain_of(lenet())
    assert found is not None
    x = torch.randn(13, 4, 11, 40).permute(3, 1, 0, 2)[:, ::2]
    a, b = found.outputs(x), found.outputs(x.contiguous())
    assert a is not None
    assert b is not None
    assert torch.equal(a, b)


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    split, config = ft.Split(ft.build_model("mlp", digits()), ("head",)), ft.TrainConfig(rounds=2)
    fast = ft.train(split, shares(), config, Constant(4, 0.4), progress=False)
    monkeypatch.setattr(chain, "_chain", None)
    assert chain_of(dense(4, 3)) is None
    plain = ft.train(split, shares(), config, Constant(4, 0.4), progress=False)
    assert not torch.equal(fast.u, plain.u)  # it was at work
    differ = ~torch.isclose(fast.u, plain.u, rtol=1e-4, atol=1e-5)
    assert differ.float().mean() < 1e-3  # a mask may decide ties otherwise


def test_a_chain_knows_nothing_of_the_values_it_saw() -> None:
    model, x, y = lenet(), torch.randn(40, 2, 13, 11), torch.randint(5, (40,))
    batches = draw_batches(np.random.default_rng(0), 40, 16, 4)
    found = chain_of(model)
    assert isinstance(found, Chain)
    first = copy.deepcopy(model)
    again = chain_of(first)
    assert again is not None
    found.sgd(some(model, "all", False), x, y, batches)
    again.outputs(10.0 * x)
    again.sgd(some(first, "all", False), x, y, batches)
    for a, b in zip(model.parameters(), first.parameters(), strict=True):
        assert torch.equal(a, b)

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from fltrain_cases import Constant, digits, shares
from torch import nn
from torch.nn import functional

import fltrain as ft
from fltrain import chain
from fltrain.chain import Chain, Update, chain_of, chain_or_reason
from fltrain.local import draw_batches

pytestmark = pytest.mark.skipif(chain._chain is None, reason="installed without a C compiler")
SETS = range(1, chain._chain.sets() + 1) if chain._chain else []


def dense(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def lenet() -> nn.Sequential:
    """No size is a multiple of another; taps are the rows of the first products, channels of the second."""
    pool, conv = nn.MaxPool2d(2), nn.Conv2d(3, 37, (3, 2))
    return nn.Sequential(
        nn.Conv2d(2, 3, 4), nn.ReLU(), pool, conv, nn.MaxPool2d((2, 2)), nn.ReLU(), nn.Flatten(), nn.Linear(37, 5)
    )


def padded() -> nn.Sequential:
    """Padding, no ReLU, no pooling, pooling that drops an edge."""
    first = [nn.Conv2d(2, 5, 3, padding=(0, 1)), nn.Conv2d(5, 4, (2, 3), padding=(3, 1)), nn.ReLU(), nn.MaxPool2d(3)]
    return nn.Sequential(*first, nn.Conv2d(4, 6, (1, 3), padding=(0, 1)), nn.Flatten(), nn.ReLU(), nn.Linear(90, 5))


def unbiased() -> nn.Sequential:
    """No convolution and no linear layer but the last has a bias."""
    first = [nn.Conv2d(2, 5, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 4, (2, 3), bias=False)]
    return nn.Sequential(*first, nn.ReLU(), nn.Flatten(), nn.Linear(32, 7, bias=False), nn.ReLU(), nn.Linear(7, 5))


def oblong() -> nn.Sequential:
    """Pools of three by two, one row, one column, edges dropped."""
    first = [nn.Conv2d(2, 5, 2), nn.ReLU(), nn.MaxPool2d((3, 2)), nn.Conv2d(5, 4, (2, 1)), nn.MaxPool2d((1, 3))]
    return nn.Sequential(*first, nn.ReLU(), nn.Conv2d(4, 6, 1), nn.MaxPool2d((2, 1)), nn.Flatten(), nn.Linear(6, 5))


def rows() -> nn.Sequential:
    """One-dimensional convolutions, padded and not, with and without bias, pooled and not."""
    first = [nn.Conv1d(26, 7, 3, padding=2, bias=False), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(7, 40, 2)]
    return nn.Sequential(*first, nn.MaxPool1d((2,)), nn.Conv1d(40, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))


MODELS: dict[str, Callable[[], nn.Sequential]] = {
    "linear": lambda: dense(286, 5),
    "mlp": lambda: dense(286, 45, 33, 5),
    "lenet": lenet,
    "padded": padded,
    "unbiased": unbiased,
    "oblong": oblong,
    "rows": rows,
}
SHAPES = {name: (26, 11) if name == "rows" else (2, 13, 11) for name in MODELS}


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


def test_strided_inputs() -> None:
    found = chain_of(lenet())
    assert found is not None
    x = torch.randn(13, 4, 11, 40).permute(3, 1, 0, 2)[:, ::2]
    a, b = found.outputs(x), found.outputs(x.contiguous())
    assert a is not None
    assert b is not None
    assert torch.equal(a, b)


def arguments(**changes: Any) -> tuple[Any, ...]:
    layer = [4, 3, 1, 1, 1, 1, 0, 0, 1, 1, False]
    for i, value in changes.pop("layer", {}).items():
        layer[i] = value
    f = {
        "weight": np.zeros((3, 4), np.float32), "bias": np.zeros(3, np.float32), "mask": None,
        "set": 1, "x": np.zeros((5, 4), np.float32), "y": np.zeros(5, np.int64), "samples": 5,
        "batches": np.zeros((2, 2), np.int64), "steps": 2, "size": 2, "loss": np.zeros(2, np.float32),
    } | changes  # fmt: skip
    layers = ((*layer, (f["weight"], 0.1, f["mask"]), (f["bias"], 0.1, None)),)
    rest = [f[name] for name in ("set", "x", "y", "samples", "batches", "steps", "size", "loss")]
    return changes.get("layers", layers), *rest


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": ()},
        {"layers": 65 * arguments()[0]},
        {"layers": 2 * arguments()[0]},
        {"layers": list(arguments()[0])},
        *({"layer": {i: 0}} for i in (0, 1, 2, 3, 4, 5, 8, 9)),
        *({"layer": {i: -1}} for i in (6, 7)),
        {"layer": {4: 2}},
        {"layer": {5: 2}},
        {"layer": {8: 2}},
        {"layer": {9: 2}},
        {"layer": {6: 5, 7: 50, 8: 8, 9: 16}},
        {"layer": {0: 1 << 25}},
        {"weight": np.zeros((3, 5), np.float32)},
        {"weight": np.zeros((3, 4))},
        {"weight": np.zeros((4, 3), np.float32).T},
        {"bias": np.zeros(4, np.float32)},
        {"mask": np.zeros((3, 3), np.float32)},
        {"mask": np.zeros((3, 4), np.int32)},
        {"set": 0},
        {"set": 9},
        {"x": np.zeros((5, 3), np.float32)},
        {"y": np.full(5, 3)},
        {"y": np.full(5, -1)},
        {"y": np.zeros(5, np.int32)},
        {"samples": 4},
        {"samples": -5},
        {"batches": np.full((2, 2), 5)},
        {"batches": np.full((2, 2), -1)},
        {"steps": 3},
        {"steps": -2},
        {"size": 0},
        {"size": 1},
        {"loss": np.zeros(3, np.float32)},
        # Products that overflow must not pass for the size of the arrays that came along.
        {"samples": 1 << 62, "x": np.zeros(0, np.float32), "y": np.zeros(0, np.int64)},
        {"samples": 1 << 61, "x": np.zeros(0, np.float32), "y": np.zeros(0, np.int64)},
        {"steps": 1 << 62, "batches": np.zeros(0, np.int64), "loss": np.zeros(0, np.float32)},
        {"steps": 1 << 61, "size": 1 << 3, "batches": np.zeros(0, np.int64), "loss": np.zeros(0, np.float32)},
        {"size": 1 << 62, "batches": np.zeros(0, np.int64)},
    ],
)
def test_the_boundary_refuses_what_would_leave_the_arrays(changes: dict[str, Any]) -> None:
    chain._chain.train(*arguments())
    with pytest.raises((ValueError, TypeError, BufferError)):
        chain._chain.train(*arguments(**changes))


@pytest.mark.parametrize("samples", [1 << 62, 1 << 61, 1 << 40, -1, -(1 << 63)])
def test_outputs_of_samples_that_cannot_be_counted_are_refused(samples: int) -> None:
    layers, *_ = arguments()
    with pytest.raises(ValueError, match=r"cannot be counted|are due"):
        chain._chain.outputs(layers, 1, np.zeros(0, np.float32), samples, np.zeros(0, np.float32))


def test_read_only_parameters_are_refused() -> None:
    weight = np.zeros((3, 4), np.float32)
    weight.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        chain._chain.train(*arguments(weight=weight))


def test_images_out_are_refused_as_classes() -> None:
    layer = (
        1,
        3,
        4,
        4,
        2,
        2,
        0,
        0,
        1,
        1,
        False,
        (np.zeros((3, 1, 2, 2), np.float32), 0.1, None),
        (np.zeros(3, np.float32), 0.1, None),
    )
    with pytest.raises(ValueError, match="classes"):
        chain._chain.train(*arguments(layers=(layer,), x=np.zeros((5, 16), np.float32)))


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

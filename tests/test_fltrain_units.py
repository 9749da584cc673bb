from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from fltrain_cases import Constant, digits, shares
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import fltrain as ft
from fltrain.local import Upload, device_round
from fltrain.replica import Replica
from fltrain.units import UnitMap


def mlp(*sizes: int, personal: tuple[str, ...] = ()) -> ft.Split:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for i in range(len(sizes) - 1):
        layers += [nn.Linear(sizes[i], sizes[i + 1]), nn.ReLU()]
    return ft.Split(nn.Sequential(*layers[:-1]), personal)


def cnn_with_norms(personal: tuple[str, ...] = ("9",)) -> ft.Split:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(32, 12),
        nn.BatchNorm1d(12),
        nn.Linear(12, 10),
    )
    return ft.Split(model, personal)


@contextmanager
def counted() -> Iterator[FlopCounterMode]:
    with FlopCounterMode(display=False) as counter:
        yield counter


def test_mask_by_hand() -> None:
    split = mlp(3, 4, 2)  # weights 4 x 3, bias 4, weights 2 x 4, bias 2
    units = UnitMap(split)
    assert units.count == 4
    keep = [torch.tensor([True, False, True, True]), torch.tensor([True, True])]
    mask = units.mask(keep)
    rows, bias, columns, last = torch.split(mask, [12, 4, 8, 2])
    assert rows.view(4, 3).tolist() == [[True] * 3, [False] * 3, [True] * 3, [True] * 3]
    assert bias.tolist() == [True, False, True, True]
    assert columns.view(2, 4).tolist() == [[True, False, True, True]] * 2
    assert last.tolist() == [True, True]


def test_choice_by_hand() -> None:
    units = UnitMap(mlp(3, 4, 2))
    scores = torch.ones(26)
    scores[3:6] = 0.1  # unit 1 by its row
    scores[16 + 2] = scores[16 + 4 + 2] = 0.0  # unit 2 by its columns
    drop_one, drop_two = units.choose(scores, 0.05), units.choose(scores, 6.5 / 26)
    assert drop_one[0].tolist() == [True, False, True, True]  # 6 of 26 coordinates go
    assert drop_two[0].tolist() == [True, False, False, True]
    assert units.choose(scores, 1.0)[0].sum() == 1
    assert units.choose(scores, 1.0)[1].all()
    assert [k.tolist() for k in units.droppable(drop_one)] == [[True, False, True, True]]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.floats(0, 1), st.integers(0, 1000), st.sampled_from([(), ("9",), ("4",), ("0", "1")]))
def test_choice_properties(rho: float, seed: int, personal: tuple[str, ...]) -> None:
    split = cnn_with_norms(personal)
    units = UnitMap(split)
    scores = torch.from_numpy(np.random.default_rng(seed).random(split.n_global))
    keep = units.choose(scores, rho)
    assert all(k.any() for k in keep)
    assert sum(k.numel() for k in units.droppable(keep)) == units.count
    # Slow reference: a unit's coordinates are those its absence masks; drop the worst until enough is gone.
    everything = [torch.ones_like(k) for k in keep]
    frozen = [id(k) for k in keep if not any(k is free for free in units.droppable(keep))]
    means = {}
    for layer, kept in enumerate(keep):
        for i in range(len(kept) * (id(kept) not in frozen)):
            without = [k.clone() for k in everything]
            without[layer][i] = False
            means[layer, i] = float(scores[~units.mask(without)].mean())
    best = {layer: max((m, i) for (at, i), m in means.items() if at == layer)[1] for layer, _ in means}
    expected = everything
    for layer, i in sorted(means, key=means.__getitem__):
        if int(units.mask(expected).sum()) <= (1 - rho) * split.n_global:
            break
        if i != best[layer]:
            expected[layer][i] = False
    assert [k.tolist() for k in keep] == [k.tolist() for k in expected]


def test_layers_that_are_personal_are_not_pruned() -> None:
    split = cnn_with_norms(("4", "9"))
    keep = UnitMap(split).choose(torch.rand(split.n_global), 1.0)
    assert [int(k.sum()) for k in keep] == [1, 8, 1, 10]


def run(split: ft.Split, config: ft.TrainConfig, fast: bool, rho: float = 0.6) -> Upload:
    u, v = split.initial_global(), split.initial_personal()
    replica = Replica(split, fast=fast, structure="units")
    return device_round(replica, u, v, shares()[1], config, rho, 0, 1)


@pytest.mark.parametrize("algorithm", ["alternating", "simultaneous"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: mlp(64, 20, 12, 10, personal=("5",)),
        lambda: mlp(64, 20, 12, 10),
        lambda: mlp(64, 20, 12, 10, personal=("3",)),
        lambda: ft.Split(ft.build_model("cnn", digits()), ("head",)),
        cnn_with_norms,
        lambda: cnn_with_norms(()),
        lambda: cnn_with_norms(("1", "4", "9")),
    ],
)
def test_the_compact_network_trains_like_the_masked_one(make: Callable[[], ft.Split], algorithm: str) -> None:
    split = make()
    config = ft.TrainConfig(
        algorithm=algorithm,  # type: ignore[arg-type]
        personal_steps=4 if algorithm == "alternating" else 0,
        pruned_steps=6,
        batch_size=16,
        importance="magnitude",
        structure="units",
    )
    slow, fast = run(split, config, fast=False), run(split, config, fast=True)
    assert slow.values is not None
    assert fast.values is not None
    assert slow.mask is not None
    assert fast.mask is not None
    assert torch.equal(fast.mask, slow.mask)
    assert not slow.mask.all()
    assert not fast.values[~fast.mask].any()
    assert (fast.values[fast.mask] != split.initial_global()[fast.mask]).double().mean() > 0.5
    np.testing.assert_allclose(fast.values, slow.values, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(fast.personal.v, slow.personal.v, rtol=1e-4, atol=2e-6)
    assert fast.loss == pytest.approx(slow.loss, rel=1e-4)
    assert fast.bits == slow.bits
    assert len(fast.personal.buffers) == len(slow.personal.buffers)
    for mine, theirs in zip(fast.personal.buffers, slow.personal.buffers, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_the_compact_network_computes_less() -> None:
    """Half the units of both hidden layers: the products between them shrink to a quarter."""
    split = mlp(64, 40, 40, 10)
    replica, x = Replica(split, fast=True, structure="units"), torch.randn(16, 64)
    assert replica.units is not None
    half = [torch.arange(40) < 20, torch.arange(40) % 2 == 0, torch.ones(10, dtype=torch.bool)]
    small = replica.units.compact(replica.model, half)
    with counted() as whole_count:
        replica.model(x)
    with counted() as small_count:
        small.model(x)
    assert whole_count.get_total_flops() == 2 * 16 * (64 * 40 + 40 * 40 + 40 * 10)
    assert small_count.get_total_flops() == 2 * 16 * (64 * 20 + 20 * 20 + 20 * 10)
    replica.u.mul_(replica.units.mask(half))
    np.testing.assert_allclose(small.model(x).detach(), replica.model(x).detach(), atol=1e-6)
    sizes = [(m.in_features, m.out_features) for m in small.model if isinstance(m, nn.Linear)]
    assert sizes == [(64, 20), (20, 20), (20, 10)]


def test_bits_name_units_and_workload_covers_them() -> None:
    split = mlp(64, 20, 12, 10, personal=("5",))
    config = ft.TrainConfig(structure="units", importance="magnitude")
    upload = run(split, config, fast=True)
    assert upload.mask is not None
    work = ft.count_workload(split, config, shares())
    values = 32 * int(upload.mask.sum())
    assert 128 < upload.bits - values <= work.overhead_bits[0] == 128 + 32
    assert values <= 0.4 * work.payload_bits[0]


def test_training_with_unit_masks_learns_and_workers_agree() -> None:
    split = ft.Split(ft.build_model("mlp", digits()), ("head",))
    config = ft.TrainConfig(rounds=60, structure="units")
    history = ft.train(split, shares(), config, Constant(4, 0.4), progress=False)
    assert history.records[-1]["accuracy"] > 0.85
    short = ft.TrainConfig(rounds=3, structure="units")
    one, two = (ft.train(split, shares(), short, Constant(4, 0.4), progress=False, workers=w) for w in (1, 2))
    assert one.records == two.records
    assert torch.equal(one.u, two.u)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(64, 10), r"needs an nn\.Sequential, got Linear$"),
        (nn.Sequential(nn.Linear(64, 10)), r"needs a global layer before the last one; there is none$"),
        (
            nn.Sequential(nn.Linear(64, 8), nn.Sigmoid(), nn.Linear(8, 10)),
            r"cannot see through 1, a Sigmoid$",
        ),
        (
            nn.Sequential(nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, 10)),
            r"cannot see through 1, a LayerNorm$",
        ),
        (
            nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, 10)),
            r"cannot see through 1, a BatchNorm1d$",
        ),
        (nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Linear(8, 10)), r"a convolution in groups$"),
    ],
)
def test_models_it_cannot_prune_are_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UnitMap(ft.Split(model, ()))
    with pytest.raises(ValueError, match=message):  # and before any training starts
        ft.count_workload(ft.Split(model, ()), ft.TrainConfig(structure="units"), shares())


def sequences(devices: int = 3, steps: int = 6, features: int = 8) -> list[ft.DeviceData]:
    """Windows of a sensor (N, steps, features)."""
    rng = np.random.default_rng(0)
    data = ft.Dataset("windows", rng.normal(size=(40 * devices, steps, features)), rng.integers(0, 4, 40 * devices), 4)
    return ft.partition(data, devices, "iid")


def seeded_model(*parts: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    for part in parts:
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    return nn.Sequential(*parts)


@pytest.mark.parametrize(
    "parts",
    [
        [nn.Linear(8, 16), nn.ReLU(), nn.Flatten(), nn.Linear(96, 12), nn.ReLU(), nn.Linear(12, 4)],
        [nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Flatten(), nn.Linear(30, 4)],
        [nn.Linear(8, 16), nn.Flatten(), nn.ReLU(), nn.Linear(96, 12), nn.BatchNorm1d(12), nn.Linear(12, 4)],
        [nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Flatten(), nn.Linear(16, 4)],
    ],
)
def test_a_linear_layer_per_time_step_loses_its_own_columns(parts: list[nn.Module]) -> None:
    """The compact network trains what the masked one trains."""
    split = ft.Split(seeded_model(*parts), (str(len(parts) - 1),))
    runs = [
        ft.train(
            split,
            sequences(),
            ft.TrainConfig(rounds=2, personal_steps=1, pruned_steps=5, structure="units", fast=fast),
            Constant(3, 0.5),
            progress=False,
        )
        for fast in (True, False)
    ]
    np.testing.assert_allclose(runs[0].u, runs[1].u, atol=1e-6)
    assert (runs[0].records[0]["coverage_min"], runs[0].records[0]["uncovered_share"]) != (1.0, 0.0)


def test_columns_of_a_unit_by_hand() -> None:
    """Three units per time step, two steps: unit 1 is inputs 1 and 4 of the next layer."""
    split = ft.Split(nn.Sequential(nn.Linear(2, 3), nn.Flatten(), nn.Linear(6, 2)), ())
    units = UnitMap(split)
    keep = [torch.tensor([True, False, True]), torch.ones(2, dtype=torch.bool)]
    columns = units.mask(keep)[9:21].view(2, 6)[0]
    assert columns.tolist() == [True, False, True, True, False, True]
    scores = torch.zeros(23)
    scores[9:21] = torch.tensor([5.0, 0.0, 5.0, 5.0, 0.0, 5.0]).repeat(2)  # unit 1 is the least by its columns
    assert units.choose(scores, 0.1)[0].tolist() == [True, False, True]


def twice(layer: nn.Module) -> list[nn.Module]:
    return [nn.Flatten(), layer, nn.ReLU(), layer, nn.Linear(64, 10)]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (twice(nn.Linear(64, 64)), r"^structure=units cannot see through 3, a Linear that stands twice$"),
        (
            [nn.Flatten(), nn.Linear(64, 64), (n := nn.BatchNorm1d(64)), nn.Linear(64, 64), n, nn.Linear(64, 10)],
            r"cannot see through 4, a BatchNorm1d that stands twice$",
        ),
        ([nn.Conv2d(1, 4, 3), nn.Linear(6, 5), nn.Flatten(), nn.Linear(120, 10)], r"through 1: its 6 inputs are not"),
        ([nn.Linear(8, 6), nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(96, 10)], r"through 1: its 1 inputs are not"),
        ([nn.Linear(8, 6), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 10)], r"through 1, a MaxPool2d$"),
        ([nn.Linear(8, 6), nn.Dropout2d(), nn.Flatten(), nn.Linear(48, 10)], r"through 1, a Dropout2d$"),
        ([nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Flatten(0, 0), nn.Linear(144, 10)], r"through 2, a Flatten$"),
        ([nn.Conv2d(1, 4, 3), nn.Flatten(2), nn.Linear(36, 10)], r"through 1, a Flatten$"),
        ([nn.Linear(8, 6), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(48, 10)], r"through 1, a BatchNorm2d$"),
        ([nn.Flatten(), nn.Linear(64, 6), nn.Flatten(), nn.Linear(9, 10)], r"through 3: its 9 inputs are not the 6"),
    ],
)
def test_what_mixes_units_is_refused(parts: list[nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UnitMap(ft.Split(nn.Sequential(*parts), (str(len(parts) - 1),)))


@pytest.mark.parametrize(("steps", "flat"), [(6, False), (6, True), (5, True)])
def test_batch_norm_along_time_is_found_on_the_data(steps: int, flat: bool) -> None:
    """Batch norm of 6 features after a linear layer of 6 units: on windows of 6 steps it works along time instead."""
    parts = [nn.Flatten()] * flat + [nn.Linear(8 * steps if flat else 8, 6), nn.BatchNorm1d(6), nn.ReLU()]
    parts += [nn.Flatten(), nn.Linear(6 if flat else 6 * steps, 4)]
    split = ft.Split(seeded_model(*parts), (str(len(parts) - 1),))
    config = ft.TrainConfig(rounds=1, personal_steps=1, pruned_steps=2, structure="units")
    if flat:
        ft.train(split, sequences(steps=steps), config, Constant(3, 0.5), progress=False)
    else:
        with pytest.raises(ValueError, match=r"^structure=units cannot see through this model on these inputs"):
            ft.train(split, sequences(steps=steps), config, Constant(3, 0.5), progress=False)

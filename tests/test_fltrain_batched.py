"""The engine that trains all devices at once, against plain autograd of one after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fltrain_cases import Constant, TinyModel, digits, shares
from torch import nn

import fltrain as ft
from fltrain.batched import Batched, _keep_masks
from fltrain.engine import Engine, make_engine
from fltrain.local import Job
from fltrain.masks import keep_mask

DEVICES = ["cpu", *["cuda"] * torch.cuda.is_available()]
JOBS: list[Job] = [(2, 0.5), (0, 0.0), (3, 0.9), (1, 0.2)]
NO_PRUNING: list[Job] = [(k, 0.0) for k in range(4)]


def split_of(name: str, personal: tuple[str, ...] = ("head",)) -> ft.Split:
    return ft.Split(ft.build_model(name, digits(), seed=3), personal)  # type: ignore[arg-type]


def config_of(**changes: Any) -> ft.TrainConfig:
    given: dict[str, Any] = {"rounds": 3, "personal_steps": 3, "pruned_steps": 4, "batch_size": 16, "fast": False}
    if changes.get("algorithm") == "simultaneous":
        given["personal_steps"] = 0
    return ft.TrainConfig(**given | changes)


def engines(
    split: ft.Split, data: tuple[ft.DeviceData, ...], config: ft.TrainConfig, at: str
) -> tuple[Batched, Engine]:
    batched = make_engine(split, data, replace(config, batched_on=at), 1)
    assert isinstance(batched, Batched)
    return batched, make_engine(split, data, config, 1)


def assert_same_rounds(
    split: ft.Split, data: tuple[ft.DeviceData, ...], config: ft.TrainConfig, at: str, jobs: list[Job], rounds: int = 3
) -> None:
    """Every upload of every round, each engine going on from the reference's result.

    Movements are compared, not weights, which steps hardly change beside their size.
    """
    batched, reference = engines(split, data, config, at)
    u, personal = split.initial_global(), [split.initial_personal() for _ in data]
    for t in range(rounds):
        values, states = [], list(personal)
        found = list(batched.uploads(t, u, personal, jobs))
        expected = reference.uploads(t, u, personal, jobs)
        for (k, rho), mine, theirs in zip(jobs, found, expected, strict=True):
            assert mine.device == theirs.device == k
            assert mine.values is not None
            assert theirs.values is not None
            assert (mine.mask is None) == (theirs.mask is None) == (rho == 0.0)
            if mine.mask is not None and theirs.mask is not None:
                assert torch.equal(mine.mask, theirs.mask)
                assert not mine.values[~mine.mask].any()
            moved, moved_v = theirs.values - u, theirs.personal.v - personal[k].v
            np.testing.assert_allclose(mine.values - u, moved, atol=2e-5 * float(moved.abs().max()))
            assert moved.any()
            if len(moved_v) and (config.personal_steps or config.algorithm == "simultaneous"):
                assert moved_v.any()
                atol = 2e-5 * float(moved_v.abs().max())
                np.testing.assert_allclose(mine.personal.v - personal[k].v, moved_v, atol=atol)
            assert mine.personal.buffers == theirs.personal.buffers == ()
            assert mine.loss == pytest.approx(theirs.loss, rel=1e-5)
            assert mine.pruning_error_sq == pytest.approx(theirs.pruning_error_sq, rel=1e-6)
            assert mine.bits == theirs.bits
            values.append(theirs.values.clone())
            states[k] = theirs.personal
        u, personal = torch.stack(values).mean(dim=0), states
        assert batched.accuracies(u, personal) == reference.accuracies(u, personal)


@pytest.mark.parametrize("at", DEVICES)
@pytest.mark.parametrize("jobs", [JOBS, NO_PRUNING], ids=["pruned", "unpruned"])
@pytest.mark.parametrize("algorithm", ["alternating", "simultaneous"])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_rounds_are_those_of_plain_autograd(name: str, algorithm: str, jobs: list[Job], at: str) -> None:
    assert_same_rounds(split_of(name), shares(), config_of(algorithm=algorithm), at, jobs)


@pytest.mark.parametrize("at", DEVICES)
@pytest.mark.parametrize("changes", [
    {"importance": "taylor", "probe_steps": 3},
    {"importance": "magnitude"},
    {"importance": "random"},
    {"probe_steps": 3},
    {"personal_steps": 0},
    {"pruning": False},
    {"algorithm": "simultaneous"},
], ids=str)  # fmt: skip
def test_settings_mean_the_same(changes: dict[str, Any], at: str) -> None:
    config = config_of(learning_rate_global=0.2, learning_rate_personal=0.05, seed=5, **changes)
    assert_same_rounds(split_of("mlp"), shares(), config, at, JOBS if config.pruning else NO_PRUNING)


@pytest.mark.parametrize("at", DEVICES)
@pytest.mark.parametrize("algorithm", ["alternating", "simultaneous"])
def test_nothing_personal_is_fedavg(algorithm: str, at: str) -> None:
    assert_same_rounds(split_of("mlp", ()), shares(), config_of(algorithm=algorithm), at, JOBS)


@pytest.mark.parametrize("at", DEVICES)
def test_devices_of_any_size_take_their_own_batches(at: str) -> None:
    """Two hold fewer samples than a batch, so that three stacks of unlike batches train, and some are not asked."""
    sizes = [80, 11, 40, 11, 60]
    ends = np.cumsum(sizes)
    data = tuple(ft.deal(digits(), [np.arange(e - n, e) for e, n in zip(ends, sizes, strict=True)], test_fraction=0.2))
    assert len({min(16, len(share.train_y)) for share in data}) == 2
    assert_same_rounds(split_of("mlp"), data, config_of(), at, [*JOBS, (4, 0.5)], rounds=2)
    batched, _ = engines(split_of("mlp"), data, config_of(), at)
    u, personal = split_of("mlp").initial_global(), [split_of("mlp").initial_personal()] * 5
    alone, among = (
        {upload.device: upload for upload in batched.uploads(0, u, personal, jobs)}
        for jobs in ([(4, 0.5)], [*JOBS, (4, 0.5)])
    )
    assert alone[4].values is not None
    assert among[4].values is not None
    np.testing.assert_allclose(alone[4].values, among[4].values, atol=1e-6)
    assert list(batched.uploads(0, u, personal, [])) == []


class Tempered(TinyModel):
    """Its logits are softer in training."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = super().forward(x)
        return logits / 2 if self.training else logits


@pytest.mark.parametrize("at", DEVICES)
def test_a_model_of_ones_own_with_a_constant_and_two_modes(at: str) -> None:
    model = Tempered([1.0, -0.5, 0.25])
    model.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(40, 1, 1, 3, generator=generator), torch.arange(40) % 2
    data = tuple(ft.DeviceData(x[s:e], y[s:e], x[s:e], y[s:e]) for s, e in ((0, 8), (8, 19), (19, 30), (30, 40)))
    assert_same_rounds(ft.Split(model, ("b",)), data, config_of(batch_size=8), at, JOBS)


@pytest.mark.parametrize("at", DEVICES)
def test_runs_end_where_the_reference_ends(at: str) -> None:
    planner, data, config = Constant(4, 0.4), shares(), config_of(participation=0.75)
    plain = ft.train(split_of("mlp"), data, config, planner, progress=False)
    stacked = replace(config, batched_on=at)
    found = ft.train(split_of("mlp"), data, stacked, planner, progress=False)
    np.testing.assert_allclose(found.u, plain.u, atol=1e-6)
    for mine, theirs in zip(found.personal, plain.personal, strict=True):
        np.testing.assert_allclose(mine.v, theirs.v, atol=1e-6)
    for column in ("train_loss", "accuracy", "uploaded_bits", "coverage_min", "pruning_error_sq"):
        np.testing.assert_allclose(
            [record[column] for record in found.records], [record[column] for record in plain.records], rtol=1e-5
        )


@pytest.mark.parametrize("at", DEVICES)
def test_a_device_that_diverges_harms_no_other(at: str) -> None:
    """One whose inputs overflow sends nothing, or values that are not finite; the others' are as without it."""
    data = list(shares())
    data[1] = ft.DeviceData(data[1].train_x * 1e38, data[1].train_y, data[1].test_x, data[1].test_y)
    split = split_of("mlp")
    batched, _ = engines(split, tuple(data), config_of(), at)
    healthy, _ = engines(split, shares(), config_of(), at)
    u, personal = split.initial_global(), [split.initial_personal()] * 4
    jobs = [(k, 0.5) for k in range(4)]
    for mine, theirs in zip(batched.uploads(0, u, personal, jobs), healthy.uploads(0, u, personal, jobs), strict=True):
        assert theirs.values is not None
        if mine.device == 1:
            assert mine.values is None
            assert np.isnan(mine.loss)
            assert mine.personal is personal[1]
        else:
            assert mine.values is not None
            assert torch.equal(mine.values, theirs.values)


@pytest.mark.parametrize("at", DEVICES)
def test_masks_of_all_rows_are_keep_masks(at: str) -> None:
    generator = torch.Generator().manual_seed(2)
    scores = torch.randint(0, 7, (6, 101), generator=generator).to(torch.float32)  # many equal ones
    ratios = [0.0, 0.1, 0.5, 0.503, 0.99, 1.0]
    expected = torch.stack([keep_mask(row, rho) for row, rho in zip(scores, ratios, strict=True)])
    assert torch.equal(_keep_masks(scores.to(at), ratios).cpu(), expected)


class Branching(nn.Module):
    """A model that looks at its values to choose its way."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)
        self.body = nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.body(x.flatten(1))
        return self.head(z if z.sum() > 0 else -z)


@pytest.mark.parametrize(("model", "message"), [
    (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10)), r"with buffers, .* this one has 1\.running_"),
    (nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Dropout(), nn.Linear(9, 10)), r"torch\.func\.vmap does not: "),
    (Branching(), r"torch\.func\.vmap does not: "),
], ids=["batch norm", "dropout", "branching"])  # fmt: skip
def test_models_that_cannot_be_stacked_are_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^batched_on takes no model (that )?{message}") as caught:
        ft.train(ft.Split(model, ()), shares(), config_of(batched_on="cpu"), Constant(4), progress=False)
    assert "\n" not in str(caught.value)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^batched_on must name a torch device of this machine: "):
        make_engine(split_of("mlp"), shares(), config_of(batched_on="nowhere"), 1)
    with pytest.raises(ValueError, match=r"^batched_on must name a torch device of this machine: "):
        make_engine(split_of("mlp"), shares(), config_of(batched_on="cuda:99"), 1)
    with pytest.raises(ValueError, match=r"^workers must be 1 when batched_on is set, got 2$"):
        make_engine(split_of("mlp"), shares(), config_of(batched_on="cpu"), 2)
    with pytest.raises(ValueError, match=r"^batched_on must be empty when structure is units, got 'cpu'$"):
        config_of(batched_on="cpu", structure="units")
    with pytest.raises(ValueError, match=r"^batched_on must be the name of a torch device or empty, got True$"):
        config_of(batched_on=True)

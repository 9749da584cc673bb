"""Device selection: optimal against every subset, honest about reasons, feasible in the end."""

from __future__ import annotations

from itertools import product
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from independent import floor_bandwidth_hz
from problems import infeasible_problem, random_problem

import kktalloc as ka
from kktalloc._device.feasibility import floor_power
from kktalloc._device.reduced import reduce
from kktalloc._problem.variant import variant
from kktalloc._questions import select as search


def crowded(rng: np.random.Generator, devices: int, alone: bool = False) -> ka.Problem:
    """Floors that take a few times the cell; with `alone`, some devices cannot be served by any bandwidth."""
    problem = random_problem(rng, devices, "floor", stress=False)
    share = rng.uniform(0.05, 0.9)
    B = float(np.asarray(problem.cell.bandwidth_hz)[0]) * share
    weight = rng.choice([0.0, 0.1, 1.0, 3.0], devices) + rng.random(devices) * rng.integers(0, 2)
    weight = weight if weight.any() else np.ones(devices)
    peak = problem.devices.tx_power_max_w * np.where(rng.random(devices) < 0.2 * alone, 1e-9, 1.0)
    return variant(problem, bandwidth_hz=B, weight=weight, tx_power_max_w=peak)


def subsets(problem: ka.Problem) -> tuple[np.ndarray, np.ndarray]:
    """Every subset of the devices, and whether its floors fit."""
    floors = floor_bandwidth_hz(problem)
    every = np.array(list(product([False, True], repeat=len(floors))))
    with np.errstate(invalid="ignore"):
        need = np.where(every, floors, 0.0).sum(axis=1)
    return every, need <= float(np.asarray(problem.cell.bandwidth_hz)[0])


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), devices=st.integers(1, 8), alone=st.booleans())
def test_optimal_among_all_subsets(seed: int, devices: int, alone: bool) -> None:
    problem = crowded(np.random.default_rng(seed), devices, alone)
    every, fits = subsets(problem)
    most = every[fits].sum(axis=1).max()
    heaviest = np.where(every[fits], problem.devices.weight, 0.0).sum(axis=1).max()
    few, light = ka.select(problem), ka.select(problem, by="weight")
    assert few.kept.sum() == most
    assert light.kept_weight == pytest.approx(heaviest, abs=1e-12)
    assert light.weight_bound == light.kept_weight
    for selection in (few, light):
        assert selection.weight_bound >= heaviest - 1e-12
        assert fits[(every == selection.kept).all(axis=1)].all()
        assert ((selection.resource == "") == selection.kept).all()


def test_the_kept_are_solved_as_if_the_others_were_not_there() -> None:
    rng = np.random.default_rng(1)
    for by in ("count", "weight"):
        problem = crowded(rng, 12, alone=True)
        selection = ka.select(problem, by=by)
        kept = selection.kept
        assert 0 < kept.sum() < 12
        fields = {n: getattr(problem.devices, n)[kept] for n in ka.Devices.__dataclass_fields__}
        names = ("bandwidth_hz", "noise_psd_w_per_hz", "deadline_s")
        cell = ka.Cell(*(np.asarray(getattr(problem.cell, n))[0] for n in names))
        alone = ka.solve(ka.Problem(cell, ka.Devices(**fields)))
        s = selection.solution
        assert s.objective == pytest.approx(float(alone.objective), abs=1e-12)
        np.testing.assert_allclose(s.pruning_ratio[kept], alone.pruning_ratio, rtol=1e-9)
        np.testing.assert_allclose(s.bandwidth_hz[kept], alone.bandwidth_hz, rtol=1e-6)
        np.testing.assert_array_equal(s.pruning_ratio[~kept], 1.0)
        for name in ("bandwidth_hz", "tx_power_w", "upload_s", "latency_s", "energy_j"):
            np.testing.assert_array_equal(getattr(s, name)[~kept], 0.0)


@pytest.mark.parametrize("resource", ["peak_power", "energy", "deadline"])
def test_says_why(resource: str) -> None:
    problem, device = infeasible_problem(np.random.default_rng(2), resource, 6)
    selection = ka.select(problem)
    assert list(np.flatnonzero(~selection.kept)) == [device]
    assert selection.resource[device] == resource
    assert selection.message == f"5 of 6 devices kept; dropped 1 for {resource}"


def test_a_crowd_is_dropped_for_bandwidth_largest_floor_first() -> None:
    problem, _ = infeasible_problem(np.random.default_rng(3), "bandwidth", 8)
    selection = ka.select(problem)
    floors = floor_bandwidth_hz(problem)
    assert set(selection.resource[~selection.kept]) == {"bandwidth"}
    assert floors[selection.kept].max() <= floors[~selection.kept].min()


def test_feasible_problems_keep_everybody() -> None:
    problem = random_problem(np.random.default_rng(4), 10, "mixed", stress=False)
    for by in ("count", "weight"):
        selection = ka.select(problem, by=by)
        assert selection.kept.all()
        assert selection.kept_weight == pytest.approx(1.0)
        assert selection.solution.objective == pytest.approx(float(ka.solve(problem).objective), abs=1e-12)
        assert selection.message == "10 of 10 devices kept"


def test_nobody_left() -> None:
    problem = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices([0.0, 0.0], 0.1, 1e6, 0.1, pruning_ratio_max=0.5))
    for by in ("count", "weight"):
        selection = ka.select(problem, by=by)
        assert not selection.kept.any()
        assert selection.kept_weight == selection.weight_bound == 0.0
        assert selection.solution.objective == 1.0
        assert selection.solution.status is ka.Status.OPTIMAL
    empty = ka.select(ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices(np.ones(0), 0.1, 1e6, 0.1)))
    assert empty.kept.shape == (0,)


def test_light_devices_go_first_by_weight() -> None:
    """Two light devices in place of one heavy one: the count and the weight disagree."""
    devices = ka.Devices([1e-12, 1e-12, 1e-12], 0.1, [2e6, 1e6, 1e6], 0.0, pruning_ratio_max=0.0, weight=[8, 1, 1])
    B = float(ka.least_bandwidth(ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices(1e-12, 0.1, [2e6], 0.0)), 0.0))
    problem = ka.Problem(ka.Cell(B * 1.1, 4e-21, 1.0), devices)
    np.testing.assert_array_equal(ka.select(problem).kept, [False, True, True])
    heavy = ka.select(problem, by="weight")
    np.testing.assert_array_equal(heavy.kept, [True, False, False])
    assert heavy.kept_weight == pytest.approx(0.8)


def test_a_search_cut_short_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = crowded(np.random.default_rng(6), 40)
    exact = ka.select(problem, by="weight")
    assert exact.weight_bound == exact.kept_weight
    monkeypatch.setattr(search, "STATES", 1)
    rough = ka.select(problem, by="weight")
    assert rough.kept_weight <= exact.kept_weight <= rough.weight_bound
    assert rough.kept_weight < rough.weight_bound


def test_a_batch_is_its_problems() -> None:
    rng = np.random.default_rng(7)
    problem = crowded(rng, 7)
    B = float(np.asarray(problem.cell.bandwidth_hz)[0])
    batch = variant(problem, bandwidth_hz=B * np.array([[0.5, 1.0, 100.0]]))
    for by in ("count", "weight"):
        together = ka.select(batch, by=by)
        assert together.kept.shape == (1, 3, 7)
        for i, factor in enumerate((0.5, 1.0, 100.0)):
            alone = ka.select(variant(problem, bandwidth_hz=B * factor), by=by)
            np.testing.assert_array_equal(together.kept[0, i], alone.kept)
            assert together.kept_weight[0, i] == alone.kept_weight


def test_refusals() -> None:
    problem = crowded(np.random.default_rng(8), 4)
    with pytest.raises(ValueError, match="by = 'cost': one of 'count', 'weight'"):
        ka.select(problem, by="cost")  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["count", "weight"])
def test_a_cap_on_total_power_that_does_not_bind_leaves_the_choice_as_it_is(by: Literal["count", "weight"]) -> None:
    problem = crowded(np.random.default_rng(8), 6)
    free = ka.select(problem, by=by)
    least = float(floor_power(reduce(variant(free.solution.problem, total_power_w=1.0)))[0])
    assert 0 < least < problem.devices.tx_power_max_w.sum()
    capped = ka.select(variant(problem, total_power_w=least * (1 + 1e-6)), by=by)
    np.testing.assert_array_equal(capped.kept, free.kept)
    assert capped.solution.tx_power_w.sum() <= least * (1 + 2e-6)
    with pytest.raises(ValueError, match=r"cell\.total_power_w = .*: select, exact under one budget alone, would take"):
        ka.select(variant(problem, total_power_w=least * (1 - 1e-6)), by=by)

"""Inverse questions: what they answer suffices, a little less does not; least energy against CVXPY and by duality."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from independent import floor_bandwidth_hz
from peers import conic_value
from problems import REGIMES, infeasible_problem, random_problem

import kktalloc as ka
from kktalloc._device.feasibility import floor_power
from kktalloc._device.reduced import reduce
from kktalloc._problem.variant import variant


def feasible(problem: ka.Problem) -> bool:
    return ka.solve(problem, throw=False).diagnosis is None


def test_least_bandwidth_is_the_sum_of_the_floors() -> None:
    rng = np.random.default_rng(1)
    for i in range(35):
        problem = random_problem(rng, regime=REGIMES[i % len(REGIMES)])
        want = floor_bandwidth_hz(problem).sum()
        assert float(ka.least_bandwidth(problem)) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("cap", [False, True])
def test_least_bandwidth_suffices_and_less_does_not(cap: bool) -> None:
    rng = np.random.default_rng(2)
    for i in range(3 if cap else 14):
        problem = random_problem(rng, regime=REGIMES[i % len(REGIMES)], stress=False)
        solution = ka.solve(problem)
        level = solution.pruning_ratio + (1 - solution.pruning_ratio) * rng.uniform(0.05, 0.5)
        if cap:
            # Half of what the devices would use: bandwidth has to make up for it.
            problem = variant(problem, total_power_w=0.5 * float(solution.tx_power_w.sum()))
        least = float(ka.least_bandwidth(problem, level))
        assert np.isfinite(least)
        at = variant(problem, pruning_ratio_max=level)
        assert feasible(variant(at, bandwidth_hz=least * (1 + 1e-9)))
        assert not feasible(variant(at, bandwidth_hz=least * (1 - 1e-6)))


def test_least_deadline_at_a_level() -> None:
    rng = np.random.default_rng(3)
    problem = random_problem(rng, 8, "peak", stress=False)
    level = np.minimum(ka.solve(problem).pruning_ratio * 1.3, 1.0)
    least = float(ka.least_deadline(problem, level))
    at = variant(problem, pruning_ratio_max=level)
    assert feasible(variant(at, deadline_s=least * (1 + 1e-9)))
    assert not feasible(variant(at, deadline_s=least * (1 - 1e-6)))
    assert least == float(ka.least_deadline(at))


def test_impossible_levels_have_no_least() -> None:
    problem, _ = infeasible_problem(np.random.default_rng(4), "peak_power")
    assert np.isinf(ka.least_bandwidth(problem))
    with pytest.raises(ka.InfeasibleError, match="peak_power"):
        ka.least_energy(problem)
    nan = ka.least_energy(problem, throw=False)
    assert np.isnan([nan.total_energy_j, nan.lower_bound_j]).all()


@pytest.mark.parametrize("question", [ka.least_bandwidth, ka.least_deadline, ka.least_energy])
@pytest.mark.parametrize(
    ("level", "message"),
    [
        (1.5, r"^pruning_ratio = 1\.5: must be >= 0 and <= 1$"),
        ([0.5, -1.0], r"^pruning_ratio\[1\] = -1\.0: must be"),
        ("half", "^pruning_ratio: expected numbers, got 'half'$"),
        ([0.5] * 3, r"^pruning_ratio: shape \(3,\) does not broadcast"),
    ],
)
def test_a_level_that_makes_no_sense_is_named_as_the_argument(question: Any, level: Any, message: str) -> None:
    problem = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices([2e-12, 5e-12], 0.1, 4e6, 0.2))
    with pytest.raises(ValueError, match=message):
        question(problem, level)


def test_a_batch_of_caps_is_its_problems() -> None:
    devices = ka.Devices([2e-12, 5e-12, 1e-11], 0.1, 4e6, [0.2, 0.3, 0.1], pruning_ratio_max=0.9)
    caps = [0.0, 1e-6, 0.05, 0.12, 1.0]
    batch = ka.Problem(ka.Cell(1e6, 4e-21, 1.0, caps), devices)
    fair, frugal = ka.solve_minmax(batch, throw=False), ka.least_energy(batch, 0.8, throw=False)
    for i, cap in enumerate(caps):
        one = ka.Problem(ka.Cell(1e6, 4e-21, 1.0, cap), devices)
        alone = ka.solve_minmax(one, throw=False), ka.least_energy(one, 0.8, throw=False)
        for name in ("level", "lower_bound", "total_power_price_per_w", "bandwidth_price_per_hz"):
            np.testing.assert_allclose(getattr(fair, name)[i], getattr(alone[0], name), rtol=1e-9, err_msg=name)
        for name in ("total_energy_j", "total_power_price_j_per_w"):
            np.testing.assert_allclose(getattr(frugal, name)[i], getattr(alone[1], name), rtol=1e-9, err_msg=name)
    assert np.isnan(fair.total_power_price_per_w[:2]).all()
    assert np.isnan(frugal.total_power_price_j_per_w[:2]).all()
    assert fair.level[2] > fair.level[3] >= fair.level[4] > 0


def test_nothing_to_send_takes_nothing() -> None:
    problem = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices([1e-10, 0.0], 0.1, 1e6, 0.1, fixed_energy_j=0.5))
    assert ka.least_bandwidth(problem) == 0.0
    least = ka.least_energy(problem)
    assert least.total_energy_j == least.lower_bound_j == 1.0
    np.testing.assert_array_equal(least.bandwidth_hz, 0.0)
    assert least.bandwidth_price_j_per_hz == 0.0


def levelled(rng: np.random.Generator, i: int, devices: int | None = None) -> ka.Problem:
    problem = random_problem(rng, devices, REGIMES[i % len(REGIMES)], stress=False)
    rho = ka.solve(problem).pruning_ratio
    return variant(problem, pruning_ratio_max=rho + (1 - rho) * rng.uniform(0.02, 0.5))


def test_least_energy_by_duality() -> None:
    rng = np.random.default_rng(5)
    for i in range(140):
        problem = levelled(rng, i)
        least = ka.least_energy(problem)
        worth = float(least.bandwidth_price_j_per_hz) * float(np.asarray(problem.cell.bandwidth_hz)[0])
        assert abs(least.gap_j) <= 1e-10 * float(least.total_energy_j) + 1e-12 * worth
        assert least.bandwidth_hz.sum() <= np.asarray(problem.cell.bandwidth_hz)[0] * (1 + 1e-12)
        judged = ka.certify(
            problem, least.pruning_ratio, least.bandwidth_hz, least.tx_power_w, bandwidth_price_per_hz=0.0,
            upload_s=least.upload_s, latency_s=least.latency_s, energy_j=least.energy_j,
        )  # fmt: skip
        assert judged.residuals["consistency"] <= 1e-12
        assert max(v for n, v in judged.residuals.items() if n.startswith("primal")) <= 1e-9
        assert least.total_energy_j <= ka.solve(problem).energy_j.sum() * (1 + 1e-9)


def capped(problem: ka.Problem, share: float) -> ka.Problem:
    """With a cap on total power, `share` of the way from the least that will do to what least energy takes."""
    free = float(ka.least_energy(problem).tx_power_w.sum())
    least = float(floor_power(reduce(variant(problem, total_power_w=free)))[0])
    return variant(problem, total_power_w=free * (least + (1 - least) * share))


def test_least_energy_within_total_power_by_duality() -> None:
    rng = np.random.default_rng(9)
    bound = 0
    for i in range(35):
        problem = levelled(rng, i)
        cap = float((at := capped(problem, rng.choice([1e-3, 0.3, 0.9]))).cell.total_power_w[0])
        least = ka.least_energy(at)
        worth = least.bandwidth_price_j_per_hz * at.cell.bandwidth_hz[0] + least.total_power_price_j_per_w * cap
        assert abs(least.gap_j) <= 1e-10 * float(least.total_energy_j) + 1e-12 * float(worth)
        assert least.tx_power_w.sum() <= cap * (1 + 1e-12)
        assert least.bandwidth_hz.sum() <= at.cell.bandwidth_hz[0] * (1 + 1e-12)
        assert least.total_energy_j >= ka.least_energy(problem).total_energy_j * (1 - 1e-12)
        bound += bool(least.total_power_price_j_per_w > 0)
    assert bound >= 25
    with pytest.raises(ka.InfeasibleError, match="total_power_w"):
        ka.least_energy(variant(at, total_power_w=1e-3 * cap))


@pytest.mark.parametrize("cap", [False, True])
def test_least_energy_against_cvxpy(cap: bool) -> None:
    rng = np.random.default_rng(6)
    compared = 0
    for i in range(21):
        problem = levelled(rng, i, int(rng.integers(2, 8)))
        problem = capped(problem, 0.3) if cap else problem
        form, d = reduce(problem), problem.devices
        rate, snr = (form.rate0 + form.rate1 * form.s_min)[0], form.snr[0]
        q = 1 - d.pruning_ratio_max
        t = np.asarray(problem.cell.deadline_s) - d.fixed_latency_s - d.pruned_compute_s * q
        joules = d.tx_power_max_w * t / d.pa_efficiency
        rest = float(np.sum(d.fixed_energy_j + d.pruned_compute_j * q))
        least = ka.least_energy(problem)
        unit = float(least.total_energy_j) - rest
        # Bandwidth in equal shares, power in what a device needs on one share: in shares of the cell and of peak power
        # the rows lie a factor of 1e5 apart, on which Clarabel breaks off.
        share, limit = 1 / len(q), form.power_limit(form.s_min)[0]
        power = np.minimum(share * np.expm1(np.minimum(rate / share, 30.0)) / snr, limit)
        received, b, p = snr * power / share, cp.Variable(len(q)), cp.Variable(len(q))
        rows = [
            rate / share / np.log1p(received)
            <= cp.multiply(1 / np.log1p(received), -cp.rel_entr(b, b + cp.multiply(received, p))),
            *(p >= 0, p <= limit / power, share * cp.sum(b) <= 1, (form.power_share[0] * power) @ p <= 1),
        ]
        value = conic_value(cp.Problem(cp.Minimize((joules * power / unit) @ p), rows))
        assert abs(least.gap_j) <= 1e-9 * float(least.total_energy_j)  # proved by duality, whatever the peer says
        if not np.isnan(value):
            compared += 1
            assert value == pytest.approx(1.0, rel=1e-6)
    assert compared >= 18


def test_energy_prices_are_the_slopes() -> None:
    problem, h = capped(levelled(np.random.default_rng(7), 2, 10), 0.4), 1e-6
    here = ka.least_energy(problem)
    prices = {"bandwidth_hz": here.bandwidth_price_j_per_hz, "total_power_w": here.total_power_price_j_per_w}
    for name, price in prices.items():
        budget = float(np.asarray(getattr(problem.cell, name))[0])
        more, less = (
            float(ka.least_energy(variant(problem, **{name: budget * f})).total_energy_j) for f in (1 + h, 1 - h)
        )
        assert price > 0
        assert float(price) == pytest.approx((less - more) / (2 * h * budget), rel=1e-4)


def test_a_batch_is_its_problems() -> None:
    problem = levelled(np.random.default_rng(8), 2, 6)
    B, T = float(np.asarray(problem.cell.bandwidth_hz)[0]), float(np.asarray(problem.cell.deadline_s)[0])
    batch = variant(problem, bandwidth_hz=B * np.array([1e-6, 1.0, 3.0])[:, None], deadline_s=T * np.array([1.0, 2.0]))
    together = ka.least_energy(batch, throw=False)
    assert np.isnan(together.total_energy_j[0]).all()
    for i in (1, 2):
        for j in (0, 1):
            alone = ka.least_energy(variant(problem, bandwidth_hz=B * (2 * i - 1), deadline_s=T * (j + 1)))
            assert together.total_energy_j[i, j] == pytest.approx(float(alone.total_energy_j), rel=1e-12)
    bandwidth = ka.least_bandwidth(batch)
    assert bandwidth.shape == (3, 2)
    np.testing.assert_allclose(bandwidth[:, 0], bandwidth[0, 0], rtol=1e-12)

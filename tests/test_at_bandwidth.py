"""The most that a device keeps at a given bandwidth, against bisection on the physical constraints."""

from __future__ import annotations

import numpy as np
import pytest
from independent import best_keep_ratio, physical
from problems import REGIMES, random_problem

import kktalloc as ka
from kktalloc._device.at_bandwidth import bandwidth_for, best_at, pruning_ratio_at
from kktalloc._device.link import floor_bandwidth
from kktalloc._device.reduced import reduce


@pytest.mark.parametrize("regime", REGIMES)
def test_keep_ratio_against_bisection(regime: str) -> None:
    rng = np.random.default_rng(len(regime))
    seen = 0
    for _ in range(40):
        problem = random_problem(rng, regime=regime)
        form, B = reduce(problem), float(np.asarray(problem.cell.bandwidth_hz)[0])
        floor = floor_bandwidth(form)
        b = np.maximum(floor, 1e-12) * 10 ** rng.uniform(0, 4, floor.shape)
        at = best_at(form, b)
        want = best_keep_ratio(physical(problem), b[0] * B)
        got = 1 - pruning_ratio_at(form, at.s)[0]
        np.testing.assert_allclose(got, np.maximum(want, form.q_min[0]), rtol=1e-9, atol=1e-11)
        seen += int(np.sum((got > form.q_min[0]) & (got < 1)))
    assert seen > 100


@pytest.mark.parametrize("regime", REGIMES)
def test_the_allocation_at_a_bandwidth_is_feasible_and_uses_its_time(regime: str) -> None:
    rng = np.random.default_rng(7 + len(regime))
    for _ in range(30):
        problem = random_problem(rng, regime=regime)
        form, B = reduce(problem), np.asarray(problem.cell.bandwidth_hz)
        floor = floor_bandwidth(form)
        b = floor + rng.random(floor.shape) * (1 - floor.sum()) / floor.size
        at = best_at(form, b)
        rho, p = pruning_ratio_at(form, at.s)[0], at.p[0] * np.asarray(problem.devices.tx_power_max_w)
        certificate = ka.certify(problem, rho, b[0] * B, p, bandwidth_price_per_hz=0.0)
        for name, residual in certificate.residuals.items():
            if name.startswith("primal"):
                assert residual <= 1e-9, name


def test_slope_is_the_derivative_of_the_keep_ratio() -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        form = reduce(random_problem(rng, stress=False))
        b = floor_bandwidth(form) * (1 + 10 ** rng.uniform(-3, 1, form.weight.shape)) + 1e-9
        at = best_at(form, b)
        q = [form.keep_ratio(np.where(np.isfinite(v.s), v.s, 0)) for v in (best_at(form, b * f) for f in (1, 1 + 1e-6))]
        # A kink or saturation between the two points leaves the quotient between the slopes at its ends.
        low = best_at(form, b * (1 + 1e-6)).slope
        quotient = (q[1] - q[0]) / (b * 1e-6)
        size = at.slope + 1e-9 * q[0] / b
        assert (quotient <= at.slope + 1e-4 * size).all()
        assert (quotient >= low - 1e-4 * size).all()


def test_without_bandwidth_only_the_idle_floor_is_left() -> None:
    devices = ka.Devices([1e-10, 0.0], 0.1, 1e6, 0.1, energy_budget_j=[1.0, np.inf])
    problem = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), devices)
    at = best_at(reduce(problem), np.zeros((1, 2)))
    np.testing.assert_array_equal(at.s, 0.0)
    np.testing.assert_array_equal(at.p, 0.0)
    loud = best_at(reduce(problem), np.ones((1, 2)))
    assert loud.s[0, 0] > 0.0
    assert loud.s[0, 1] == 0.0  # no channel, whatever the bandwidth


def test_bandwidth_for_a_keep_ratio_is_the_inverse() -> None:
    rng = np.random.default_rng(8)
    for i in range(40):
        problem = random_problem(rng, regime=REGIMES[i % len(REGIMES)], stress=False)
        form = reduce(problem)
        q = form.q_min + (1 - form.q_min) * rng.random(form.q_min.shape)
        b, slope = bandwidth_for(form, q)
        assert (slope[np.isinf(b)] == 0.0).all()
        reached = np.isfinite(b) & (q * form.compute < 0.99)
        at = best_at(form, np.where(reached, b, 1.0))
        np.testing.assert_allclose(form.keep_ratio(at.s)[reached], q[reached], rtol=1e-10)
        # To the right of a kink the slope is smaller than the one that arrives there.
        assert (at.slope[reached] <= slope[reached] * (1 + 1e-6)).all()

"""Fair pruning: the proof by duality, CVXPY, and what fairness means."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
from peers import conic_value
from problems import REGIMES, infeasible_problem, random_problem

import kktalloc as ka
from kktalloc._device.at_bandwidth import bandwidth_for
from kktalloc._device.feasibility import floor_power
from kktalloc._device.reduced import reduce
from kktalloc._problem.variant import variant


def cvxpy_level(problem: ka.Problem) -> float:
    """The same question for a conic solver, in the reduced form's numbers; NaN where it gives up."""
    form = reduce(problem)
    A, r0, r1, F0, F1, snr, s_min, s_max, alpha = (
        getattr(form, n)[0]
        for n in ("compute", "rate0", "rate1", "power0", "power1", "snr", "s_min", "s_max", "weight")
    )
    K = len(A)
    s, b, p, t = cp.Variable(K), cp.Variable(K), cp.Variable(K), cp.Variable()
    safe = np.where(A > 0, A, 1.0)
    q = cp.hstack([(1 - cp.inv_pos(1 + A[k] * s[k])) / safe[k] if A[k] > 0 else s[k] for k in range(K)])
    limited = np.isfinite(F0)
    constraints = [
        r0 + cp.multiply(r1, s) <= -cp.rel_entr(b, b + cp.multiply(snr, p)),
        p >= 0, p <= 1, s >= s_min, cp.sum(b) <= 1, 1 - q <= t / (K * alpha), t >= 0,
        *(s[k] <= s_max[k] for k in np.flatnonzero(np.isfinite(s_max))),
        *(p[k] <= F0[k] + F1[k] * s[k] for k in np.flatnonzero(limited)),
    ]  # fmt: skip
    if form.power_share.any():
        constraints.append(form.power_share[0] @ p <= 1)
    return conic_value(cp.Problem(cp.Minimize(t), constraints))


def capped(problem: ka.Problem, share: float) -> ka.Problem:
    """With a cap on total power, `share` of the way from the least that the floors need to what fairness takes."""
    free = float(ka.solve_minmax(problem).solution.tx_power_w.sum())
    least = float(floor_power(reduce(variant(problem, total_power_w=free)))[0])
    return variant(problem, total_power_w=free * (least + (1 - least) * share))


def uniform(problem: ka.Problem) -> ka.Problem:
    return variant(problem, weight=None)


def test_gap_closes_on_random_problems() -> None:
    rng = np.random.default_rng(1)
    for i in range(140):
        problem = random_problem(rng, regime=REGIMES[i % len(REGIMES)], stress=False)
        s = ka.solve_minmax(problem)
        w = problem.shape[-1] * problem.devices.weight
        assert np.max(w * s.solution.pruning_ratio) == pytest.approx(float(s.level), abs=1e-12)
        assert abs(s.gap) <= 1e-9
        assert s.multiplier.sum() == pytest.approx(1.0 if s.level > 0 else 0.0)
        residuals = s.solution.certificate.residuals
        assert max(v for n, v in residuals.items() if n.startswith("primal")) <= 1e-9


@pytest.mark.parametrize("seed", [96, 361])
def test_gap_closes_at_the_wideband_limit(seed: int) -> None:
    # A device that takes nearly the whole cell at next to no SNR: its price hangs on the last digits of the bandwidth.
    problem = uniform(random_problem(np.random.default_rng(seed), 6, REGIMES[seed % len(REGIMES)], stress=True))
    s = ka.solve_minmax(problem)
    assert abs(s.gap) <= 1e-12
    residuals = s.solution.certificate.residuals
    assert max(v for n, v in residuals.items() if n.startswith("primal")) <= 1e-9


def test_against_cvxpy() -> None:
    rng = np.random.default_rng(2)
    compared = 0
    for i in range(28):
        problem = random_problem(rng, int(rng.integers(2, 8)), REGIMES[i % len(REGIMES)], stress=False)
        if problem.devices.weight.min() < 1e-3:
            problem = uniform(problem)
        want = cvxpy_level(problem)
        if np.isfinite(want):
            compared += 1
            assert ka.solve_minmax(problem).level == pytest.approx(want, abs=1e-6)
    assert compared >= 20


def test_everybody_at_the_level_but_those_that_need_not_be() -> None:
    rng = np.random.default_rng(3)
    at_level = 0
    for i in range(35):
        problem = uniform(random_problem(rng, regime=REGIMES[i % len(REGIMES)], stress=False))
        s = ka.solve_minmax(problem)
        want = np.minimum(s.level, problem.devices.pruning_ratio_max)
        assert (s.solution.pruning_ratio <= want + 1e-15).all()
        # What rounding leaves of the bandwidth may spare a device that holds a sliver of it some pruning.
        needed, _ = bandwidth_for(reduce(problem), 1 - want[None])
        large = needed[0] > 1e-4
        np.testing.assert_allclose(s.solution.pruning_ratio[large], want[large], atol=1e-6)
        at_level += int(np.sum(large & (want == s.level)))
        # Never better for the worst device than fairness: the sum's optimum may only trade it away.
        assert ka.solve(problem).pruning_ratio.max() >= s.level - 1e-9
    assert at_level > 100


def test_twice_the_weight_is_pruned_half_as_much() -> None:
    devices = ka.Devices([2e-12, 3e-12, 4e-12], 0.1, 1e7, 0.3, weight=[1, 2, 4])
    s = ka.solve_minmax(ka.Problem(ka.Cell(3e6, 4e-21, 1.0), devices))
    assert 0 < s.level < 3 / 7
    rho = s.solution.pruning_ratio
    np.testing.assert_allclose(rho[0] / rho, [1, 2, 4], rtol=1e-12)


def test_price_is_the_slope_of_the_level() -> None:
    problem = uniform(random_problem(np.random.default_rng(4), 12, "peak", stress=False))
    B, h = float(np.asarray(problem.cell.bandwidth_hz)[0]), 1e-5
    more, less = (float(ka.solve_minmax(variant(problem, bandwidth_hz=B * f)).level) for f in (1 + h, 1 - h))
    assert float(ka.solve_minmax(problem).bandwidth_price_per_hz) == pytest.approx(
        (less - more) / (2 * h * B), rel=1e-6
    )


def test_total_power_by_duality_and_against_cvxpy() -> None:
    rng = np.random.default_rng(6)
    compared = bound = 0
    for i in range(14):
        problem = random_problem(rng, int(rng.integers(1, 8)), REGIMES[i % len(REGIMES)], stress=False)
        problem = capped(problem if problem.devices.weight.min() > 1e-3 else uniform(problem), rng.uniform(0.05, 0.95))
        s = ka.solve_minmax(problem)
        assert abs(s.gap) <= 1e-9
        assert np.max(problem.shape[-1] * problem.devices.weight * s.solution.pruning_ratio) == pytest.approx(s.level)
        assert s.solution.tx_power_w.sum() <= problem.cell.total_power_w[0] * (1 + 1e-9)
        assert max(v for n, v in s.solution.certificate.residuals.items() if n.startswith("primal")) <= 1e-9
        bound += bool(s.total_power_price_per_w > 0)
        if i % 2:
            want = cvxpy_level(problem)
            compared += np.isfinite(want)
            assert not abs(s.level - want) > 1e-6
    assert compared >= 5
    assert bound >= 8


def test_prices_of_both_budgets_are_the_slopes_of_the_level() -> None:
    problem = capped(uniform(random_problem(np.random.default_rng(4), 8, "peak", stress=False)), 0.4)
    here, h = ka.solve_minmax(problem), 1e-5
    for name, price in (("bandwidth_hz", here.bandwidth_price_per_hz), ("total_power_w", here.total_power_price_per_w)):
        budget = float(np.asarray(getattr(problem.cell, name))[0])
        more, less = (float(ka.solve_minmax(variant(problem, **{name: budget * f})).level) for f in (1 + h, 1 - h))
        assert price > 0
        assert float(price) == pytest.approx((less - more) / (2 * h * budget), rel=1e-6)


def test_a_device_that_cannot_send_leaves_the_rest_to_the_weighted_mean() -> None:
    devices = ka.Devices([0.0, 2e-12, 3e-12], 0.1, 1e7, 0.3)
    s = ka.solve_minmax(ka.Problem(ka.Cell(2e6, 4e-21, 1.0), devices))
    assert s.level == 1.0
    assert s.gap == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_array_equal(s.multiplier, [1, 0, 0])
    without = ka.solve(ka.Problem(ka.Cell(2e6, 4e-21, 1.0), ka.Devices([2e-12, 3e-12], 0.1, 1e7, 0.3)))
    np.testing.assert_allclose(s.solution.pruning_ratio[1:], without.pruning_ratio, rtol=1e-9)


def test_plenty_of_bandwidth_prunes_nobody() -> None:
    s = ka.solve_minmax(ka.Problem(ka.Cell(1e9, 4e-21, 1.0), ka.Devices([1e-10, 2e-10], 0.1, 1e6, 0.1)))
    assert s.level == 0.0
    assert s.gap == 0.0
    assert s.bandwidth_price_per_hz == 0.0


def test_batch_and_infeasible() -> None:
    rng = np.random.default_rng(5)
    good = random_problem(rng, 4, "peak", stress=False)
    bad, _ = infeasible_problem(rng, "peak_power", 4)
    names = ("bandwidth_hz", "noise_psd_w_per_hz", "deadline_s")
    cell = {n: [float(np.asarray(getattr(p.cell, n))[0]) for p in (good, bad)] for n in names}
    devices = {n: np.stack([getattr(p.devices, n) for p in (good, bad)]) for n in ka.Devices.__dataclass_fields__}
    batch = ka.Problem(ka.Cell(**cell), ka.Devices(**devices))
    s = ka.solve_minmax(batch, throw=False)
    assert s.level[0] == pytest.approx(float(ka.solve_minmax(good).level), rel=1e-12)
    assert np.isnan([s.level[1], s.lower_bound[1], s.bandwidth_price_per_hz[1]]).all()
    with pytest.raises(ka.InfeasibleError, match=r"problem \[1\].*peak_power"):
        ka.solve_minmax(batch)

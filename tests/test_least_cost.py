"""The least weighted sum of energy and time: proved by duality, and against other ways to find it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import product
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from clock_cases import clock_cell
from problems import REGIMES, random_problem

import kktalloc as ka
from kktalloc._certificate import priced
from kktalloc._certificate.level import _balanced, level_bound
from kktalloc._certificate.tangent import Bound
from kktalloc._device.clocked import clocked_form
from kktalloc._device.priced import cheapest
from kktalloc._problem.variant import variant
from kktalloc._questions.judgement import UncertifiedError


def levelled(rng: np.random.Generator, i: int, devices: int, clocks: bool = False) -> ka.Problem:
    """A problem whose floors lie somewhat beyond what it could keep."""
    if clocks:
        problem = clock_cell(rng, devices, roomy=True)
    else:
        problem = random_problem(rng, devices, REGIMES[i % len(REGIMES)], stress=False)
    rho = ka.solve(problem).pruning_ratio
    return variant(problem, pruning_ratio_max=rho + (1 - rho) * rng.uniform(0.02, 0.5))


def weight(rng: np.random.Generator, problem: ka.Problem, decades: float = 2.0) -> float:
    """A weight of time around the power that the devices draw."""
    spent = ka.solve(problem).energy_j.sum() / np.asarray(problem.cell.deadline_s)[0]
    return float(spent * 10 ** rng.uniform(-decades, decades))


@pytest.mark.parametrize("clocks", [False, True])
def test_random_cells_are_proved_optimal(clocks: bool) -> None:
    rng = np.random.default_rng(21)
    for i in range(3):
        problem = levelled(rng, i, int(rng.integers(1, 5)), clocks)
        own = 10 ** rng.uniform(-2, 2, problem.shape) if i % 2 else 1.0
        least = ka.least_cost(problem, time_weight=weight(rng, problem), energy_weight=own)
        assert least.status is ka.Status.OPTIMAL
        assert abs(float(least.certificate.duality_gap)) <= 1e-11
        assert least.deadline_s <= problem.cell.deadline_s[0]
        assert (least.latency_s <= least.deadline_s * (1 + 1e-12)).all()


def geometric_program(problem: ka.Problem, time_weight: float) -> float:
    """The same as a geometric program: ``(e^y - 1)/y`` is a sum of powers of ``y = L/(t b)``."""
    d, cell, K = problem.devices, problem.cell, problem.shape[0]
    q = 1 - np.asarray(d.pruning_ratio_max)
    nats = (d.payload_bits * q + d.overhead_bits) * np.log(2)
    gain = d.channel_gain / cell.noise_psd_w_per_hz
    work, heat = d.pruned_compute_s * q + d.fixed_compute_s, d.pruned_compute_j * q + d.fixed_compute_j
    T, B = float(cell.deadline_s[0]), float(cell.bandwidth_hz[0])
    t, b, p, s = (cp.Variable(K, pos=True) for _ in range(4))  # shares of T, of B, of the peak, of the fastest clock
    length = cp.Variable(pos=True)
    rows, cost = [length <= 1, cp.sum(b) <= 1], time_weight * T * length
    for k in range(K):
        e = float(d.tx_power_max_w[k] * T) * p[k] * t[k]
        y = float(nats[k] / (T * B)) / (t[k] * b[k])
        powers, factor = [], 1.0
        for n in range(30):
            factor /= n + 1
            powers.append(factor * y**n)
        rows += [cp.sum(cp.hstack(powers)) <= float(gain[k] / nats[k]) * e, p[k] <= 1, s[k] <= 1]
        rows += [s[k] >= float(d.clock_min[k] / d.clock_max[k])]
        end = t[k]
        if work[k] > 0:
            end = end + float(work[k] / (d.clock_max[k] * T)) / s[k]
        if d.fixed_latency_s[k] > 0:
            end = end + float(d.fixed_latency_s[k] / T)
        rows.append(end <= length)
        spent = (1 / float(d.pa_efficiency[k])) * e
        if d.circuit_power_w[k] > 0:
            spent = spent + float(d.circuit_power_w[k] * T) * t[k]
        if heat[k] > 0:
            spent = spent + float(heat[k] * d.clock_max[k] ** 2) * s[k] ** 2
        if d.fixed_energy_j[k] > 0:
            spent = spent + float(d.fixed_energy_j[k])
        if np.isfinite(d.energy_budget_j[k]):
            rows.append(spent <= float(d.energy_budget_j[k]))
        cost = cost + spent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it takes long to compile
        return float(cp.Problem(cp.Minimize(cost), rows).solve(gp=True, solver=cp.CLARABEL))


def small_cell(circuit: float = 0.02, budget: float = 0.6) -> ka.Problem:
    devices = ka.Devices(
        channel_gain=[2e-12, 5e-12, 4e-11], tx_power_max_w=0.1, payload_bits=4e6, overhead_bits=1e4,
        pruned_compute_s=[0.3, 0.2, 0.4], energy_budget_j=[budget, np.inf, np.inf], pruned_compute_j=0.3,
        clock_min=0.2, clock_max=2.0, circuit_power_w=circuit, pruning_ratio_max=0.5, pa_efficiency=0.5,
    )  # fmt: skip
    return ka.Problem(ka.Cell(4e6, 4e-21, 6.0), devices)


@pytest.mark.parametrize("time_weight", [0.3, 5.0])
def test_it_is_the_optimum_of_a_geometric_program(time_weight: float) -> None:
    problem = small_cell(budget=0.05)
    least = ka.least_cost(problem, time_weight=time_weight)
    assert geometric_program(problem, time_weight) == pytest.approx(float(least.cost), rel=1e-6)


def test_without_clocks_it_is_the_best_of_the_least_energies() -> None:
    """Golden sections over the deadline, with the energies that another solver finds for each."""
    rng = np.random.default_rng(5)
    for i in range(2, 4):
        problem = levelled(rng, i, 4)
        per_s = weight(rng, problem)
        low, high = float(ka.least_deadline(problem)), float(problem.cell.deadline_s[0])

        def cost(T: float, problem: ka.Problem = problem, per_s: float = per_s) -> float:
            return float(ka.least_energy(variant(problem, deadline_s=T)).total_energy_j) + per_s * T

        least = ka.least_cost(problem, time_weight=per_s)
        low *= 1 + 1e-9
        for _ in range(45):
            one, two = high - 0.618 * (high - low), low + 0.618 * (high - low)
            low, high = (low, two) if cost(one) <= cost(two) else (one, high)
        assert float(least.cost) == pytest.approx(cost(0.5 * (low + high)), rel=1e-9)


def test_time_that_costs_nothing_is_all_used_at_the_least_energy() -> None:
    problem = levelled(np.random.default_rng(2), 2, 5)
    free = ka.least_cost(problem, time_weight=0.0)
    assert free.deadline_s == problem.cell.deadline_s[0]
    assert float(free.cost) == pytest.approx(float(ka.least_energy(problem).total_energy_j), rel=1e-10)


def test_energy_that_costs_nothing_gives_the_least_deadline() -> None:
    problem = levelled(np.random.default_rng(2), 2, 5)
    fast = ka.least_cost(problem, time_weight=1.0, energy_weight=0.0)
    assert float(fast.deadline_s) == pytest.approx(float(ka.least_deadline(problem)), rel=1e-9)


def test_prices_are_the_slopes_of_the_cost() -> None:
    """One batch: as it is, then a little more and a little less of bandwidth, of a device's energy, of the deadline."""
    h, problem = 1e-5, small_cell(budget=0.05)
    B, T = float(problem.cell.bandwidth_hz[0]), 0.6
    energy = np.tile(np.asarray(problem.devices.energy_budget_j), (7, 1))
    energy[3:5, 0] *= [1 + h, 1 - h]
    batch = variant(
        problem, energy_budget_j=energy, bandwidth_hz=B * np.array([1, 1 + h, 1 - h, 1, 1, 1, 1]),
        deadline_s=T * np.array([1, 1, 1, 1, 1, 1 + h, 1 - h]),
    )  # fmt: skip
    least = ka.least_cost(batch, time_weight=0.3)
    prices = least.bandwidth_price_per_hz[0], least.energy_price_per_j[0, 0], least.deadline_price_per_s[0]
    for i, (price, amount) in enumerate(zip(prices, (B, 0.05, T), strict=True)):
        more, less = least.cost[1 + 2 * i : 3 + 2 * i]
        assert price > 0
        assert float(price) == pytest.approx((less - more) / (2 * h * amount), rel=1e-4)
    assert ka.least_cost(problem, time_weight=0.3).deadline_price_per_s == 0


def test_a_device_that_pays_balances_what_it_pays_for() -> None:
    """Slopes of a device's cost in what it keeps, against differences, for devices of all kinds."""
    rng = np.random.default_rng(9)
    form = clocked_form(clock_cell(rng, 200))
    q, price, worth = np.full((1, 200), 0.4), np.array([0.05]), 10 ** rng.uniform(-3, 1, (1, 200))

    def cost(q: np.ndarray) -> np.ndarray:
        at = cheapest(form, q, price, worth)
        return (price[:, None] * at.b + worth * at.energy)[0]

    at, h = cheapest(form, q, price, worth), 1e-6
    served = np.isfinite(at.b[0])
    with np.errstate(invalid="ignore"):
        off = np.abs((cost(q + h) - cost(q - h)) / (2 * h * at.slope[0]) - 1.0)[served]
    assert served.sum() > 80
    assert np.median(off) < 1e-8
    assert np.quantile(off, 0.97) < 1e-5  # some sit on a corner


def test_a_wrong_answer_is_refused() -> None:
    least = ka.least_cost(small_cell(), time_weight=0.3)
    assert least.certificate.ok
    for wrong in (
        replace(least, bandwidth_hz=0.999 * least.bandwidth_hz),
        replace(least, bandwidth_price_per_hz=1.01 * least.bandwidth_price_per_hz),
        replace(least, tx_power_w=0.999 * least.tx_power_w),
        replace(least, clock=1.001 * least.clock),
        replace(least, cost=0.9999 * least.cost),
        replace(least, deadline_s=1.001 * least.deadline_s),
        replace(least, lower_bound=1.000001 * least.lower_bound),
        replace(least, total_energy_j=0.9999 * least.total_energy_j),
        replace(least, deadline_price_per_s=least.deadline_price_per_s + 7.0),
        replace(least, energy_price_per_j=least.energy_price_per_j + 1.0),
    ):
        assert not wrong.certificate.ok


def test_a_bound_above_the_cost_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices' bounds that are too high, in question and certificate alike: as if their shares added up to more."""
    least = ka.least_cost(small_cell(), time_weight=0.3)
    plain = priced.level_bound

    def too_high(*given: Any) -> Bound:
        bound = plain(*given)
        return replace(bound, value=bound.value + 1e-3 * least.cost)

    monkeypatch.setattr(priced, "level_bound", too_high)
    with pytest.raises(UncertifiedError, match="dual"):
        ka.least_cost(small_cell(), time_weight=0.3)


def test_a_batch_is_its_problems() -> None:
    problem = small_cell()
    batch = variant(problem, bandwidth_hz=np.array([4e6, 1e3, 8e6]))
    together = ka.least_cost(batch, time_weight=[0.1, 0.2, 0.3], throw=False)
    for i in (0, 2):
        alone = ka.least_cost(
            variant(problem, bandwidth_hz=float(batch.cell.bandwidth_hz[i, 0])), time_weight=0.1 * (i + 1)
        )
        assert float(together.cost[i]) == pytest.approx(float(alone.cost), rel=1e-12)
    assert np.isnan(together.cost[1])
    assert list(together.status) == [ka.Status.OPTIMAL, ka.Status.INFEASIBLE, ka.Status.OPTIMAL]
    with pytest.raises(ka.InfeasibleError):
        ka.least_cost(batch, time_weight=0.1)


def test_nothing_to_send_takes_no_time() -> None:
    problem = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices([1e-10, 0.0], 0.1, 1e6, 0.1, fixed_energy_j=0.5))
    least = ka.least_cost(problem, time_weight=1.0)
    assert least.cost == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_array_equal(least.bandwidth_hz, 0.0)
    free = ka.least_cost(variant(problem, fixed_energy_j=0.0), time_weight=1.0)
    assert free.status is ka.Status.OPTIMAL
    assert free.cost <= 1e-12
    assert not replace(free, deadline_s=np.asarray(1e-3), cost=np.asarray(1e-3)).certificate.ok


@pytest.mark.parametrize(
    ("time_weight", "last"),
    [
        (1e3, {"fixed_compute_s": [0.0, 1.0], "fixed_compute_j": [0.0, 1.0]}),  # its clock is at its upper end
        (0.3, {"fixed_compute_s": [0.0, 1.0], "fixed_compute_j": [0.0, 1.0]}),  # at its lower end: later saves nothing
        (1e3, {"fixed_compute_s": [0.0, 1.0], "fixed_compute_j": [0.0, 1.0], "energy_budget_j": 1.0}),
        (1e3, {"fixed_latency_s": [0.0, 2.0]}),
    ],
)
def test_who_only_computes_may_be_the_last(time_weight: float, last: dict[str, object]) -> None:
    """The second device sends nothing: what it pays for a second is not told by an upload."""
    fields = {"overhead_bits": [1e4, 0.0], "clock_min": 0.5, "clock_max": 2.0, "energy_budget_j": 10.0} | last
    devices = ka.Devices(1e-10, 0.1, 1e6, [0.1, 0.1], pruned_compute_j=0.1, **fields)  # type: ignore[arg-type]
    least = ka.least_cost(ka.Problem(ka.Cell(1e6, 4e-21, 5.0), devices), time_weight=time_weight)
    assert abs(float(least.certificate.duality_gap)) <= 1e-11
    assert float(least.gap) <= 1e-11 * float(least.cost)


@pytest.mark.parametrize("kept", [1e-12, 1e-13, 1e-14])
def test_who_keeps_next_to_nothing_rests_its_clock(kept: float) -> None:
    """What is left of the window tells its clock to few digits: noise, not a clock that moves and has its price."""
    devices = ka.Devices(
        [4e-11, 2e-11, 1e-11], 0.2, 8e5, [0.05, 0.016, 0.04], pruned_compute_j=[0.02, 0.05, 0.01],
        clock_min=[0.01, 1.9, 0.01], clock_max=4.0, pruning_ratio_max=[0.7, 1.0 - kept, 0.9],
        bandwidth_max_hz=[np.inf, np.inf, 2e4],
    )  # fmt: skip
    problem = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), devices)
    for time_weight in (0.03, 0.3, 3.0):
        least = ka.least_cost(problem, time_weight=time_weight)
        assert abs(float(least.gap)) <= 1e-9 * float(least.cost)


def test_bad_weights_and_binding_caps_are_named() -> None:
    problem = small_cell()
    with pytest.raises(ValueError, match=r"^time_weight = -1\.0: must be >= 0"):
        ka.least_cost(problem, time_weight=-1.0)
    with pytest.raises(ValueError, match=r"^energy_weight: shape \(2,\) does not broadcast"):
        ka.least_cost(problem, time_weight=1.0, energy_weight=[1.0, 2.0])
    with pytest.raises(
        ValueError, match=r"total_power_w = 0\.01: the least cost or energy of a round, not known to be convex"
    ):
        ka.least_cost(variant(problem, total_power_w=0.01), time_weight=1.0)


def idle(**fields: object) -> ka.Devices:
    """Three phones that prune everything by default, so that only what is fixed takes time."""
    usual: dict = {"pruned_compute_j": 0.02, "energy_budget_j": 0.3}
    return ka.Devices([2e-12, 5e-12, 1e-11], 0.1, 4e6, 0.2, **(usual | fields))


def working(fastest: float = 1.0, slowest: float | None = None, **fields: object) -> ka.Devices:
    """The same with computing that is not pruned: 0.2 s and 0.02 J at clock 1."""
    slow = min(1.0, fastest) if slowest is None else slowest
    return idle(fixed_compute_s=0.2, fixed_compute_j=0.02, clock_min=slow, clock_max=fastest, **fields)


# Devices that send nothing, the level, the cost of a second, and how long the round is, None where that is open.
IDLE = {
    "latency": (idle(fixed_latency_s=0.2), None, 0.05, 0.2),
    "latency, one of several": (idle(fixed_latency_s=[0.6, 0.1, 0.1]), [1.0, 0.9, 0.9], 0.05, 0.6),
    "latencies of two at once": (idle(fixed_latency_s=[0.6, 0.6, 0.1]), [1.0, 1.0, 0.9], 0.05, 0.6),
    "computing": (working(), None, 0.05, 0.2),
    "computing, one of several": (working(fixed_latency_s=[0.5, 0, 0]), [1, 0.9, 0.9], 0.05, 0.7),
    "time costs nothing": (idle(fixed_latency_s=0.2), None, 0.0, None),
    "a clock at its fastest": (working(2.0, 0.5), None, 5.0, 0.1),
    "a clock in between": (working(9.0, 0.1), None, 4.8, 0.1),  # 2 * 0.06 (0.2/T)^2 = 4.8 T
    "a clock that its budget holds": (working(9.0, 0.1, energy_budget_j=[0.03, 1, 1]), None, 5.0, 0.2 / 1.5**0.5),
    "clocks at their slowest": (working(2.0, 1.0), None, 0.5, 0.2),
}  # fmt: skip


@pytest.mark.parametrize("deadline_s", [1.0, 1e9])
@pytest.mark.parametrize("case", IDLE)
def test_who_sends_nothing_may_be_what_the_round_waits_for(case: str, deadline_s: float) -> None:
    devices, level, per_s, seconds = IDLE[case]
    problem = ka.Problem(ka.Cell(5e6, 4e-21, deadline_s), devices)
    least = ka.least_cost(problem, time_weight=per_s, pruning_ratio=level)
    assert least.status is ka.Status.OPTIMAL
    assert abs(float(least.gap)) <= 1e-10 * float(least.cost)
    if seconds is not None:
        assert float(least.deadline_s) == pytest.approx(seconds, rel=1e-9)
    if per_s:
        longer = np.asarray(least.deadline_s * 1.001)
        slow = replace(least, deadline_s=longer, cost=least.total_energy_j + per_s * longer)
        assert not slow.certificate.ok


@pytest.mark.parametrize("limit", [{"bandwidth_max_hz": 1e5}, {"bandwidth_max_hz": 1e5, "circuit_power_w": 0.01}])
@pytest.mark.parametrize("budget_j", [np.inf, 0.05])
def test_an_upload_that_cannot_be_shorter_pays_for_all_seconds(limit: dict, budget_j: float) -> None:
    """With bandwidth to spare, at peak power or with all of the budget, in all of the device's own bandwidth."""
    devices = ka.Devices(2e-12 * np.ones(2), 0.1, 1e6, 0.2, energy_budget_j=budget_j, pruning_ratio_max=0.5, **limit)
    least = ka.least_cost(ka.Problem(ka.Cell(5e6, 4e-21, 20.0), devices), time_weight=5.0)
    assert least.status is ka.Status.OPTIMAL
    assert least.bandwidth_price_per_hz == 0
    assert float(least.deadline_s) == pytest.approx(float(ka.least_deadline(least.problem)), rel=1e-9)


def test_a_clock_that_costs_next_to_nothing_pays_for_no_seconds() -> None:
    """Own bandwidth, budget and the least round are all used up: prices a million times the answer's would pay for the
    round too, and by rounding seemed as good."""
    heat, fastest, electronics = np.array(list(product([1e-3, 1e-6, 1e-12], [1.0, 3.0], [0.0, 0.01]))).T[:, :, None]
    devices = ka.Devices(
        2e-12 * np.ones((12, 2)), 0.1, 1e6, 0.2, energy_budget_j=0.05, pruned_compute_j=heat, pruning_ratio_max=0.5,
        bandwidth_max_hz=1e5, clock_max=fastest, circuit_power_w=electronics,
    )  # fmt: skip
    least = ka.least_cost(ka.Problem(ka.Cell(5e6 * np.ones(12), 4e-21, 20.0), devices), time_weight=5.0)
    np.testing.assert_allclose(least.deadline_s, ka.least_deadline(least.problem), rtol=1e-9)
    assert (np.abs(least.gap) <= 1e-10 * least.cost).all()
    assert (least.energy_price_per_j < 1e3).all()


def test_what_devices_pay_for_a_second_adds_up() -> None:
    """Of values 0, 1, 1.5 at 0, 1, 2 a second, and 0, 3 at 0, 2, the steepest pieces are taken until 2.5 is paid."""
    points = [((0.0, 0.0), (0.0, 0.0)), ((1.0, 1.0), (-1.0, 1.0)), ((1.5, 2.0), (3.0, 2.0)), ((-np.inf, 0.0),) * 2]
    bounds = [
        Bound(*(np.array([p[i] for p in each]) for i in (0, 1)), *2 * [np.array([p[1] for p in each])])
        for each in points
    ]
    for per_s, most_s, value, second in (
        (2.5, 9.0, [0.5, 3.0], [0.5, 2.0]),
        (1.0, 9.0, [0.0, 1.5], [0.0, 1.0]),
        (9.0, 9.0, [1.5, 3.0], [2.0, 2.0]),
        (0.0, 1.2, [0.0, 3.0], [0.0, 2.0]),  # a second is worth more than it costs: nothing later is left
    ):
        mixed = _balanced(bounds, np.asarray(per_s), np.asarray(most_s))
        np.testing.assert_allclose(mixed.value, value, atol=1e-15)
        np.testing.assert_allclose(mixed.second, second, atol=1e-15)


def test_pieces_that_rounding_makes_steeper_wait_for_those_before_them() -> None:
    """A mixture has shares that add up to 1, or it is no bound."""
    near = [
        (3343.6279717737366, 307.85106850933107), (7509.173711661542, 696.5843779938857),
        (7509.173711661552, 696.5843779938866),
    ]  # fmt: skip
    bounds = [Bound(*(np.array([v]) for v in (value, second, 0.0, 0.0))) for value, second in near]
    slope = (near[1][0] - near[0][0]) / (near[1][1] - near[0][1])
    for per_s, corner in ((0.0, 0), (307.0, 0), (500.0, None), (696.5843779938857, 1), (1e4, 1)):
        mixed = _balanced(bounds, np.asarray(per_s), np.asarray(10.75633675688836))
        second = per_s if corner is None else near[corner][1]
        assert float(mixed.second[0]) == pytest.approx(second, rel=1e-12)
        assert float(mixed.value[0]) == pytest.approx(near[0][0] + slope * (second - near[0][1]), rel=1e-9)


def test_a_tie_at_the_longest_round_leaves_prices_alone() -> None:
    """Energy that costs nothing: the longest round worth a thought is the best, and any price of it seemed as good."""
    T = 1.0089989787448006
    points = [(0.0, 0.0), (0.2, 0.13), (0.2 + 3e3 * T * (1.0 + 4e-16), 3e3 + 0.13)]
    bounds = [Bound(*(np.array([v]) for v in (value, second, second, 0.0))) for value, second in points]
    mixed = _balanced(bounds, np.asarray(0.13), np.asarray(T))
    assert float(mixed.joule[0]) == pytest.approx(0.13, rel=1e-12)
    devices = ka.Devices(
        2e-12 * np.ones(2), 0.1, 1e6, 0.2, energy_budget_j=0.05, pruned_compute_j=1e-6, pruning_ratio_max=0.5,
        bandwidth_max_hz=1e5,
    )  # fmt: skip
    problem = ka.Problem(ka.Cell(5e6, 4e-21, 20.0), devices)
    least = ka.least_cost(problem, time_weight=5.0, energy_weight=1e-9)
    less = ka.least_cost(variant(problem, energy_budget_j=0.05 * (1.0 - 1e-5)), time_weight=5.0, energy_weight=1e-9)
    slope = float(less.cost - least.cost) / (1e-5 * 0.05)
    assert float(least.energy_price_per_j.sum()) == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"bandwidth_max_hz": 1e6},
        {"bandwidth_max_hz": 1e6, "tx_power_max_w": 0.01},
        {"energy_budget_j": 0.0078},
        {"circuit_power_w": 1.0},  # ends early at peak power
        {"circuit_power_w": 1.0, "bandwidth_max_hz": 1e6},
        {"circuit_power_w": [1.0, 0.01], "clock_min": 0.5, "clock_max": 2.0, "pruned_compute_j": 1e-3},
        {"circuit_power_w": [1.0, 0.01], "clock_min": 1e-3, "clock_max": 2.0, "pruned_compute_j": 1e-12},
    ],
)
def test_electronics_end_an_upload_however_long_the_round_may_be(fields: dict) -> None:
    """A later deadline changes nothing, but for the last joules that a slow clock saves."""
    usual = {"tx_power_max_w": 0.1, "circuit_power_w": 0.01, "pruned_compute_s": 0.1, "pruning_ratio_max": 0.5}
    devices = ka.Devices(2e-12 * np.ones((4, 2)), payload_bits=1e6, **(usual | fields))
    least = ka.least_energy(ka.Problem(ka.Cell(5e6, 4e-21, np.array([10.0, 1e5, 1e9, 1e15])), devices))
    assert (np.abs(least.gap_j) <= 1e-11 * least.total_energy_j).all()
    np.testing.assert_allclose(least.total_energy_j, least.total_energy_j[0], rtol=1e-9)


def test_a_short_upload_beside_one_that_never_ends() -> None:
    """Next to the wideband limit all lengths cost the first device the same, within rounding: it takes the longest."""
    deadline_s, gain = np.array([1e3, 1e6, 1e9, 1e12]), 2e-12 * np.ones((4, 2))
    devices = ka.Devices(gain, 0.1, 1e6, 0.1, pruning_ratio_max=0.5, circuit_power_w=[0.0, 0.01])
    least = ka.least_energy(ka.Problem(ka.Cell(5e6, 4e-21, deadline_s), devices))
    np.testing.assert_allclose(least.bandwidth_hz.sum(axis=-1), 5e6, rtol=1e-9)
    np.testing.assert_allclose(least.latency_s[:, 0], deadline_s, rtol=1e-9)


def test_electronics_of_next_to_no_power_end_an_upload_too() -> None:
    """A millionth of a millionth of the peak: in 1e11 s it would take more than the radio."""
    devices = ka.Devices(
        [1e-3, 2e-12], [1e10, 0.1], [1e6, 1e5], 0.0, circuit_power_w=[0.01, 0.0], pruning_ratio_max=0.5
    )
    least = ka.least_energy(ka.Problem(ka.Cell(5e6, 4e-21, 1e11), devices))
    assert abs(float(least.gap_j)) <= 1e-11 * float(least.total_energy_j)
    assert float(least.bandwidth_hz.sum()) == pytest.approx(5e6, rel=1e-9)


def test_the_shortest_upload_in_the_own_bandwidth_counts_as_served() -> None:
    """At peak power in all of its own bandwidth: the search ends beside that corner, within rounding, and the round was
    0.5 % too long."""
    devices = ka.Devices(
        [7.8e-05], 0.0104, 84700.0, 0.00197, overhead_bits=239.0, fixed_latency_s=0.613, energy_budget_j=0.377,
        pruned_compute_j=0.00331, pa_efficiency=0.84, pruning_ratio_max=0.714, bandwidth_max_hz=10300.0,
        circuit_power_w=0.0403, clock_min=0.001, clock_max=2.68,
    )  # fmt: skip
    least = ka.least_cost(ka.Problem(ka.Cell(12800.0, 1e-12, 1.62), devices), time_weight=0.302, energy_weight=0.71)
    assert least.status is ka.Status.OPTIMAL
    assert float(least.deadline_s) == pytest.approx(float(ka.least_deadline(least.problem)), rel=1e-3)


def test_any_prices_give_a_lower_bound() -> None:
    """Weak duality: whatever the bandwidth is said to cost, and wherever the tangents are taken."""
    rng = np.random.default_rng(12)
    for devices, level, per_s, _ in list(IDLE.values())[1::3]:
        least = ka.least_cost(ka.Problem(ka.Cell(5e6, 4e-21, 2.0), devices), time_weight=per_s, pruning_ratio=level)
        other = ka.least_cost(least.problem, time_weight=10 ** rng.uniform(-2, 2), energy_weight=[0.1, 1.0, 9.0])
        for price in 10 ** rng.uniform(-12, -4, 20):
            bound = level_bound(least.problem, other, np.asarray(price), np.ones(3), np.asarray(per_s))
            rest = per_s - bound.second.sum()
            lower = bound.value.sum() - price * 5e6 + min(rest, 0.0) * 2.0
            assert lower <= float(least.cost) * (1 + 1e-12)


def test_where_an_ulp_of_the_round_is_worth_more_than_the_tolerance() -> None:
    """The first device is next to the wideband limit: what it would pay for a second is known to 1e-9 of it at best."""
    devices = ka.Devices(
        channel_gain=[4.025635875004844e-17, 1.492065145243705e-08],
        tx_power_max_w=[0.00024073677834218, 0.00624865413302421],
        payload_bits=[0.1996185066130907, 8854684522.083059],
        pruned_compute_s=[3.1536608714636327, 0.0],
        overhead_bits=[0.0, 1320421034.5286422],
        energy_budget_j=[0.00072733140945696, 0.0148582658555864],
        pruned_compute_j=[9.7979049615413963e-07, 2.3726023977347603e-05],
        fixed_energy_j=[2.2656412663473056e-05, 0.0050025396408766194],
        pa_efficiency=[0.4041991039030736, 1.0],
        pruning_ratio_max=[0.6719412353936308, 0.05007022539865272],
    )
    problem = ka.Problem(ka.Cell(9.394210505337097e09, 4e-21, 1.1088413387958278), devices)
    answer = ka.least_cost(problem, time_weight=0.05611669143644135)
    assert float(answer.certificate.duality_gap) <= 1e-10
    # The bound that was made tighter still tells a worse round.
    longer = replace(answer, deadline_s=answer.deadline_s * (1.0 + 1e-7))
    assert not longer.certificate.ok
    assert not replace(answer, bandwidth_price_per_hz=answer.bandwidth_price_per_hz * 1.001).certificate.ok

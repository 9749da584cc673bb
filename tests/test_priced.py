"""Energy as a price, as a shared budget, and as an average over rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
from problems import REGIMES, random_problem
from scipy.optimize import minimize

import kktalloc as ka
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.variant import variant

CURVES = (ka.Linear(), ka.PowerLaw(2.5), ka.Table([0.0, 0.3, 0.6, 1.0], [0.0, 0.02, 0.3, 1.0]))


def drawn(rng: np.random.Generator, i: int, devices: int) -> ka.Problem:
    return variant(random_problem(rng, devices, REGIMES[i % len(REGIMES)], stress=False), CURVES[i % 3])


def some_price(rng: np.random.Generator, problem: ka.Problem) -> np.ndarray:
    """About what would make energy and error weigh the same, in decades around it."""
    spent = ka.solve(problem).energy_j.sum()
    return np.asarray(10 ** rng.uniform(-2, 1, problem.shape) / spent * problem.shape[0])


def test_random_cells_are_proved_optimal() -> None:
    rng = np.random.default_rng(31)
    for i in range(9):
        problem = drawn(rng, i, int(rng.integers(1, 6)))
        answer = ka.solve_priced(problem, energy_price_per_j=some_price(rng, problem))
        assert answer.status is ka.Status.OPTIMAL
        assert abs(float(answer.certificate.duality_gap)) <= 1e-10


def test_a_price_of_nothing_changes_nothing() -> None:
    rng = np.random.default_rng(32)
    for i in range(6):
        problem = drawn(rng, i, 5)
        assert float(ka.solve_priced(problem).cost) == pytest.approx(float(ka.solve(problem).objective), abs=1e-10)


@pytest.mark.parametrize("regime", ["kink", "peak", "energy"])
def test_a_price_of_nothing_changes_nothing_beside_own_limits(regime: str) -> None:
    """Limits a little beyond what each device takes: one that could take its own pays for its peak power there too."""
    rng = np.random.default_rng(36)
    for _ in range(3):
        problem = random_problem(rng, 5, regime, stress=False)
        hz = np.asarray(ka.solve(problem).bandwidth_hz)
        problem = variant(problem, bandwidth_max_hz=np.maximum(hz * rng.uniform(1.0, 1.05, 5), 1e-6 * hz.sum()))
        answer = ka.solve_priced(problem)
        assert float(answer.cost) == pytest.approx(float(ka.solve(problem).objective), abs=1e-10)


def phones(compute_s: float = 0.2, clock: float = 1.0) -> ka.Problem:
    devices = ka.Devices(
        channel_gain=[2e-12, 5e-12, 4e-11], tx_power_max_w=0.1, payload_bits=4e6, overhead_bits=1e4,
        pruned_compute_s=compute_s, energy_budget_j=[0.05, 0.2, np.inf], pruned_compute_j=0.02, pa_efficiency=0.8,
        clock_min=clock, clock_max=clock,
    )  # fmt: skip
    return ka.Problem(ka.Cell(1e6, 4e-21, 1.0), devices)


def test_against_cvxpy_where_computing_takes_no_time() -> None:
    """Then time is a constant, and the problem convex as it stands."""
    problem, price = phones(0.0), np.array([1.0, 3.0, 0.5])
    d, T, B = problem.devices, 1.0, 1e6
    q, b, p = (cp.Variable(3) for _ in range(3))  # p in shares of the peak, b in shares of the cell
    snr = d.channel_gain * d.tx_power_max_w / (4e-21 * B)
    nats = (cp.multiply(d.payload_bits, q) + d.overhead_bits) * np.log(2) / (T * B)
    energy = cp.multiply(d.tx_power_max_w * T / d.pa_efficiency, p) + cp.multiply(d.pruned_compute_j, q)
    rows = [nats <= -cp.rel_entr(b, b + cp.multiply(snr, p)), p <= 1, p >= 0, cp.sum(b) <= 1, q >= 0, q <= 1]
    rows.append(energy[:2] <= np.asarray(d.energy_budget_j)[:2])
    value = cp.Problem(cp.Minimize(cp.sum(1 - q) / 3 + price @ energy), rows).solve(solver=cp.CLARABEL)
    answer = ka.solve_priced(problem, energy_price_per_j=price)
    assert value == pytest.approx(float(answer.cost), rel=1e-6)


@pytest.mark.parametrize("clock", [1.0, 1.7])
def test_no_start_of_a_local_search_is_better(clock: float) -> None:
    """SLSQP on what is kept, bandwidth and power, from random points."""
    problem, price = phones(0.3, clock), np.array([1.0, 3.0, 0.5])
    d = problem.devices
    answer = ka.solve_priced(problem, energy_price_per_j=price)
    snr = d.channel_gain * d.tx_power_max_w / (4e-21 * 1e6)

    def parts(x: np.ndarray) -> tuple[np.ndarray, ...]:
        q, b, p = x[:3], x[3:6], x[6:]
        t = 1.0 - d.pruned_compute_s * q / clock
        energy = d.tx_power_max_w * p * t / d.pa_efficiency + d.pruned_compute_j * q * clock**2
        sent = t * b * np.log2(1 + snr * p / b) * 1e6 - d.payload_bits * q - d.overhead_bits
        return q, b, energy, sent / d.payload_bits

    def cost(x: np.ndarray) -> float:
        q, _, energy, _ = parts(x)
        return float((1 - q).sum() / 3 + price @ energy)

    def rows(x: np.ndarray) -> np.ndarray:
        _, b, energy, sent = parts(x)
        return np.concatenate([sent, [1.0 - b.sum()], 1.0 - energy[:2] / np.asarray(d.energy_budget_j)[:2]])

    rng, best = np.random.default_rng(0), np.inf
    for _ in range(6):
        start = np.concatenate([rng.uniform(0.01, 0.5, 3), rng.dirichlet(np.ones(3)), rng.uniform(0.1, 1.0, 3)])
        found = minimize(
            cost, start, method="SLSQP", bounds=[(1e-6, 1.0)] * 9, constraints={"type": "ineq", "fun": rows},
            options={"maxiter": 400, "ftol": 1e-12},
        )  # fmt: skip
        if rows(found.x).min() > -1e-9:
            best = min(best, float(found.fun))
    assert best == pytest.approx(float(answer.cost), rel=1e-6)
    assert answer.cost <= best + 1e-8


@pytest.mark.parametrize("curve", CURVES[:2])
def test_a_shared_budget_is_met_and_its_price_is_the_slope(curve: ka.PruningError) -> None:
    problem = variant(phones(), curve)
    total = 0.6 * float(ka.solve_priced(problem).total_energy_j)
    answer = ka.solve_priced(problem, shared_energy_j=total)
    assert float(answer.total_energy_j) == pytest.approx(total, rel=1e-11)
    assert answer.certificate.ok
    h, B = 1e-5, 1e6
    near = variant(problem, bandwidth_hz=B * np.array([1, 1, 1 + h, 1 - h]))
    found = ka.solve_priced(near, shared_energy_j=total * np.array([1 + h, 1 - h, 1, 1])).objective
    assert float(answer.shared_price_per_j) == pytest.approx((found[1] - found[0]) / (2 * h * total), rel=1e-4)
    assert float(answer.bandwidth_price_per_hz) == pytest.approx((found[3] - found[2]) / (2 * h * B), rel=1e-4)
    # A budget is a price: the same allocation, and the same as an answer of its own.
    again = ka.solve_priced(problem, energy_price_per_j=answer.shared_price_per_j)
    np.testing.assert_allclose(again.energy_j, answer.energy_j, rtol=1e-7)
    loose = ka.solve_priced(problem, shared_energy_j=10.0)
    assert loose.shared_price_per_j == 0


def test_where_all_is_kept_the_shared_budget_picks_the_cheapest_way() -> None:
    """Nothing is pruned with energy to spare: a budget between the least and what the peak takes costs nothing."""
    problem = ka.Problem(ka.Cell(2e7, 4e-21, 1.0), ka.Devices([2e-11, 5e-11], 0.1, 4e6, 0.2), ka.PowerLaw(2.0))
    least = float(ka.least_energy(problem, 0.0).total_energy_j)
    answer = ka.solve_priced(problem, shared_energy_j=1.2 * least)
    assert float(answer.objective) < 1e-12
    assert float(answer.total_energy_j) <= 1.2 * least * (1 + 1e-9)


# Of the band of the cell: less than it in all, as much, and one device that takes what the others cannot use.
WIDTHS = {"spare": [0.2, 0.3, 0.25], "shared": [0.5, 0.4, 0.6], "beside a free one": [0.2, 0.2, np.inf]}


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("widths", WIDTHS)
def test_energy_has_its_price_at_an_own_bandwidth_limit(widths: str, curve: ka.PruningError) -> None:
    """There bandwidth costs next to nothing, and what is kept hangs on the price of energy alone."""
    problem = variant(phones(), curve, bandwidth_max_hz=1e6 * np.array(WIDTHS[widths]), energy_budget_j=np.inf)
    free = ka.solve_priced(problem)
    for share in (0.7, 0.4, 0.2):
        shared = ka.solve_priced(problem, shared_energy_j=share * free.total_energy_j)
        assert float(shared.total_energy_j / free.total_energy_j) == pytest.approx(share, rel=1e-9)
        priced = ka.solve_priced(problem, energy_price_per_j=shared.shared_price_per_j)
        assert float(priced.cost) == pytest.approx(
            float(shared.cost + shared.shared_price_per_j * shared.total_energy_j), rel=1e-9
        )


def test_energy_has_its_price_where_peak_power_and_own_bandwidth_end_together() -> None:
    """What keeping less saves is told by the bandwidth's side there: all is kept only as long as energy is cheap."""
    devices = ka.Devices([1.5e-11], 0.07, 3e6, 0.2, pruned_compute_j=0.02, bandwidth_max_hz=2.5e5)
    problem = ka.Problem(ka.Cell(5e5, 4e-21, 1.0), devices)
    spent = [float(ka.solve_priced(problem, energy_price_per_j=w).total_energy_j) for w in (0.0, 1.0, 5.0, 20.0)]
    assert spent[0] == pytest.approx(spent[1], rel=1e-12)
    assert spent[1] > 2.0 * spent[2] > 4.0 * spent[3]


def test_a_wrong_answer_is_refused() -> None:
    answer = ka.solve_priced(phones(), energy_price_per_j=[1.0, 2.0, 3.0], shared_energy_j=0.04)
    assert answer.shared_price_per_j > 0
    assert answer.certificate.ok
    for wrong in (
        replace(answer, bandwidth_hz=0.999 * answer.bandwidth_hz),
        replace(answer, bandwidth_price_per_hz=1.01 * answer.bandwidth_price_per_hz),
        replace(answer, tx_power_w=0.999 * answer.tx_power_w),
        replace(answer, shared_energy_j=0.99 * answer.shared_energy_j),
        replace(answer, objective=0.9999 * answer.objective),
        replace(answer, lower_bound=answer.lower_bound + 1e-6),
        replace(answer, total_energy_j=0.9999 * answer.total_energy_j),
    ):
        assert not wrong.certificate.ok


def test_what_is_not_convex_is_refused_by_name() -> None:
    problem = phones()
    with pytest.raises(ValueError, match=r"^devices\.circuit_power_w\[0\] = 0\.05: energy has no price"):
        ka.solve_priced(variant(problem, circuit_power_w=0.05), energy_price_per_j=1.0)
    with pytest.raises(ValueError, match=r"^devices\.clock_max\[0\] = 2\.0: energy has no price"):
        ka.solve_priced(variant(problem, clock_max=2.0), energy_price_per_j=1.0)
    both = (
        r"^devices\.circuit_power_w\[0\] = 0\.05: energy .* not convex; devices\.clock_max\[0\] = 2\.0: energy .*same$"
    )
    with pytest.raises(ValueError, match=both):
        ka.solve_priced(variant(problem, circuit_power_w=0.05, clock_max=2.0), energy_price_per_j=1.0)
    with pytest.raises(ValueError, match="solve_priced"):
        ka.solve_priced(variant(problem, total_power_w=0.01), energy_price_per_j=1.0)
    with pytest.raises(ka.InfeasibleError, match="need more energy together than they share"):
        ka.solve_priced(variant(problem, pruning_ratio_max=0.95), shared_energy_j=1e-6)
    with pytest.raises(ValueError, match=r"^energy_price_per_j\[1\] = -1\.0"):
        ka.solve_priced(problem, energy_price_per_j=[0.0, -1.0, 0.0])


def fading(rounds: int, seed: int) -> list[ka.Problem]:
    rng = np.random.default_rng(seed)
    mean = np.array([1e-12, 4e-12, 2e-11])
    devices = ka.Devices(mean, 0.2, 4e6, 0.2, pruned_compute_j=0.02)
    return [
        ka.Problem(ka.Cell(1e6, 4e-21, 1.0), replace(devices, channel_gain=mean * rng.exponential(1.0, 3)))
        for _ in range(rounds)
    ]


def excess_times_rounds(patience_j2: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The most by which an average is over its budget, times the rounds so far; and the last averages over budgets."""
    average, spent, found = np.array([0.06, 0.06, 0.03]), np.zeros(3), []
    queue = ka.EnergyQueue(average, patience_j2[0])
    for r, problem in enumerate(fading(patience_j2.size, 1), start=1):
        queue = replace(queue, patience_j2=patience_j2[r - 1])
        energy = queue.solve(problem).energy_j
        spent, queue = spent + energy, queue.after(energy)
        found.append(np.max(spent - r * average))
        assert (spent - r * average <= np.asarray(queue.backlog_j) + 1e-12).all()
    return np.array(found), spent / patience_j2.size / average


def test_the_average_meets_its_budget_within_one_over_the_rounds() -> None:
    late, early = slice(24, 48), slice(2, 12)
    excess, over = excess_times_rounds(np.full(48, 0.05))
    # The backlog is bounded, and so the excess times the rounds: no larger late than early.
    assert excess[late].max() <= 1.25 * excess[early].max()
    assert over.max() < 1.15
    # The same can tell 1/sqrt(R), which a patience that grows as the root of the rounds gives: a factor of 2 here.
    slower, _ = excess_times_rounds(0.05 * np.sqrt(np.arange(1.0, 49.0)))
    assert slower[late].max() > 1.75 * slower[early].max()


TWO = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices([2e-12, 4e-11], 0.1, 4e6, 0.2))


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: ka.EnergyQueue([1.0, -1.0], 1.0), r"^average_j\[1\] = -1\.0: must be >= 0 and finite$"),
        (lambda: ka.EnergyQueue(np.inf, 1.0), r"^average_j = inf: must be >= 0 and finite$"),
        (lambda: ka.EnergyQueue("much", 1.0), r"^average_j"),
        (lambda: ka.EnergyQueue(1.0, 0.0), r"^patience_j2 = 0\.0: must be > 0 and finite$"),
        (lambda: ka.EnergyQueue(1.0, np.inf), r"^patience_j2 = inf: must be > 0 and finite$"),
        (lambda: ka.EnergyQueue(1.0, [1.0, 2.0]), r"^patience_j2: shape \(2,\), must be one number$"),
        (lambda: ka.EnergyQueue([1.0, 2.0], 1.0, [0.0, -3.0]), r"^backlog_j\[1\] = -3\.0: must be >= 0 and finite$"),
        (
            lambda: ka.EnergyQueue([1.0, 2.0], 1.0, [0.0] * 3),
            r"^backlog_j \(3,\) and average_j \(2,\): must go together$",
        ),
        (
            lambda: ka.EnergyQueue([1.0] * 3, 1.0).solve(TWO),
            r"^average_j: shape \(3,\) is that of 3 devices, the problem has 2$",
        ),
        (lambda: ka.EnergyQueue(1.0, 1.0).after([np.nan]), r"^energy_j\[0\] = nan: must be >= 0 and finite$"),
        (lambda: ka.EnergyQueue(1.0, 1.0).after([0.5, -0.5]), r"^energy_j\[1\] = -0\.5: must be >= 0 and finite$"),
        (
            lambda: ka.EnergyQueue([1.0] * 3, 1.0).after([1.0] * 2),
            r"^energy_j: shape \(2,\) does not go with average_j \(3,\)$",
        ),
    ],
)
def test_a_queue_says_what_is_wrong(ask: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ask()


def test_a_queue_takes_a_problem() -> None:
    with pytest.raises(TypeError, match=r"^problem: expected Problem, got str$"):
        ka.EnergyQueue(1.0, 1.0).solve("x")  # type: ignore[arg-type]


LIMITS = {
    "tiny budgets": {"energy_budget_j": [1e-12, 1e-9, np.inf]},
    "own bandwidth": {"bandwidth_max_hz": 1e5},
    "both": {"energy_budget_j": [1e-12, np.inf, np.inf], "bandwidth_max_hz": [1e2, 1e5, np.inf], "pa_efficiency": 0.3},
}


@pytest.mark.parametrize("limits", LIMITS.values(), ids=list(LIMITS))
def test_a_shared_budget_of_next_to_nothing(limits: dict[str, object]) -> None:
    """A price tells so little energy to a few digits at best: what lies between the answers on its two sides does."""
    joules = np.array([0.0, 1e-300, 1e-10, 1e-4])
    devices = ka.Devices([2e-12, 5e-12, 1e-11], 0.1, 4e6, 0.2, **limits)  # type: ignore[arg-type]
    problem = ka.Problem(ka.Cell(np.full(joules.size, 1e6), 4e-21, 1.0), devices)
    answer = ka.solve_priced(problem, shared_energy_j=joules)
    assert all(status is ka.Status.OPTIMAL for status in answer.status)
    assert (answer.total_energy_j <= joules * (1.0 + 1e-9)).all()
    assert (np.diff(answer.objective) <= 1e-9).all()


def test_a_budget_whose_price_tells_the_answer_to_few_digits() -> None:
    """Nearly all that the second device spends is computing: an ulp of the price moves its upload by 1e-9."""
    devices = ka.Devices(
        channel_gain=[3.1343036298199053e-10, 1.656423024193338e-14],
        tx_power_max_w=[7.306409713678785, 0.21994976925512622],
        payload_bits=[2656663232.9326224, 1920.2500441583088],
        pruned_compute_s=[0.1821371134956882, 0.0],
        energy_budget_j=[0.5563798235753353, np.inf],
        pruned_compute_j=[0.0, 0.10685680592331728],
        weight=[0.6342361116604679, 0.3657638883395321],
    )
    problem = ka.Problem(ka.Cell(8.958476246284e10, 4e-21, 0.192531569912), devices)
    answer = ka.solve_priced(problem, energy_price_per_j=[0.263366032329, 0.0], shared_energy_j=0.084871300632)
    assert float(answer.certificate.duality_gap) <= 1e-10
    assert not replace(answer, shared_price_per_j=answer.shared_price_per_j * (1.0 + 1e-4)).certificate.ok


@pytest.mark.parametrize("price", [0.0, 1.0, 100.0])
def test_own_bandwidth_limits_with_bandwidth_to_spare(price: float) -> None:
    """Each device is alone then: how much it keeps in all of its own bandwidth is a matter of one unknown."""
    devices = ka.Devices([2e-12, 5e-12, 1e-11], 0.1, 4e6, 0.2, bandwidth_max_hz=1e5)
    answer = ka.solve_priced(ka.Problem(ka.Cell(1e6, 4e-21, 1.0), devices), energy_price_per_j=price)
    assert answer.bandwidth_price_per_hz == 0
    q = np.linspace(0.0, 0.3, 30001)[:, None]
    t, nats = 1.0 - 0.2 * q, 4e6 * np.log(2.0) * q
    p = 1e5 * np.expm1(nats / (t * 1e5)) * 4e-21 / np.asarray(devices.channel_gain)
    cost = np.where(p <= 0.1, (1.0 - q) / 3 + price * p * t, np.inf)
    assert float(answer.cost) == pytest.approx(cost.min(axis=0).sum(), rel=1e-5)
    assert float(answer.cost) <= cost.min(axis=0).sum()


def test_a_shared_budget_below_the_floors_spares_the_rest_of_a_batch() -> None:
    devices = ka.Devices([2e-12, 5e-12, 1e-11], 0.1, 4e6, 0.2, pruning_ratio_max=0.95)
    problem = ka.Problem(ka.Cell([1e6, 1e6], 4e-21, 1.0), devices)
    answer = ka.solve_priced(problem, shared_energy_j=[1e-6, 0.1], throw=False)
    assert list(answer.status) == [ka.Status.INFEASIBLE, ka.Status.OPTIMAL]
    needed = float(answer.diagnosis.shared_energy_needed_j[0])
    enough = ka.solve_priced(problem, shared_energy_j=needed * (1.0 + 1e-6), throw=False)
    assert list(enough.status) == [ka.Status.OPTIMAL] * 2

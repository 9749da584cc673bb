"""The CVXPY twin against answers known by construction, and against SLSQP on the non-convex problem."""

from __future__ import annotations

import subprocess
import sys

import cvxpy
import numpy as np
import pytest
from independent import floor_bandwidth_hz, is_feasible, objective_at, physical, rate_bps, slsqp
from problems import REGIMES, RESOURCES, KnownAnswer, infeasible_problem, known_answers, random_problem

from kktalloc._certificate import reference
from kktalloc._certificate.reference import solve_reference
from kktalloc._problem.fields import Cell, Devices
from kktalloc._problem.problem import Problem

KNOWN = known_answers()


@pytest.fixture(params=KNOWN, ids=lambda known: known.name)
def known(request: pytest.FixtureRequest) -> KnownAnswer:
    answer: KnownAnswer = request.param
    return answer


def test_known_answer_by_cvxpy(known: KnownAnswer):
    found = solve_reference(known.problem)
    assert found.status == "optimal"
    # The conic solver's 1e-10 is relative to a rate: at low SNR a rate is a small difference of large terms.
    low_snr = known.name == "single_energy_low_snr"
    assert found.objective == pytest.approx(known.objective, abs=1e-8 if low_snr else 1e-9)
    np.testing.assert_allclose(found.pruning_ratio, known.pruning_ratio, atol=5e-5)
    for name in ("bandwidth_hz", "tx_power_w"):
        want = getattr(known, name)
        determined = ~np.isnan(want)
        np.testing.assert_allclose(getattr(found, name)[determined], want[determined], rtol=1e-4, err_msg=name)
    if known.bandwidth_price_per_hz > 0:
        assert found.bandwidth_price_per_hz == pytest.approx(known.bandwidth_price_per_hz, rel=1e-3)
    elif known.bandwidth_price_per_hz == 0:
        assert found.bandwidth_price_per_hz * np.asarray(known.problem.cell.bandwidth_hz) < 1e-9


def test_known_answer_by_slsqp(known: KnownAnswer):
    best = slsqp(known.problem, np.random.default_rng(0), starts=3)
    assert best == pytest.approx(known.objective, abs=1e-9)


def test_known_answer_is_feasible_and_tight(known: KnownAnswer):
    v = physical(known.problem)
    q, b, p = 1 - known.pruning_ratio, known.bandwidth_hz, known.tx_power_w
    if np.isnan(b).any():
        assert floor_bandwidth_hz(known.problem).sum() == 0.0
        return
    t = v["T"] - v["a"] * q
    np.testing.assert_allclose(t * rate_bps(b, v["g"], p), v["S"] * q + v["S0"], rtol=1e-12)
    assert b.sum() == pytest.approx(v["B"], rel=1e-12)
    assert (p * t / v["eta"] + v["eps"] * q <= v["E"] * (1 + 1e-12)).all()
    assert (p <= v["P"] * (1 + 1e-12)).all()
    assert p.sum() <= v["P_tot"] * (1 + 1e-12)


@pytest.mark.parametrize("name", ["bandwidth_hz", "deadline_s", "energy_budget_j", "tx_power_max_w", "total_power_w"])
def test_known_prices_are_derivatives(name: str):
    """Central differences of the twin's objective, where one budget binds and its price is known."""
    key = {
        "bandwidth_hz": "bandwidth_price_per_hz",
        "deadline_s": "deadline_price_per_s",
        "energy_budget_j": "energy_price_per_j",
        "tx_power_max_w": "peak_power_price_per_w",
        "total_power_w": "total_power_price_per_w",
    }[name]
    looked_at = 0
    for known in KNOWN:
        price = np.atleast_1d(getattr(known, key))[0]
        if not price > 0 or known.name == "single_energy_low_snr":
            continue
        cell = {k: np.asarray(v)[..., 0] for k, v in vars(known.problem.cell).items() if v is not None}
        devices = {k: np.array(v) for k, v in vars(known.problem.devices).items()}
        values = []
        for sign in (1, -1):
            step = {k: v.copy() for k, v in (cell if name in cell else devices).items()}
            step[name].flat[0] *= 1 + sign * 1e-4
            both = (cell | step, devices) if name in cell else (cell, devices | step)
            values.append(solve_reference(Problem(Cell(**both[0]), Devices(**both[1]))).objective)
        budget = (cell if name in cell else devices)[name].flat[0]
        slope = (values[1] - values[0]) / (2e-4 * budget)
        # A device may leave its kink or the price's own step be curved: one per cent tells a wrong formula.
        assert slope == pytest.approx(price, rel=1e-2), known.name
        looked_at += 1
    assert looked_at >= 1


@pytest.mark.parametrize("regime", REGIMES)
def test_agrees_with_slsqp_on_random_problems(regime: str):
    rng = np.random.default_rng(REGIMES.index(regime))
    compared = 0
    for _ in range(6):
        problem = random_problem(rng, int(rng.integers(1, 9)), regime, stress=False)
        found = solve_reference(problem)
        assert found.status in ("optimal", "optimal_inaccurate")
        local = slsqp(problem, rng, starts=3)
        # A local solver may fail to reach the optimum, never pass it.
        assert found.objective <= local + 1e-7
        compared += found.objective >= local - 1e-7
    assert compared >= 4


@pytest.mark.parametrize("regime", REGIMES)
def test_random_problems_are_feasible(regime: str):
    rng = np.random.default_rng(10 + REGIMES.index(regime))
    for _ in range(30):
        assert is_feasible(random_problem(rng, regime=regime))


@pytest.mark.parametrize("resource", RESOURCES)
def test_infeasible_problems_are_infeasible(resource: str):
    rng = np.random.default_rng(20 + RESOURCES.index(resource))
    for _ in range(5):
        problem, device = infeasible_problem(rng, resource, devices=6)
        floor = floor_bandwidth_hz(problem)
        assert not is_feasible(problem)
        assert np.flatnonzero(np.isinf(floor)).tolist() == ([device] if device >= 0 else [])
        found = solve_reference(problem)
        assert found.status == "infeasible"
        assert np.isnan(found.pruning_ratio).all()
        assert np.isnan(found.objective)


def test_what_is_no_problem_is_named():
    with pytest.raises(TypeError, match=r"^problem: expected a Problem, got int$"):
        solve_reference(1)  # type: ignore[arg-type]


def test_a_batch_is_solved_one_by_one():
    gain = np.array([[1e-11, 2e-12], [3e-12, 5e-11], [1e-11, 2e-12]])
    devices = Devices(gain, 0.1, 5e5, 0.2, pruning_ratio_max=0.9)
    batch = solve_reference(Problem(Cell([1e6, 2e5, 1e3], 4e-21, 1.0), devices))
    assert list(batch.status) == ["optimal", "optimal", "infeasible"]
    assert batch.pruning_ratio.shape == (3, 2)
    assert batch.objective.shape == batch.solve_s.shape == batch.bandwidth_price_per_hz.shape == (3,)
    for i, bandwidth in enumerate((1e6, 2e5)):
        alone = Devices(gain[i], 0.1, 5e5, 0.2, pruning_ratio_max=0.9)
        one = solve_reference(Problem(Cell(bandwidth, 4e-21, 1.0), alone))
        assert one.status == "optimal"
        np.testing.assert_array_equal(one.pruning_ratio, batch.pruning_ratio[i])
    assert np.isnan(batch.objective[2])


def test_a_device_that_cannot_send_prunes_everything():
    budget = [np.inf, 1.0, 1.0, 0.0]
    devices = Devices([1e-11, 0.0, 1e-11, 1e-11], [0.1, 0.1, 0.0, 0.1], 5e5, 0.2, energy_budget_j=budget)
    found = solve_reference(Problem(Cell(1e6, 4e-21, 1.0), devices))
    np.testing.assert_array_equal(found.pruning_ratio[1:], 1.0)
    np.testing.assert_array_equal(found.bandwidth_hz[1:], 0.0)
    alone = solve_reference(Problem(Cell(1e6, 4e-21, 1.0), Devices(1e-11, 0.1, 5e5, 0.2)))
    assert found.pruning_ratio[0] == pytest.approx(float(alone.pruning_ratio[0]), abs=1e-8)


def test_another_conic_solver_agrees():
    problem = random_problem(np.random.default_rng(4), 4, "mixed", stress=False)
    first = solve_reference(problem)
    other = solve_reference(problem, solver="SCS", eps_abs=1e-8, eps_rel=1e-8, max_iters=200_000)
    assert other.status == "optimal"
    assert other.objective == pytest.approx(float(first.objective), abs=1e-5)


def test_made_feasible_is_never_better_than_the_optimum():
    """`objective_at` is an upper bound: at the known bandwidths it is the optimum, at any others no less."""
    rng = np.random.default_rng(6)
    for known in KNOWN:
        if known.name in ("slack", "total_power"):
            continue
        assert objective_at(known.problem, known.bandwidth_hz) == pytest.approx(known.objective, abs=1e-12)
        for _ in range(5):
            moved = known.bandwidth_hz * rng.uniform(0.5, 1.5, known.bandwidth_hz.shape)
            assert objective_at(known.problem, moved) >= known.objective - 1e-12


def test_cvxpy_is_imported_only_when_asked_for():
    code = "import sys, kktalloc._certificate.reference; sys.exit('cvxpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_where_clarabel_breaks_off_another_solver_is_asked_and_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    solve = cvxpy.Problem.solve

    def broken(program: cvxpy.Problem, solver: str, **options: object) -> object:
        if solver == "CLARABEL":
            raise cvxpy.SolverError("broke off")
        return solve(program, solver=solver, **options)

    problems = [random_problem(np.random.default_rng(i), 4, regime, stress=False) for i, regime in enumerate(REGIMES)]
    right = [solve_reference(problem) for problem in problems]
    monkeypatch.setattr(cvxpy.Problem, "solve", broken)
    answered = 0
    for problem, want in zip(problems, right, strict=True):
        found = solve_reference(problem)
        assert found.status in ("optimal_inaccurate", "solver_error")
        if found.status == "solver_error":
            assert np.isnan([*found.pruning_ratio, *found.bandwidth_hz, *found.tx_power_w, found.objective]).all()
        elif want.status == "optimal":
            answered += 1
            assert found.objective == pytest.approx(float(want.objective), abs=1e-5)
    assert answered >= 3
    monkeypatch.setattr(reference, "_SECOND", {"max_iters": 1})  # what misses the rows is no answer
    assert {solve_reference(problem).status for problem in problems} == {"solver_error"}

"""Plans against exhaustive search, and against each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from problems import REGIMES, random_problem
from scipy.optimize import brentq

import kktalloc as ka
from kktalloc._problem.variant import variant
from kktalloc.bound import Constants, Schedule, bound
from kktalloc.plan import Plan, plan, time_to_target

CONSTANTS = Constants(
    smoothness_u=1.0, smoothness_v=1.0, gradient_noise_u_var=0.1, gradient_noise_v_var=0.1, pruning_radius=1.0,
    heterogeneity=0.1, coverage=0.9, initial_gap=0.05,
)  # fmt: skip
SCHEDULE = Schedule(rounds=1, local_steps=5, personal_steps=5, learning_rate_u=0.01, learning_rate_v=0.1)


def guarantee(problem: ka.Problem, deadline_s: float, rounds: int) -> float:
    """One choice, evaluated from scratch; inf where infeasible."""
    solution = ka.solve(variant(problem, deadline_s=deadline_s), throw=False)
    if solution.diagnosis is not None:
        return np.inf
    schedule = Schedule(rounds, 5, 5, 0.01, 0.1)
    error = problem.pruning_error.value(solution.pruning_ratio)
    return float(bound(CONSTANTS, schedule, error, problem.devices.weight).gradient_bound)


def cell(seed: int, devices: int = 5, **changes: object) -> ka.Problem:
    problem = random_problem(np.random.default_rng(seed), devices, REGIMES[seed % len(REGIMES)], stress=False)
    return variant(problem, **changes)


@pytest.mark.parametrize("seed", range(7))
def test_plan_against_every_number_of_rounds(seed: int) -> None:
    problem = cell(seed)
    total = 300 * float(np.asarray(problem.cell.deadline_s)[0])
    best = plan(problem, CONSTANTS, SCHEDULE, total, scan=17)
    most = int(total / float(ka.least_deadline(problem))) + 1
    every = np.arange(1, min(most, 1500) + 1)
    errors = ka.solve(variant(problem, deadline_s=total / every), throw=False).objective
    fine = np.isfinite(errors)
    schedule = Schedule(every[fine], 5, 5, 0.01, 0.1)
    values = bound(CONSTANTS, schedule, errors[fine, None], problem.devices.weight).gradient_bound
    assert best.gradient_bound <= values.min() * (1 + 1e-12)
    assert best.total_time_s == pytest.approx(total, rel=1e-12)
    assert best.gradient_bound == pytest.approx(guarantee(problem, best.deadline_s, best.rounds), rel=1e-12)
    assert best.solution.status is ka.Status.OPTIMAL
    assert best.pruning_error == best.solution.objective


def brute_time(problem: ka.Problem, target: float, most: int) -> float:
    """Least total time over up to `most` rounds, each with the least deadline that a root-finder sees."""
    shortest = float(ka.least_deadline(problem)) * (1 + 1e-9)
    best = np.inf
    for rounds in range(1, most + 1):
        top = shortest
        while guarantee(problem, top, rounds) > target and top < 1e6 * shortest:
            top *= 2
        if guarantee(problem, top, rounds) > target:
            continue
        if top > shortest:
            top = brentq(lambda t, r=rounds: guarantee(problem, t, r) - target, top / 2, top, xtol=1e-10 * top)
        best = min(best, rounds * top)
    return best


@pytest.mark.parametrize("seed", [2, 5])
def test_time_to_target_against_every_number_of_rounds(seed: int) -> None:
    problem = cell(seed, 3)
    total = 8 * float(np.asarray(problem.cell.deadline_s)[0])
    target = plan(problem, CONSTANTS, SCHEDULE, total).gradient_bound * 1.03
    best = time_to_target(problem, CONSTANTS, SCHEDULE, target, scan=9)
    assert best.gradient_bound <= target * (1 + 1e-12)
    assert best.total_time_s == pytest.approx(brute_time(problem, target, 20), rel=1e-7)


@pytest.mark.parametrize("seed", range(7))
def test_the_two_questions_are_inverse(seed: int) -> None:
    problem = cell(seed, 8)
    total = 2000 * float(np.asarray(problem.cell.deadline_s)[0])
    there = plan(problem, CONSTANTS, SCHEDULE, total)
    back = time_to_target(problem, CONSTANTS, SCHEDULE, there.gradient_bound)
    assert back.total_time_s <= total * (1 + 1e-9)
    assert back.gradient_bound <= there.gradient_bound * (1 + 1e-12)
    # Nothing faster can be a better plan than the best plan for that time.
    assert plan(problem, CONSTANTS, SCHEDULE, back.total_time_s * (1 + 1e-12)).gradient_bound <= back.gradient_bound


def test_curve_holds_what_was_tried() -> None:
    problem = cell(2)
    best = plan(problem, CONSTANTS, SCHEDULE, 500 * float(np.asarray(problem.cell.deadline_s)[0]))
    curve = best.curve
    assert (np.diff(curve.deadline_s) > 0).all()
    assert (np.diff(curve.pruning_error) <= 1e-12).all()
    assert curve.gradient_bound.min() == pytest.approx(best.gradient_bound, rel=1e-12)
    np.testing.assert_allclose(curve.total_time_s, best.total_time_s, rtol=1e-12)
    for i in (0, 20, -1):
        want = guarantee(problem, float(curve.deadline_s[i]), int(curve.rounds[i]))
        assert curve.gradient_bound[i] == pytest.approx(want, rel=1e-9)


def test_more_pruning_error_makes_rounds_longer() -> None:
    """Metamorphic: the larger D is, the more a plan spends on keeping the model whole."""
    problem = cell(2, pruning_ratio_max=1.0)
    total = 1000 * float(np.asarray(problem.cell.deadline_s)[0])
    plans: list[Plan] = []
    for radius in (0.01, 0.1, 1.0, 10.0):
        constants = Constants(1.0, 1.0, 0.1, 0.1, radius, 0.1, 0.9, 0.05)
        plans.append(plan(problem, constants, SCHEDULE, total))
    deadlines = [p.deadline_s for p in plans]
    assert deadlines == sorted(deadlines)
    assert plans[0].pruning_error > plans[-1].pruning_error


def test_a_convex_error_curve_counts_instead_of_the_ratio() -> None:
    start = cell(2)
    problem = variant(start, ka.PowerLaw(2.0))
    total = 300 * float(np.asarray(problem.cell.deadline_s)[0])
    best = plan(problem, CONSTANTS, SCHEDULE, total)
    alpha = problem.devices.weight
    assert best.pruning_error == pytest.approx(float(alpha @ best.solution.pruning_ratio**2), rel=1e-12)
    assert best.gradient_bound < plan(start, CONSTANTS, SCHEDULE, total).gradient_bound


def test_a_measured_error_beyond_one_counts_as_more_of_the_radius() -> None:
    """Metamorphic: e in units of D^2 / 4 is the same as e with half the radius."""
    points, errors = [0.0, 0.5, 1.0], np.array([0.0, 0.2, 0.9])
    problem = cell(2)
    total = 100 * float(np.asarray(problem.cell.deadline_s)[0])
    one = plan(variant(problem, pruning_error=ka.Table(points, errors)), CONSTANTS, SCHEDULE, total)
    other = variant(problem, pruning_error=ka.Table(points, 4.0 * errors))
    half = replace(CONSTANTS, pruning_radius=0.5)
    two = plan(other, half, SCHEDULE, total)
    assert two.pruning_error > 1.0 or two.curve.pruning_error.max() > 1.0
    assert (two.rounds, two.gradient_bound) == (one.rounds, pytest.approx(one.gradient_bound, rel=1e-9))
    target = 1.05 * one.gradient_bound
    first, second = (
        time_to_target(one.solution.problem, CONSTANTS, SCHEDULE, target),
        time_to_target(other, half, SCHEDULE, target),
    )
    assert second.total_time_s == pytest.approx(first.total_time_s, rel=1e-7)


def test_without_pruning_in_the_bound_short_rounds_win() -> None:
    constants = Constants(1.0, 1.0, 0.1, 0.1, 0.0, 0.1, 0.9, 0.05)
    problem = cell(1)
    shortest = float(ka.least_deadline(problem))
    best = plan(problem, constants, SCHEDULE, 100.5 * shortest)
    assert best.rounds == 100
    target = float(best.gradient_bound)
    assert time_to_target(problem, constants, SCHEDULE, target).total_time_s == pytest.approx(100 * shortest, rel=1e-6)


def test_rounds_vanish_where_nothing_holds_them_up() -> None:
    """Pruning that costs next to nothing: only what each round takes anyhow keeps plans from rounds of nothing."""
    cheap = replace(CONSTANTS, pruning_radius=0.01)
    free = {"overhead_bits": 0.0, "fixed_latency_s": 0.0, "pruning_ratio_max": 1.0}
    problem = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices([2e-12, 5e-12, 1e-11], 0.1, 4e6, 0.3))
    with pytest.warns(UserWarning, match=r"^the best plan prunes everything, in 1125899906842624 rounds of 5.33e-13 s"):
        assert plan(variant(problem, **free), cheap, SCHEDULE, 600.0).rounds == 2**50
    with pytest.warns(UserWarning, match="^the best plan prunes everything"):
        assert time_to_target(variant(problem, **free), cheap, SCHEDULE, 1.0).solution.certificate.ok
    for held in ({"overhead_bits": 1e4}, {"fixed_latency_s": 0.05}, {"pruning_ratio_max": 0.9}):
        assert plan(variant(problem, **free | held), cheap, SCHEDULE, 600.0).rounds < 10**6


def test_refusals() -> None:
    problem = cell(1)
    shortest = float(ka.least_deadline(problem))
    with pytest.raises(ka.InfeasibleError, match="would do"):
        plan(problem, CONSTANTS, SCHEDULE, 0.9 * shortest)
    with pytest.raises(ValueError, match=r"total_time_s = nan: must be > 0"):
        plan(problem, CONSTANTS, SCHEDULE, np.nan)
    with pytest.raises(ValueError, match=r"total_time_s: expected numbers, got 'long'"):
        plan(problem, CONSTANTS, SCHEDULE, "long")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"scan = 2: must be a whole number >= 3"):
        plan(problem, CONSTANTS, SCHEDULE, 1.0, scan=2)
    with pytest.raises(ValueError, match=r"one at a time, got a batch of shape \(2,\)"):
        plan(variant(problem, deadline_s=[1.0, 2.0]), CONSTANTS, SCHEDULE, 1.0)
    with pytest.raises(ValueError, match=r"gradient_bound = 1e-09: no plan gets to [\d.e-]+ or below"):
        time_to_target(problem, CONSTANTS, SCHEDULE, 1e-9)
    with pytest.raises(ValueError, match=r"gradient_bound = 0.0: must be > 0"):
        time_to_target(problem, CONSTANTS, SCHEDULE, 0.0)
    for search in (plan, time_to_target):
        with pytest.raises(TypeError, match=r"^constants: expected Constants, got Schedule$"):
            search(problem, SCHEDULE, CONSTANTS, 1.0)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^schedule: expected Schedule, got float$"):
            search(problem, CONSTANTS, 600.0, 1.0)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^young: expected Young, got dict$"):
            search(problem, CONSTANTS, SCHEDULE, 1.0, young={"s": 1.0})  # type: ignore[arg-type]
    mute = variant(problem, channel_gain=0.0, pruning_ratio_max=0.5)
    with pytest.raises(ka.InfeasibleError, match="peak_power"):
        time_to_target(mute, CONSTANTS, SCHEDULE, 1.0)
    with pytest.raises(ValueError, match="smoothness_u"):
        plan(problem, Constants(-1.0, 1, 0, 0, 0, 0, 1, 1), SCHEDULE, 10 * shortest)

"""What the floors take, and the least that serves them: the kernel against the NumPy searches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from problems import REGIMES, RESOURCES, infeasible_problem, random_problem

import kktalloc as ka
from kktalloc._certificate import usage
from kktalloc._device.feasibility import floor_power, least_cells, least_deadline
from kktalloc._device.link import floor_bandwidth
from kktalloc._device.reduced import reduce
from kktalloc._engine.floors import Question, ask
from kktalloc._problem import kernel
from kktalloc._problem.variant import variant
from kktalloc._questions import least, minmax
from kktalloc._questions.diagnosis import diagnose

pytestmark = pytest.mark.skipif(kernel.kernel() is None, reason="the compiled kernel is not built")


def problems(capped: bool) -> list[ka.Problem]:
    made = []
    for i in range(28):
        rng = np.random.default_rng([61, i])
        problem = random_problem(rng, int(rng.integers(1, 12)), REGIMES[i % len(REGIMES)])
        limits = np.asarray(problem.devices.pruning_ratio_max)
        problem = variant(problem, pruning_ratio_max=1.0 - (1.0 - limits) * rng.uniform(1.0, 1.05, limits.shape))
        if capped:
            watts = np.sum(problem.devices.tx_power_max_w, axis=-1)
            problem = variant(problem, total_power_w=watts * 10.0 ** rng.uniform(-1.0, 0.0))
        made.append(problem)
    return made


def answered(problem: ka.Problem, question: Question) -> tuple[np.ndarray, np.ndarray]:
    found = ask(problem, question)
    assert found is not None
    return found


@pytest.mark.parametrize("capped", [False, True])
def test_floors_bandwidth_and_deadline(capped: bool) -> None:
    for i, problem in enumerate(problems(capped)):
        form = reduce(problem)
        floors = floor_bandwidth(form)
        (needed, watts, *_), (floor, _, _, _) = answered(problem, Question.FLOORS)
        np.testing.assert_allclose(floor, floors, rtol=1e-10)
        np.testing.assert_allclose(needed, floors.sum(axis=1), rtol=1e-10)
        np.testing.assert_allclose(watts, floor_power(form, floors), rtol=1e-11)
        np.testing.assert_allclose(answered(problem, Question.CELLS)[0][0], least_cells(form), rtol=1e-10)
        if i % (4 if capped else 1) == 0:
            seconds = answered(problem, Question.DEADLINE)[0][0].reshape(problem.batch_shape)
            np.testing.assert_allclose(seconds, least_deadline(problem), rtol=1e-12)


@pytest.mark.parametrize("resource", RESOURCES)
def test_what_is_missing_is_named_alike(resource: str) -> None:
    for i in range(10):
        problem, _ = infeasible_problem(np.random.default_rng([62, i]), resource)
        ours, theirs = diagnose(problem), diagnose(problem, reduce(problem))
        assert ours is not None
        assert theirs is not None
        np.testing.assert_array_equal(ours.resource, theirs.resource)
        np.testing.assert_array_equal(ours.feasible, theirs.feasible)


@pytest.mark.parametrize("capped", [False, True])
def test_level_and_energy(capped: bool) -> None:
    asked = 0
    for problem in problems(capped)[:: 3 if capped else 1]:
        if diagnose(problem) is not None:
            continue
        asked += 1
        form, d = reduce(problem), problem.devices
        heavy = form.weight * form.weight.shape[1]
        level, ratio = minmax._level_and_ratio(form, heavy)
        theta, price = minmax._multipliers(form, heavy, level, ratio)
        of_problem, of_device = answered(problem, Question.LEVEL)
        np.testing.assert_allclose(of_problem[0], level, rtol=1e-11, atol=1e-15)
        np.testing.assert_allclose(of_problem[2], ratio, rtol=1e-9)
        np.testing.assert_allclose(of_problem[1], price, rtol=1e-6)
        np.testing.assert_allclose(of_device[1], theta, atol=1e-6)
        upload = np.asarray(problem.cell.deadline_s) - np.asarray(d.fixed_latency_s)
        upload = upload - np.asarray(d.pruned_compute_s) * (1.0 - np.asarray(d.pruning_ratio_max))
        joules = np.asarray(d.tx_power_max_w) * upload / np.asarray(d.pa_efficiency)
        b, p, *rest = least._under_cap(form, joules.reshape(problem.sizes))
        of_problem, of_device = answered(problem, Question.ENERGY)
        np.testing.assert_allclose(of_device[0], b, rtol=1e-8)
        np.testing.assert_allclose(of_device[1], p, rtol=1e-8)
        np.testing.assert_allclose(of_problem[:3], rest, rtol=1e-8, atol=1e-20)
    assert asked >= 3


def test_a_least_bandwidth_holds_the_floors() -> None:
    """Near the wideband limit floors move by more than their tolerance with the last bit of the bandwidth.

    The second search, for power, once took floors that did not fit for floors that need no power.
    """
    edge = 1.0 - 10.0 ** np.random.default_rng(64).uniform(-9.0, -3.0, (40, 6))  # of the rate that no bandwidth reaches
    cell, gain, tx_w = ka.Cell(1e6, 1e-20, 1.0), 1e-12, 0.1
    for i, near in enumerate(edge):
        most_bits = gain * tx_w / 1e-20 / np.log(2.0)
        problem = ka.Problem(cell, ka.Devices(np.full(6, gain), tx_w, most_bits * near, 0.0, pruning_ratio_max=0.0))
        for share in (None, 0.5, 0.999):
            capped = problem if share is None else variant(problem, total_power_w=6 * tx_w * share)
            cells = float(answered(capped, Question.CELLS)[0][0][0])
            if cells == np.inf:
                continue
            at = variant(capped, bandwidth_hz=cells * float(np.asarray(capped.cell.bandwidth_hz)[0]))
            needed, watts, *_ = answered(at, Question.FLOORS)[0]
            assert needed[0] <= 1.0 + 1e-12, (i, share)
            assert watts[0] <= 1.0 + 1e-12, (i, share)


def test_questions_that_there_are_not() -> None:
    problem = problems(False)[0]
    with pytest.raises(ValueError, match="no question 9"):
        kernel.kernel().least(9, *problem.columns, *problem.sizes, np.empty(5), np.empty((4, problem.shape[-1])))


def test_the_engines_give_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for problem in problems(True)[::7] + problems(False)[::5]:
        found = {}
        for engine in ("compiled", "numpy"):
            monkeypatch.setenv("KKTALLOC_ENGINE", engine)
            found[engine] = (
                float(ka.solve_minmax(problem, throw=False).level),
                float(ka.least_energy(problem, throw=False).total_energy_j),
                float(ka.least_bandwidth(problem)),
                float(ka.least_deadline(problem)),
                float(np.nan_to_num(ka.solve(problem, throw=False).objective)),
            )
        np.testing.assert_allclose(found["compiled"], found["numpy"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("capped", [False, True])
def test_the_bounds_of_both_judges_agree(capped: bool) -> None:
    rng = np.random.default_rng(63)
    for problem in problems(capped):
        found, hz_per_w = least._at_floors(problem)
        by_s = np.asarray(problem.cell.deadline_s)[..., 0]
        moved = replace(found, bandwidth_hz=found.bandwidth_hz * rng.uniform(0.5, 2.0, problem.shape))
        for allotment in (found, moved):
            for at_s in (by_s, by_s * (1 - 1e-8)):
                given = (problem, allotment, at_s, np.ones(problem.batch_shape), np.asarray(hz_per_w)[..., None] + 1e3)
                ours, theirs = usage._least_cost(*given), usage._cost_by_numpy(*given)
                sizes = np.abs(theirs[np.isfinite(theirs)])
                np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9 * sizes.max(initial=0.0))


def test_what_is_refused_of_the_kernel_is_searched_for_by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = next(p for p in problems(False) if diagnose(p) is None)
    right = float(ka.least_bandwidth(problem)), float(ka.least_energy(problem).total_energy_j)
    kernels = least.ask

    def wrong(problem: ka.Problem, question: Question) -> tuple[np.ndarray, np.ndarray] | None:
        found = kernels(problem, question)
        if found is not None and question is Question.CELLS:
            found[0][0] *= 1.01
        if found is not None and question is Question.ENERGY:
            found[1][:2] *= 0.5
        return found

    monkeypatch.setattr(least, "ask", wrong)
    energy = ka.least_energy(problem)
    assert (float(ka.least_bandwidth(problem)), float(energy.total_energy_j)) == pytest.approx(right, rel=1e-9)
    assert energy.stats is not None
    assert energy.stats.engine == "compiled+numpy"

"""What an answer says of the work that it took."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import kktalloc as ka
from kktalloc._problem import kernel

CELL = ka.Cell(bandwidth_hz=1e6, noise_psd_w_per_hz=4e-21, deadline_s=1.0)
DEVICES = ka.Devices(
    channel_gain=np.array([2e-12, 5e-12, 1e-11, 4e-11]),
    tx_power_max_w=0.1,
    payload_bits=4e6,
    pruned_compute_s=np.array([0.3, 0.2, 0.2, 0.4]),
    energy_budget_j=np.array([0.05, 0.2, 0.2, np.inf]),
)
PROBLEM = ka.Problem(CELL, DEVICES)
QUESTIONS: dict[str, Callable[[ka.Problem], Any]] = {
    "solve": ka.solve,
    "min-max": ka.solve_minmax,
    "least energy": ka.least_energy,
    "select": ka.select,
    "blocks": lambda problem: ka.solve_blocks(problem, 1e4),
}
ENGINES = ["numpy", pytest.param("compiled", marks=pytest.mark.skipif(kernel._KERNEL is None, reason="no compiler"))]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("question", QUESTIONS)
def test_every_answer_tells_what_it_took(question: str, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KKTALLOC_ENGINE", engine)
    start = time.perf_counter()
    stats = QUESTIONS[question](PROBLEM).stats
    took = time.perf_counter() - start
    assert ("compiled" in stats.engine) == (engine == "compiled")
    assert stats.evaluations >= 1
    assert stats.retries == 0
    assert 0.0 < stats.seconds <= took


@pytest.mark.parametrize("engine", ENGINES)
def test_the_work_of_a_batch_is_that_of_its_problems(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten equal problems are asked ten times as often as one, give or take what each engine asks of a batch at once."""
    monkeypatch.setenv("KKTALLOC_ENGINE", engine)
    one = ka.solve(PROBLEM).stats
    ten = ka.solve(ka.Problem(replace(CELL, deadline_s=np.ones(10)), DEVICES)).stats
    assert one is not None
    assert ten is not None
    assert ten.evaluations == pytest.approx(10 * one.evaluations, rel=0.3)


def test_a_harder_problem_counts_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KKTALLOC_ENGINE", "numpy")
    watts = 0.5 * ka.solve(PROBLEM).tx_power_w.sum()
    free, capped = (ka.solve(ka.Problem(replace(CELL, total_power_w=w), DEVICES)).stats for w in (None, watts))
    assert free is not None
    assert capped is not None
    assert capped.evaluations > 2 * free.evaluations


@pytest.mark.skipif(kernel.kernel() is None, reason="no compiler, or not asked")
def test_what_numpy_solves_again_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from kktalloc._engine import compiled

    kernel_solve = compiled.solve

    def spoiled(*args: Any) -> compiled.Answer | None:
        found = kernel_solve(*args)
        if found is not None:
            found.device[1, 3] *= 0.9
            found.certified = False
        return found

    monkeypatch.setattr(compiled, "solve", spoiled)
    batch = ka.Problem(replace(CELL, deadline_s=np.linspace(0.8, 1.2, 5)), DEVICES)
    solution = ka.solve(batch)
    assert solution.certificate.ok
    assert solution.stats is not None
    assert (solution.stats.engine, solution.stats.retries) == ("compiled+numpy", 1)


def test_infeasible_problems_are_no_retries() -> None:
    solution = ka.solve(ka.Problem(replace(CELL, deadline_s=0.1), replace(DEVICES, pruning_ratio_max=0.5)), throw=False)
    assert solution.status is ka.Status.INFEASIBLE
    assert solution.stats is not None
    assert solution.stats.retries == 0


def test_a_curve_of_ones_own_is_numpys() -> None:
    class Square:
        def value(self, rho: np.ndarray) -> np.ndarray:
            return rho**2

        def slope(self, rho: np.ndarray) -> np.ndarray:
            return 2.0 * rho

        def curvature(self, rho: np.ndarray) -> np.ndarray:
            return np.full_like(rho, 2.0)

        def rows(self, keep: np.ndarray, shape: tuple[int, ...]) -> Square:
            return self

    stats = ka.solve(ka.Problem(CELL, DEVICES, Square())).stats
    assert stats is not None
    assert stats.engine == "numpy"


def test_stats_travel_with_the_answer_that_the_call_made() -> None:
    torch = pytest.importorskip("torch")
    solution = ka.solve(PROBLEM)
    assert pickle.loads(pickle.dumps(solution)).stats == solution.stats
    assert replace(solution, objective=solution.objective).stats is None
    there = ka.solve(ka.Problem(CELL, replace(DEVICES, channel_gain=torch.tensor(np.asarray(DEVICES.channel_gain)))))
    assert there.stats is not None
    assert there.stats.evaluations == solution.stats.evaluations


def test_a_question_within_a_question_counts_towards_both() -> None:
    chosen = ka.select(PROBLEM)
    assert chosen.stats.evaluations >= chosen.solution.stats.evaluations
    assert chosen.stats.seconds >= chosen.solution.stats.seconds

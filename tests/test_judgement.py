"""Every question ends in the same judgement: a solver that is made wrong on purpose is refused by each of them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import kktalloc as ka
from kktalloc._device import reduced
from kktalloc._engine import compiled, numpy_engine
from kktalloc._engine.floors import Question
from kktalloc._problem import kernel
from kktalloc._questions import blocks, cost, least, priced

DEVICES = ka.Devices(
    channel_gain=[4e-13, 8e-13, 2e-12], tx_power_max_w=0.1, payload_bits=[4e6, 2e6, 3e6],
    pruned_compute_s=[0.3, 0.2, 0.1], energy_budget_j=[np.inf, 0.09, 0.2], pruning_ratio_max=0.9,
)  # fmt: skip
PLAIN = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), DEVICES)
CAPPED = ka.Problem(ka.Cell(1e6, 4e-21, 1.0, 0.2), DEVICES)

QUESTIONS: dict[str, Callable[[ka.Problem], Any]] = {
    "solve": ka.solve,
    "solve_minmax": ka.solve_minmax,
    "solve_blocks": lambda problem: ka.solve_blocks(problem, 5e4),
    "least_bandwidth": ka.least_bandwidth,
    "least_deadline": ka.least_deadline,
    "least_deadline in blocks": lambda problem: ka.least_deadline(problem, block_hz=5e4),
    "least_energy": lambda problem: ka.least_energy(problem, 0.8),
    "select": ka.select,
    "least_cost": lambda problem: ka.least_cost(problem, time_weight=0.1),
    "solve_priced": lambda problem: ka.solve_priced(problem, energy_price_per_j=0.5, shared_energy_j=0.15),
    "solve_bits": lambda problem: ka.solve_bits(problem, [8, 32], [1e-3, 0.0]),
}


def cases() -> list[tuple[str, ka.Problem]]:
    refuse_it = ("block", "least_cost", "solve_priced", "solve_bits")
    with_power = [name for name in QUESTIONS if not any(word in name for word in refuse_it)]
    return [(name, PLAIN) for name in QUESTIONS] + [(name, CAPPED) for name in with_power]


@pytest.mark.parametrize(("name", "problem"), cases())
def test_a_sound_solver_is_believed(name: str, problem: ka.Problem) -> None:
    answer = QUESTIONS[name](problem)
    if hasattr(answer, "certificate"):
        assert answer.status is ka.Status.OPTIMAL
        assert answer.certificate
        assert answer.problem is not None


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
@pytest.mark.parametrize(("name", "problem"), cases())
def test_power_that_is_a_tenth_too_low_is_refused(
    name: str, problem: ka.Problem, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "compiled" and kernel._KERNEL is None:
        pytest.skip("installed without a C compiler")
    monkeypatch.setenv("KKTALLOC_ENGINE", engine)
    invert, solve = reduced.invert, compiled.solve

    def weak(*args: Any) -> dict[str, Any]:
        found = invert(*args)
        return found | {"tx_power_w": 0.9 * found["tx_power_w"]}

    def weak_kernel(*args: Any) -> compiled.Answer | None:
        found = solve(*args)
        if found is not None:
            found.device[2] *= 0.9
            found.certified = False  # its verdict was on what it had found
        return found

    for module in (numpy_engine, least, blocks, cost, priced):
        monkeypatch.setattr(module, "invert", weak)
    monkeypatch.setattr(compiled, "solve", weak_kernel)
    with pytest.raises(ka.UncertifiedError, match="the certificate refuses the allocation") as caught:
        QUESTIONS[name](problem)
    assert not caught.value.certificate
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


def test_what_is_not_the_least_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Feasible answers that are a millionth too large."""
    from kktalloc._device import feasibility

    cells, deadline = feasibility.least_cells, feasibility.least_deadline
    monkeypatch.setattr(least, "least_cells", lambda form: cells(form) * (1 + 1e-6))
    monkeypatch.setattr(least.feasibility, "least_deadline", lambda *a, **k: deadline(*a, **k) * (1 + 1e-6))
    kernel = least.ask

    def wrong(problem: ka.Problem, question: Question) -> Any:
        answered = kernel(problem, question)
        if answered is not None and question in (Question.CELLS, Question.DEADLINE):
            answered[0][0] *= 1 + 1e-6
        return answered

    monkeypatch.setattr(least, "ask", wrong)
    for engine in ("", "numpy"):
        monkeypatch.setenv("KKTALLOC_ENGINE", engine)
        for problem in (PLAIN, CAPPED):
            for question in (ka.least_bandwidth, ka.least_deadline):
                with pytest.raises(ka.UncertifiedError):
                    question(problem)
    with pytest.raises(ka.UncertifiedError, match="least"):
        ka.least_deadline(PLAIN, block_hz=5e4)


def test_answers_that_were_changed_are_judged_anew() -> None:
    energy = ka.least_energy(PLAIN, 0.8)
    assert not replace(energy, total_energy_j=energy.total_energy_j * 0.999).certificate
    assert not replace(energy, tx_power_w=energy.tx_power_w * 0.9).certificate
    spread = ka.solve_blocks(PLAIN, 5e4)
    assert not replace(spread, bandwidth_hz=spread.bandwidth_hz * 1.01).certificate
    moved = np.array(spread.blocks)
    moved[np.argmax(moved)] -= 2
    moved[np.argmin(moved)] += 2
    worse = replace(spread, blocks=moved, bandwidth_hz=moved * 5e4)
    assert not worse.certificate
    fair = ka.solve_minmax(PLAIN)
    assert not replace(fair, level=fair.level * 0.99).certificate
    assert not replace(fair, level=fair.level * 1.01).certificate


def test_a_batch_says_of_each_problem_how_it_ended() -> None:
    batch = ka.Problem(ka.Cell([1e6, 10.0], 4e-21, 1.0), DEVICES)
    for answer in (
        ka.solve(batch, throw=False),
        ka.solve_minmax(batch, throw=False),
        ka.solve_blocks(batch, [5e4, 1.0], throw=False),
        ka.least_energy(batch, 0.8, throw=False),
    ):
        assert list(answer.status) == [ka.Status.OPTIMAL, ka.Status.INFEASIBLE]
    for question in (ka.solve, ka.solve_minmax, ka.least_energy, lambda p: ka.solve_blocks(p, [5e4, 1.0])):
        with pytest.raises(ka.InfeasibleError, match="problem"):
            question(batch)

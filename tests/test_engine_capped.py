"""The compiled engine and judge under a cap on total power, against the NumPy ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from problems import REGIMES, known_answers, random_problem

import kktalloc as ka
from kktalloc._device.reduced import reduce
from kktalloc._engine import compiled, numpy_engine
from kktalloc._problem import kernel
from kktalloc._problem.allocation import Allocation
from kktalloc._problem.variant import variant
from kktalloc._questions.diagnosis import diagnose

pytestmark = pytest.mark.skipif(kernel.kernel() is None, reason="the compiled kernel is not built")

RATIOS = np.linspace(0.0, 1.0, 7)
CURVES = {
    "linear": ka.Linear(),
    "power law": ka.PowerLaw(1.7, 2.0),
    "table": ka.Table(RATIOS, RATIOS**2.5),
    "table with a flat start": ka.Table([0.0, 0.3, 1.0], [0.0, 0.0, 1.0]),
}
SHARES = (0.5, 0.02)  # of the power that is used without a cap


def capped_problems(curve: ka.PruningError, count: int = 7) -> Iterator[ka.Problem]:
    for i in range(count):
        rng = np.random.default_rng([60, i])
        problem = variant(random_problem(rng, int(rng.integers(1, 12)), REGIMES[i % len(REGIMES)]), curve)
        free = by_kernel(problem)
        assert free is not None
        used = float(free.tx_power_w.sum())
        if free.solved.all() and used > 0.0:
            yield from (variant(problem, total_power_w=share * used) for share in SHARES)


def by_kernel(problem: ka.Problem) -> Allocation | None:
    answer = compiled.solve(problem)
    return None if answer is None else answer.allocation()


def by_numpy(problem: ka.Problem) -> Allocation:
    return numpy_engine.solve(problem, reduce(problem), np.ones(problem.batch_shape, dtype=bool))


@pytest.mark.parametrize("kind", CURVES)
def test_both_engines_agree(kind: str) -> None:
    solved = refused = 0
    for problem in capped_problems(CURVES[kind]):
        found = by_kernel(problem)
        assert found is not None
        if diagnose(problem, reduce(problem)) is not None:
            assert not found.solved, "solved what is infeasible"
            refused += 1
            continue
        assert found.solved, problem
        solved += 1
        theirs = by_numpy(problem)
        verdict = ka.solve(problem).certificate
        assert verdict.ok
        slack = 1e-12 + verdict.resolution
        assert abs(found.objective - theirs.objective) <= slack
        assert found.bandwidth_hz.sum() <= np.asarray(problem.cell.bandwidth_hz) * (1 + 1e-12)
        assert found.tx_power_w.sum() <= np.asarray(problem.cell.total_power_w) * (1 + 1e-12)
    assert solved > 5
    assert refused > 0


def test_where_the_answer_jumps_what_lies_between_is_found() -> None:
    """Without computation a linear error and a fixed exchange of power for bandwidth leave a device indifferent."""
    cell = ka.Cell(1e6, 4e-21, 1.0, total_power_w=0.02)
    problem = ka.Problem(cell, ka.Devices(np.array([2e-13, 5e-13, 1e-12]), 0.1, 2e7, 0.0))
    found = by_kernel(problem)
    assert found is not None
    assert found.solved
    assert found.tx_power_w.sum() == pytest.approx(0.02, rel=1e-12)
    theirs = by_numpy(problem)
    assert found.objective == pytest.approx(float(theirs.objective), abs=1e-12)
    assert ka.solve(problem).certificate.ok


def test_known_prices_of_total_power() -> None:
    for known in known_answers():
        found = by_kernel(known.problem)
        if not known.problem.capped or found is None:
            continue
        assert found.solved
        assert found.price_per_w == pytest.approx(known.total_power_price_per_w, rel=1e-9)
        np.testing.assert_allclose(found.tx_power_w, known.tx_power_w, rtol=1e-9)


def test_a_batch_of_mixed_fortunes_is_its_problems_one_by_one() -> None:
    rng = np.random.default_rng(3)
    base = random_problem(rng, 6, "mixed", stress=False)
    caps = np.array([np.inf, 1.0, 0.3, 1e-9]) * float(ka.solve(base).tx_power_w.sum())
    batch = variant(base, total_power_w=np.minimum(caps, 1e3))
    found = by_kernel(batch)
    assert found is not None
    for i, cap in enumerate(np.minimum(caps, 1e3)):
        alone = by_kernel(variant(base, total_power_w=cap))
        assert alone is not None
        assert alone.solved == found.solved[i]
        if alone.solved:
            np.testing.assert_array_equal(alone.pruning_ratio, found.pruning_ratio[i])
            assert alone.price_per_w == found.price_per_w[i]
    assert found.solved.tolist() == [True, True, True, False]


@pytest.mark.parametrize("kind", CURVES)
def test_both_judges_agree_also_on_prices_that_are_off(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for problem in list(capped_problems(CURVES[kind]))[::2]:
        found = ka.solve(problem, throw=False)
        if not found.status.has_solution:
            continue
        for off in (1.0, 1.0 - 1e-6, 1.0 + 1e-3, 0.0):
            given = (problem, found.pruning_ratio, found.bandwidth_hz, found.tx_power_w)
            prices = {
                "bandwidth_price_per_hz": found.prices.bandwidth_per_hz,
                "total_power_price_per_w": off * np.asarray(found.prices.total_power_per_w),
            }
            monkeypatch.delenv("KKTALLOC_ENGINE", raising=False)
            ours = ka.certify(*given, **prices, regime=found.regime)
            monkeypatch.setenv("KKTALLOC_ENGINE", "numpy")
            theirs = ka.certify(*given, **prices, regime=found.regime)
            monkeypatch.delenv("KKTALLOC_ENGINE")
            assert ours.passed == theirs.passed
            for name, value in theirs.residuals.items():
                # Differences of nearly equal numbers: beside a tolerance of 1e-9.
                assert abs(ours.residuals[name] - value) <= 1e-10 * max(1.0, abs(value)), (name, off)
            assert abs(ours.duality_gap - theirs.duality_gap) <= 1e-11 * max(1.0, abs(theirs.duality_gap)), off


def test_more_power_than_the_cap_is_refused_by_the_compiled_judge() -> None:
    problem = next(p for p in capped_problems(ka.Linear()) if diagnose(p, reduce(p)) is None)
    found = ka.solve(problem)
    wrong = replace(found, tx_power_w=found.tx_power_w * (1 + 1e-6))
    assert found.certificate.ok
    assert wrong.certificate.residuals["primal_total_power"] == pytest.approx(1e-6, rel=1e-3)
    assert not wrong.certificate.ok

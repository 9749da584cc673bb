"""The closed-form solver against rivals that know only the physical problem, with no tolerance to hide behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from independent import best_keep_ratio, objective_at, physical
from problems import REGIMES, random_problem

import kktalloc as ka
from kktalloc._certificate.reference import solve_reference


@pytest.mark.parametrize("regime", REGIMES)
def test_what_is_kept_is_all_that_the_bandwidth_carries(regime: str) -> None:
    """Bisection on rate, energy and power finds the keep ratio of every device again, from its bandwidth alone."""
    for i in range(30):
        problem = random_problem(np.random.default_rng([0, i]), regime=regime, stress=False)
        found = ka.solve(problem)
        kept = best_keep_ratio(physical(problem), found.bandwidth_hz)
        np.testing.assert_allclose(1 - found.pruning_ratio, kept, rtol=0, atol=1e-13, err_msg=str(i))


@pytest.mark.parametrize("regime", REGIMES)
def test_never_worse_than_cvxpy_made_exactly_feasible(regime: str) -> None:
    """CVXPY's own objective may come from a point that is infeasible by its tolerance, which low SNR magnifies."""
    rng = np.random.default_rng(30 + REGIMES.index(regime))
    agreed = 0
    for _ in range(12):
        problem = random_problem(rng, int(rng.integers(1, 21)), regime, stress=False)
        twin, found = solve_reference(problem), ka.solve(problem)
        if twin.status in ("optimal", "optimal_inaccurate"):
            assert found.objective <= objective_at(problem, twin.bandwidth_hz) + 1e-12
        if twin.status == "optimal":
            assert found.objective == pytest.approx(float(twin.objective), abs=1e-7)
            agreed += 1
    assert agreed >= 6


def test_one_entry_off_by_a_thousandth_is_refused() -> None:
    names = ("pruning_ratio", "bandwidth_hz", "tx_power_w", "upload_s", "latency_s", "energy_j")
    for i in range(42):
        rng = np.random.default_rng([50, i])
        found = ka.solve(random_problem(rng, regime=REGIMES[i % len(REGIMES)], stress=False))
        for name in names:
            right = np.asarray(getattr(found, name))
            wrong = right.copy()
            wrong[rng.integers(wrong.size)] *= 1 + 1e-3 * rng.choice([-1, 1])
            if (wrong != right).any():  # not the pruning ratio 0
                corrupt: dict[str, Any] = {name: wrong}
                assert not replace(found, **corrupt).certificate.ok, (i, name)

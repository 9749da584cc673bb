"""Shadow prices against central differences of the optimal value: price = -d(objective)/d(budget)."""

from __future__ import annotations

import numpy as np
import pytest
from problems import random_problem

import kktalloc as ka
from kktalloc._problem.variant import variant

STEP = 1e-5


def fall(problem: ka.Problem, name: str, k: int | None) -> tuple[float, float]:
    """One-sided slopes of the objective, negated, in relative units of the budget."""
    base = np.asarray(getattr(problem.cell if k is None else problem.devices, name))
    base = base[..., 0] if k is None else base
    values = []
    for sign in (-1, 0, 1):
        moved = base * (1 + sign * STEP * (1.0 if k is None else np.arange(base.size) == k))
        values.append(float(ka.solve(variant(problem, **{name: moved})).objective))
    return (values[0] - values[1]) / STEP, (values[1] - values[2]) / STEP


@pytest.mark.parametrize("regime", ["peak", "energy", "kink", "mixed", "saturated"])
@pytest.mark.parametrize("seed", range(4))
def test_prices_are_the_fall_of_the_objective(regime: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, devices=5, regime=regime, stress=False)
    problem = variant(problem, bandwidth_hz=float(problem.cell.bandwidth_hz[0]) * 1.01)  # clear of corners
    s = ka.solve(problem)
    k = int(rng.integers(5))
    for name, price, budget, device in (
        ("bandwidth_hz", s.prices.bandwidth_per_hz, problem.cell.bandwidth_hz[0], None),
        ("deadline_s", s.prices.deadline_per_s, problem.cell.deadline_s[0], None),
        ("energy_budget_j", s.prices.energy_per_j[k], problem.devices.energy_budget_j[k], k),
        ("tx_power_max_w", s.prices.peak_power_per_w[k], problem.devices.tx_power_max_w[k], k),
    ):
        if not np.isfinite(budget):
            assert price == 0.0
            continue
        left, right = fall(problem, name, device)
        low, high = min(left, right), max(left, right)
        room = 1e-3 * max(abs(low), abs(high)) + 1e-7
        assert low - room <= price * budget <= high + room, name
        assert price >= 0.0

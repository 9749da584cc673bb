"""The NumPy engine: the readable reference, for every kind of problem."""

from __future__ import annotations

import numpy as np

from kktalloc._device.form import Reduced
from kktalloc._device.reduced import invert, scatter
from kktalloc._engine.clearing import clear
from kktalloc._problem.allocation import Allocation
from kktalloc._problem.problem import Problem
from kktalloc._problem.regime import Regime


def nothing(problem: Problem) -> Allocation:
    """The allocation where no problem has one."""
    one, each, codes = np.empty(problem.batch_shape), np.empty(problem.shape), np.empty(problem.shape, np.int8)
    for array, value in ((one, np.nan), (each, np.nan), (codes, -1)):
        array.fill(value)
    solved = np.zeros(problem.batch_shape, dtype=bool)
    return Allocation(each, each, each, each, each, each, each, one, codes, one, one, solved)


def solve(problem: Problem, form: Reduced, todo: np.ndarray) -> Allocation:
    """Allocation of the problems that the mask `todo`, shape ``(...)``, selects; they must be feasible.

    `form` is the problem's reduced form, which the diagnosis has needed too. The other entries are void.
    """
    rows = todo.ravel()
    if not rows.any():
        return nothing(problem)
    part = form.rows(rows)
    cleared = clear(part)
    at = cleared.response
    rho_max = np.asarray(problem.devices.pruning_ratio_max).reshape(form.weight.shape)[rows]
    q = part.keep_ratio(at.s)
    # 1 - rho must not round above the q that bandwidth and power were made for.
    rho = np.where(1.0 - (1.0 - q) > q, np.nextafter(1.0 - q, 2.0), 1.0 - q)
    rho = np.select(
        [at.regime == Regime.FLOOR, at.regime == Regime.SATURATED], [rho_max, 0.0], np.clip(rho, 0.0, rho_max)
    )
    total = problem.cell.total_power_w
    watts = np.inf if total is None else np.asarray(total)[..., 0]
    priced = scatter(problem, rows, cleared.power_price)
    return Allocation(
        **invert(problem, rows, rho, at.b, at.p),
        regime=scatter(problem, rows, at.regime, missing=-1, dtype=np.int8),
        price_per_hz=scatter(problem, rows, cleared.price) / np.asarray(problem.cell.bandwidth_hz)[..., 0],
        # A cap of 0 W has no price.
        price_per_w=np.divide(priced, watts, out=np.zeros_like(priced), where=~(priced == 0.0)),
        solved=todo,
    )

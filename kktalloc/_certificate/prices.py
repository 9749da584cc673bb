"""Shadow prices: what one more unit of each budget would be worth.

Sign, once and for all: a price is >= 0 and is the *fall* of the objective per unit of its budget,
``price = -d(objective)/d(budget)``. Where a device sits at a kink or the bandwidth exactly suffices the objective
has two one-sided derivatives and the price lies between them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from kktalloc._certificate.clocked import Terms, terms
from kktalloc._certificate.dual import ConvexRows, Multipliers, convex_rows, dual_terms
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import Problem
from kktalloc._problem.shown import Rows, Shown, span, table


@dataclass(frozen=True, eq=False, repr=False)
class Prices(Shown):
    """Shadow prices, in objective per unit of the budget.

    Parameters
    ----------
    bandwidth_per_hz, deadline_per_s, total_power_per_w
        Of the cell's budgets, shape ``(...)``.
    energy_per_j, peak_power_per_w, bandwidth_max_per_hz
        Of each device's own, shape ``(..., K)``.
    clock_max, clock_min, circuit_power_per_w
        Fall of the objective per unit of the clock's upper end, and its rise per unit of the lower end and per W of
        circuit power, shape ``(..., K)``; None where no device of the problem has a clock or electronics.
    """

    bandwidth_per_hz: FloatArray
    deadline_per_s: FloatArray
    total_power_per_w: FloatArray
    energy_per_j: FloatArray
    peak_power_per_w: FloatArray
    bandwidth_max_per_hz: FloatArray
    clock_max: FloatArray | None = None
    clock_min: FloatArray | None = None
    circuit_power_per_w: FloatArray | None = None

    def _shown(self) -> tuple[str, Rows]:
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        arrays = {name: np.asarray(value) for name, value in named.items() if value is not None}
        cells = {name: value for name, value in arrays.items() if name in _OF_CELL}
        line = "fall of the objective per unit: " + ", ".join(f"{name} {span(value)}" for name, value in cells.items())
        own = {name: value for name, value in arrays.items() if name not in _OF_CELL}
        if cells["bandwidth_per_hz"].ndim:
            return line, ()
        return line, table("device", [str(k) for k in range(own["energy_per_j"].size)], own)


_OF_CELL = ("bandwidth_per_hz", "deadline_per_s", "total_power_per_w")


def prices(
    problem: Problem,
    rho: FloatArray,
    b: FloatArray,
    p: FloatArray,
    bandwidth_per_hz: FloatArray,
    per_w: FloatArray,
    clock: FloatArray | None = None,
) -> Prices:
    """All shadow prices of an optimal allocation from those of bandwidth and total power, by the envelope theorem."""
    if problem.clocked and clock is not None:
        return clock_prices(terms(problem, rho, b, p, clock, bandwidth_per_hz), bandwidth_per_hz, per_w)
    c = convex_rows(problem)
    lam, mu = np.asarray(bandwidth_per_hz)[..., None], np.asarray(per_w)[..., None]
    return prices_from(problem, c, dual_terms(c, b, p, c.u(1.0 - rho), lam, mu), rho, b, p, lam, mu)


def clock_prices(best: Terms, bandwidth_per_hz: FloatArray, per_w: FloatArray) -> Prices:
    """The same for devices with a clock, from their terms of the dual function."""
    limit = np.maximum(best.price - np.maximum(np.asarray(bandwidth_per_hz), 0.0)[..., None], 0.0)
    return Prices(
        np.asarray(bandwidth_per_hz), best.time.sum(axis=-1), np.asarray(per_w), best.energy, best.peak_power, limit,
        best.clock_max, best.clock_min, best.circuit_power,
    )  # fmt: skip


def prices_from(
    problem: Problem,
    c: ConvexRows,
    m: Multipliers,
    rho: FloatArray,
    b: FloatArray,
    p: FloatArray,
    lam: FloatArray,
    mu: FloatArray,
) -> Prices:
    """The same where rows and multipliers are known; `lam` and `mu` of shape ``(..., 1)``."""
    with np.errstate(all="ignore"):
        per_t = _per_time(c, rho)
        later = ((m.rate * c.carried(b, p) - m.energy_row * p) * per_t).sum(axis=-1)
        # E enters the energy row p <= eta (E (1 + a u) / T - eps u).
        energy = m.energy_row * np.asarray(problem.devices.pa_efficiency) * per_t
    return Prices(lam[..., 0], later, mu[..., 0], energy, m.peak_power, m.bandwidth_max)


def split_prices(problem: Problem, c: ConvexRows, m: Multipliers, rho: FloatArray) -> dict[str, FloatArray]:
    """What energy and peak power would cost if either alone limited power: where one of them is next to free, its price
    is what rounding leaves of the price of both.
    """
    with np.errstate(all="ignore"):
        per_w = m.energy_row + m.peak_power
        per_j = per_w * np.asarray(problem.devices.pa_efficiency) * _per_time(c, rho)
    return {"energy_per_j": per_j, "peak_power_per_w": per_w}


def _per_time(c: ConvexRows, rho: FloatArray) -> FloatArray:
    return (1.0 + c.compute * c.u(1.0 - rho)) / c.window

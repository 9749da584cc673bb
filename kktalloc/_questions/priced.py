"""Energy as a price, or as a budget that all devices share, beside the budgets of their own.

With a price w of each joule the objective is ``sum alpha e(rho) + w E``. For clocks that stand still, what a device
radiates is jointly convex in its bandwidth and what it keeps (`kktalloc._device.priced`), so that one price of
bandwidth answers all devices, and one of energy where they share a budget.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._certificate.certificate import Certificate
from kktalloc._certificate.kept import kept_bound
from kktalloc._certificate.priced import judge_priced
from kktalloc._device.clocked import Clocked, clocked_form
from kktalloc._device.priced import Paid, joules_per_heat, radiated
from kktalloc._device.reduced import invert, scatter
from kktalloc._device.roots import crossing
from kktalloc._engine.priced_engine import DEAREST, cleared
from kktalloc._problem.allocation import Allotment
from kktalloc._problem.arrays import FloatArray, first_wrong, speaks_arrays
from kktalloc._problem.problem import Problem
from kktalloc._problem.shown import Rows, Shown, span
from kktalloc._problem.stats import measured
from kktalloc._problem.tolerances import FEASIBLE, FILLED
from kktalloc._problem.variant import UNPROVED, refuse_total_power
from kktalloc._questions.cost import LeastCost, least_cost, weights
from kktalloc._questions.diagnosis import RESOURCES, Diagnosis, diagnose
from kktalloc._questions.export import device_table, headline
from kktalloc._questions.judgement import InfeasibleError, Judged, close
from kktalloc._questions.least import LeastEnergy, least_energy

NEXT_TO_NOTHING = 30.0  # logarithm: 1e-13 of the objective's range for all of a budget
APART = 1e-13  # relative, of a logarithm: prices on both sides of the one found, whose answers are as good


@dataclass(frozen=True, eq=False, repr=False)
class PricedSolution(Shown, Judged, Allotment):
    """An allocation that pays for energy. Device arrays have shape ``(..., K)``, the rest the batch shape.

    Entries of infeasible problems are NaN.

    Parameters
    ----------
    pruning_ratio, bandwidth_hz, tx_power_w, upload_s, latency_s, energy_j, clock
        As in `Solution`.
    objective
        ``sum alpha_k e(rho_k)``, without what the energy costs.
    cost
        The objective and ``sum energy_price_per_j E``.
    total_energy_j
        Energy of all devices together.
    bandwidth_price_per_hz
        Fall of the cost per Hz, >= 0.
    shared_price_per_j
        Fall of the cost per J of the budget that all devices share, >= 0; 0 where there is none or it is not used up.
    lower_bound
        What no allocation can beat, by convexity and weak duality at these prices.
    energy_price_per_j, shared_energy_j
        As asked, ``(..., K)`` and ``(...)``; an infinite budget for none.
    diagnosis
        For infeasible problems what is missing, else None.
    """

    problem: Problem
    objective: FloatArray
    cost: FloatArray
    total_energy_j: FloatArray
    bandwidth_price_per_hz: FloatArray
    shared_price_per_j: FloatArray
    lower_bound: FloatArray
    energy_price_per_j: FloatArray
    shared_energy_j: FloatArray
    diagnosis: Diagnosis | None

    @property
    def gap(self) -> FloatArray:
        """Cost minus its lower bound, shape ``(...)``; blurred by 1e-13 of what the budgets are worth."""
        return self.cost - self.lower_bound

    def _shown(self) -> tuple[str, Rows]:
        line = f"cost {span(self.cost)}, objective {span(self.objective)}, {span(self.total_energy_j)} J"
        return headline(self, line), device_table(self)

    @cached_property
    def certificate(self) -> Certificate:
        """The verdict on these arrays; `dataclasses.replace` has it found anew, writing into them does not."""
        return judge_priced(
            self.problem, self, self.energy_price_per_j, self.bandwidth_price_per_hz, self.cost, self.objective,
            self.shared_energy_j, self.shared_price_per_j,
            {"total_energy_j": self.total_energy_j, "lower_bound": self.lower_bound},
        )  # fmt: skip


@speaks_arrays
@measured
def solve_priced(
    problem: Problem,
    *,
    energy_price_per_j: ArrayLike = 0.0,
    shared_energy_j: ArrayLike | None = None,
    throw: bool = True,
) -> PricedSolution:
    """Least ``sum alpha_k e(rho_k) + energy_price_per_j E_k``, within a budget that all devices share if there is one.

    Exact for devices whose clock stands still: what is asked is jointly convex then. Their own budgets hold as well.

    Parameters
    ----------
    problem
        One problem or a batch.
    energy_price_per_j
        Objective per J that each device spends, >= 0, broadcast to ``(..., K)``.
    shared_energy_j
        Most energy that all devices together may spend, >= 0, shape ``(...)``; None for no such budget.
    throw
        Raise for infeasible problems; with False inspect ``diagnosis``.

    Raises
    ------
    ValueError
        A price or budget is out of range; a device has electronics or a choice of clock, with which the problem is not
        convex; or a cap on total power binds.
    InfeasibleError
        Some device cannot meet its floor, or together they need more bandwidth or shared energy than there is.
    UncertifiedError
        The verdict refuses the answer (numerically hopeless input).
    """
    _refuse(problem)
    per_j = weights("energy_price_per_j", energy_price_per_j, problem.shape)
    shared = np.full(problem.batch_shape, np.inf)
    if shared_energy_j is not None:
        shared = weights("shared_energy_j", shared_energy_j, problem.batch_shape)
    diagnosis = diagnose(problem)
    if shared_energy_j is not None and (diagnosis is None or not throw):
        diagnosis = _short_of_energy(problem, shared, diagnosis)
    if diagnosis is not None and throw:
        raise InfeasibleError(diagnosis)
    fine = np.ones(problem.sizes[0], dtype=bool) if diagnosis is None else diagnosis.feasible.ravel()
    form = clocked_form(problem).rows(fine)
    joules = joules_per_heat(problem)[fine]
    own, total = per_j.reshape(problem.sizes)[fine], shared.ravel()[fine]
    fixed_j = np.asarray(problem.devices.fixed_energy_j).reshape(problem.sizes)[fine]
    q, at, price, mu = _within_shared(form, own * joules, joules, np.maximum(total - fixed_j.sum(axis=1), 0.0))
    rho_max = np.asarray(problem.devices.pruning_ratio_max).reshape(problem.sizes)[fine]
    rho = np.clip(np.where(1.0 - (1.0 - q) > q, np.nextafter(1.0 - q, 2.0), 1.0 - q), 0.0, rho_max)
    found = invert(problem, fine, rho, at.b, at.p, at.clock)
    objective = found.pop("objective")
    allotment = Allotment(**found)
    refuse_total_power(problem, np.nansum(allotment.tx_power_w, axis=-1), "solve_priced", UNPROVED)
    per_hz = scatter(problem, fine, price) / np.asarray(problem.cell.bandwidth_hz)[..., 0]
    shared_price = scatter(problem, fine, mu)
    with np.errstate(all="ignore"):
        bound = kept_bound(problem, allotment, per_hz, per_j + shared_price[..., None])
        paid = np.where(shared_price > 0.0, shared_price * shared, 0.0)
        lower = bound.value.sum(axis=-1) - per_hz * np.asarray(problem.cell.bandwidth_hz)[..., 0] - paid
    answer = PricedSolution(
        **{f.name: getattr(allotment, f.name) for f in fields(Allotment)},
        problem=problem, objective=objective, cost=objective + (per_j * allotment.energy_j).sum(axis=-1),
        total_energy_j=allotment.energy_j.sum(axis=-1), bandwidth_price_per_hz=per_hz, shared_price_per_j=shared_price,
        lower_bound=lower, energy_price_per_j=per_j, shared_energy_j=shared, diagnosis=diagnosis,
    )  # fmt: skip
    return close(answer, throw)


def _within_shared(
    form: Clocked, worth: FloatArray, joules: FloatArray, shared_j: FloatArray
) -> tuple[FloatArray, Paid, FloatArray, FloatArray]:
    """Keep ratios, answers, the price of a cell of bandwidth, and that of a joule of the shared budget, 0 if spare."""
    q, at, price = cleared(form, worth)
    mu = np.zeros(price.size)
    rows = np.flatnonzero((at.energy * joules).sum(axis=1) > shared_j * (1.0 + FEASIBLE))
    if not rows.size:
        return q, at, price, mu
    some, unit, last, left = form.rows(rows), joules[rows], price[rows], shared_j[rows]

    def against_budget(energy_j: FloatArray, part: np.ndarray) -> FloatArray:
        nothing = np.where(energy_j > 0.0, np.inf, -np.inf)  # is all that may be spent
        with np.errstate(divide="ignore"):
            return np.where(left[part] > 0.0, np.log(energy_j) - np.log(np.maximum(left[part], 1e-300)), nothing)

    def spent(log_price: FloatArray, part: np.ndarray) -> FloatArray:
        dear = worth[rows[part]] + np.exp(log_price)[:, None] * unit[part]
        _, found, last[part] = cleared(some.rows(part), dear, last[part])
        return against_budget((found.energy * unit[part]).sum(axis=1), part)

    # A price of nothing would not tell the allocation that spends the least from those that are as good otherwise.
    zero = np.zeros(some.weight.shape)
    reach = (some.weight * (some.error.value(zero + 1.0) - some.error.value(zero))).sum(axis=1)
    spent_j = (at.energy[rows] * unit).sum(axis=1)
    start = np.log(np.clip(reach / np.maximum(np.where(left > 0.0, left, spent_j), 1e-290), 1e-290, 1e290))
    log_mu = crossing(spent, start, start - NEXT_TO_NOTHING, start + DEAREST).at
    apart = APART * np.maximum(1.0, np.abs(log_mu))
    # Where the answer jumps with the price, or its last digit moves it by more than the rounding of the budget, those
    # on both sides are as good, and by convexity so is what lies between: it takes the budget. So with the prices.
    dear, cheap = (np.exp(log_mu + side) for side in (apart, -apart))
    q_dear, at_dear, lam_dear = cleared(some, worth[rows] + dear[:, None] * unit, last)
    q_cheap, at_cheap, lam_cheap = cleared(some, worth[rows] + cheap[:, None] * unit, last)

    def kept_in(share: FloatArray, part: slice | np.ndarray = slice(None)) -> tuple[FloatArray, FloatArray]:
        to, others = share[:, None], 1.0 - share[:, None]
        return to * q_dear[part] + others * q_cheap[part], to * at_dear.b[part] + others * at_cheap.b[part]

    def left_over(share: FloatArray, part: np.ndarray) -> FloatArray:
        _, energy = radiated(some.rows(part), *kept_in(share, part))
        return against_budget((energy * unit[part]).sum(axis=1), part)

    share = crossing(left_over, np.full(rows.size, 0.5), 0.0, 1.0, FILLED, 0.0).at
    q[rows], at.b[rows] = kept_in(share)
    at.p[rows], at.energy[rows] = radiated(some, q[rows], at.b[rows])
    price[rows], mu[rows] = share * lam_dear + (1.0 - share) * lam_cheap, share * dear + (1.0 - share) * cheap
    return q, at, price, mu


def _short_of_energy(problem: Problem, shared_j: FloatArray, diagnosis: Diagnosis | None) -> Diagnosis | None:
    """The diagnosis, and which devices' floors together take more than the shared budget."""
    if problem.clocked:
        least: LeastCost | LeastEnergy = least_cost(problem, time_weight=0.0, throw=False)
    else:
        least = least_energy(problem, throw=False)
    short = least.total_energy_j > shared_j * (1.0 + FEASIBLE)  # NaN where floors can't be met anyway
    if not short.any():
        return diagnosis
    if diagnosis is None:
        diagnosis = Diagnosis(
            problem, np.ones(problem.batch_shape, dtype=bool), np.full(problem.shape, "", dtype=RESOURCES.dtype)
        )
    takes = short[..., None] & (least.energy_j > 0.0)
    return replace(
        diagnosis, feasible=diagnosis.feasible & ~short, resource=np.where(takes, "shared_energy", diagnosis.resource),
        shared_energy_j=shared_j, shared_energy_needed_j=np.where(short, least.total_energy_j, 0.0),
    )  # fmt: skip


def _refuse(problem: Problem) -> None:
    """Raise where the energy is not jointly convex in bandwidth and keep ratio."""
    if not problem.clocked:
        return
    d = problem.devices
    slow, fast = np.asarray(d.clock_min), np.asarray(d.clock_max)
    reasons = [
        f"{first_wrong(f'devices.{name}', np.asarray(getattr(d, name)), ~bad)}: energy has no price, {why}"
        for name, bad, why in (
            ("circuit_power_w", np.asarray(d.circuit_power_w) > 0.0, "with electronics the problem is not convex"),
            (
                "clock_max",
                fast > slow,
                "with a choice of clock nothing is known to be exact, clock_min must be the same",
            ),
        )
        if bad.any()
    ]
    if reasons:
        raise ValueError("; ".join(reasons))

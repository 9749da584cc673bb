"""Bits per value beside the pruning ratio: how coarsely should each device round what it keeps?

With v bits a value the payload is v over the unrounded bits, and rounding costs ``d(v)`` on what is kept, or on all.
For each number of bits a device is one of this package's own; at a price of bandwidth it takes the bits with the least
error and price together: the lower envelope of its offers. So one price answers all devices, and the value at it, by
weak duality, is below every choice of bits. What whole choices lose against it is at most one device's step from one
offer to the next, for at the price where the bandwidth is used up only who is just then indifferent may have to wait.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._certificate.certificate import Certificate
from kktalloc._certificate.clocked import terms
from kktalloc._device.clocked import clocked_form, least_bandwidth, most_kept
from kktalloc._device.reduced import invert
from kktalloc._device.roots import crossing
from kktalloc._engine.priced_engine import DEAREST, FREE, kept_at
from kktalloc._problem.arrays import FloatArray, as_float64, speaks_arrays
from kktalloc._problem.curves import Linear, Table
from kktalloc._problem.problem import Problem
from kktalloc._problem.shown import Rows, Shown, span
from kktalloc._problem.stats import measured
from kktalloc._problem.tolerances import FEASIBLE
from kktalloc._problem.variant import refuse_total_power, variant
from kktalloc._questions.diagnosis import Diagnosis, diagnose
from kktalloc._questions.export import device_table, headline
from kktalloc._questions.judgement import InfeasibleError, Judged, close
from kktalloc._questions.solution import Solution, solve


@dataclass(frozen=True, eq=False, repr=False)
class BitSolution(Shown, Judged):
    """An allocation with a number of bits for each device.

    Parameters
    ----------
    bits
        Bits per kept value, of those offered, shape ``(K,)``.
    objective
        ``sum alpha_k [e(rho_k) + (1 - rho_k) d(v_k)]``, or with ``+ d(v_k)`` where the error is on all values.
    lower_bound
        What no choice of bits can beat, by weak duality at one price of bandwidth.
    gap
        Objective minus that: at most what one device's step from an offer to the next is worth.
    solution
        The exact allocation at these bits, with all that a `Solution` has; its problem has their payloads and errors.
    diagnosis
        Where no choice of bits serves every device, what is missing at the fewest bits; else None.
    """

    problem: Problem
    bits: FloatArray
    full_bits: float
    objective: FloatArray
    lower_bound: FloatArray
    solution: Solution
    diagnosis: Diagnosis | None

    @property
    def gap(self) -> FloatArray:
        """Objective minus its lower bound."""
        return self.objective - self.lower_bound

    def _shown(self) -> tuple[str, Rows]:
        line = f"objective {span(self.objective)}, whole bits cost at most {span(self.gap)}"
        return headline(self, line), device_table(self.solution, bits=self.bits)

    @cached_property
    def certificate(self) -> Certificate:
        """The verdict on the allocation at these bits, and on whether it is one for them."""
        found = self.solution.certificate
        want = np.asarray(self.problem.devices.payload_bits) * np.asarray(self.bits) / self.full_bits
        off = np.max(np.abs(np.asarray(self.solution.problem.devices.payload_bits) / want - 1.0), initial=0.0)
        claimed = np.abs(np.asarray(self.objective) - np.asarray(self.solution.objective))
        beyond = np.maximum(np.asarray(self.lower_bound) - np.asarray(self.objective), 0.0)
        worst = np.maximum(found.residuals["consistency"], np.maximum(off, np.maximum(claimed, beyond)))
        return replace(found, residuals={**found.residuals, "consistency": np.where(np.isnan(worst), np.inf, worst)})


@speaks_arrays
@measured
def solve_bits(
    problem: Problem,
    bits: ArrayLike,
    rounding_error: ArrayLike,
    *,
    full_bits: float = 32.0,
    error_on: Literal["kept", "all"] = "kept",
    throw: bool = True,
) -> BitSolution:
    """Choose bits per value, pruning, bandwidth and power together; report what whole bits can have cost at most.

    At the bits chosen the allocation is exact. That the choice of bits is the best is proved to `gap`: it is at most
    one device's step, and vanishes as offers lie closer, which is the relaxation to real-valued bits. An error that
    would fall if more were pruned counts as its least: a device may drop more than it has to.

    Parameters
    ----------
    problem
        One problem, with `Linear` or `Table` errors; ``payload_bits`` is that of `full_bits` per value.
    bits
        What is offered, increasing, > 0, shape ``(n,)``; whole numbers or not.
    rounding_error
        ``d`` at each, >= 0 and non-increasing, in the unit of the pruning error: shape ``(n,)``, or ``(K, n)``.
    full_bits
        Bits per value of the payload that the problem tells.
    error_on
        Whether rounding costs on what is kept, or on all values, as in LTFL (arXiv 2507.09546).
    throw
        Raise for infeasible problems; with False inspect ``diagnosis``.

    Raises
    ------
    ValueError
        An argument is out of range, the problem is a batch, its curve is another, or a cap on total power binds.
    InfeasibleError
        Some device cannot meet its floor at the fewest bits, or together they need more bandwidth than there is.
    UncertifiedError
        The verdict refuses the answer (numerically hopeless input).
    """
    offers, rounding = _checked(problem, bits, rounding_error, full_bits, error_on)
    payload = np.asarray(problem.devices.payload_bits)
    curve = _rounded(problem, rounding, error_on)  # tables of shape (n, K, m)
    menu = variant(problem, curve, payload_bits=payload * offers[:, None] / full_bits)
    cheapest = variant(
        problem, _of(curve, np.zeros(payload.size, dtype=int)), payload_bits=payload * offers[0] / full_bits
    )
    diagnosis = diagnose(cheapest)
    if diagnosis is not None:
        if throw:
            raise InfeasibleError(diagnosis)
        nothing, none = np.full(payload.shape, np.nan), np.array(np.nan)
        return BitSolution(problem, nothing, full_bits, none, none, solve(cheapest, throw=False), diagnosis)
    chosen, lower = _one_price(menu)
    tried = []
    for pick in chosen:
        at = variant(problem, _of(curve, pick), payload_bits=payload * offers[pick] / full_bits)
        found = solve(at, throw=False)
        if found.diagnosis is None:
            tried.append((float(found.objective), pick, found))
    _, pick, found = min(tried, key=lambda one: one[0])
    refuse_total_power(problem, found.tx_power_w.sum(axis=-1), "solve_bits")
    answer = BitSolution(problem, offers[pick], float(full_bits), found.objective, lower, found, None)
    return close(answer, throw)


def _one_price(menu: Problem) -> tuple[list[np.ndarray], FloatArray]:
    """Choices on both sides of the price at which the bandwidth is used up, and the value there, which none beats."""
    # No device can have more than the cell: offers that would take more must not weaken the bound.
    B = float(np.asarray(menu.cell.bandwidth_hz).ravel()[0])
    menu = variant(menu, bandwidth_max_hz=np.minimum(np.asarray(menu.devices.bandwidth_max_hz), B))
    form = clocked_form(menu)
    every = np.arange(form.q_min.shape[1])
    with np.errstate(all="ignore"):
        floors = np.where(np.isfinite(least_bandwidth(form, form.q_min).b), form.q_min, np.nan)
    top = np.where(np.isnan(floors), form.q_min, most_kept(form, form.b_max))
    sides: dict[bool, np.ndarray] = {}

    def at(log_price: float) -> tuple[FloatArray, FloatArray, np.ndarray]:
        """Keep ratios and bandwidths of all offers, and which offer each device takes."""
        price = np.full(form.q_min.shape[0], np.exp(log_price))
        q = kept_at(form, price, np.zeros_like(form.q_min), form.q_min, top)
        b = least_bandwidth(form, q).b
        error = form.weight * form.error.value(1.0 - q)
        with np.errstate(invalid="ignore"):
            total = np.where(np.isfinite(b), error + price[:, None] * b, np.inf)
        return q, b, total.argmin(axis=0)

    def excess(log_price: FloatArray, part: np.ndarray) -> FloatArray:
        _, b, pick = at(float(log_price[0]))
        used = float(b[pick, every].sum())
        sides[used > 1.0 + FEASIBLE] = pick
        with np.errstate(divide="ignore"):
            return np.log(np.array([used]))

    log_price = float(crossing(excess, np.zeros(1), FREE, DEAREST).at[0])
    q, _, pick = at(log_price)
    sides[False] = pick
    per_hz = np.full(menu.batch_shape, np.exp(log_price) / B)
    point = least_bandwidth(form, q)
    served = np.isfinite(point.b)
    everyone = np.ones(form.q_min.shape[0], dtype=bool)
    found = invert(menu, everyone, 1.0 - q, np.where(served, point.b, 0.0), np.where(served, point.p, 0.0), point.clock)
    clock = np.where(served, found["clock"], np.asarray(menu.devices.clock_max))
    value = terms(menu, 1.0 - q, found["bandwidth_hz"], found["tx_power_w"], clock, per_hz).value
    least = np.where(served, value, np.inf).min(axis=0)
    return list(sides.values()), np.asarray(least.sum() - np.exp(log_price))


def _rounded(problem: Problem, rounding: FloatArray, error_on: str) -> Table:
    """The pruning error with the rounding of each offer, as tables of shape ``(n, K, m)``."""
    curve = problem.pruning_error
    if isinstance(curve, Linear):
        ratios, errors = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    else:
        assert isinstance(curve, Table)
        ratios, errors = np.asarray(curve.pruning_ratio), np.asarray(curve.error)
    d = rounding[:, :, None]
    shape = (*rounding.shape, ratios.shape[-1])
    added = np.broadcast_to(d if error_on == "all" else (1.0 - ratios) * d, shape)
    total = np.broadcast_to(errors, shape) + added
    falling = np.minimum.accumulate(total[..., ::-1], axis=-1)[..., ::-1]
    return Table(np.broadcast_to(ratios, shape), falling, getattr(curve, "hull", "minorant"))


def _of(curve: Table, pick: np.ndarray) -> Table:
    """The tables of the offers that devices have picked, shape ``(K, m)``."""
    every = np.arange(pick.size)
    return Table(np.asarray(curve.pruning_ratio)[pick, every], np.asarray(curve.error)[pick, every], curve.hull)


def _checked(
    problem: Problem, bits: ArrayLike, rounding_error: ArrayLike, full_bits: float, error_on: str
) -> tuple[FloatArray, FloatArray]:
    """Offers ``(n,)`` and rounding errors ``(n, K)``, or one line that says what is wrong."""
    if problem.batch_shape:
        raise ValueError(f"problem: solve_bits takes one problem, got a batch of {problem.batch_shape}")
    if error_on not in ("kept", "all"):
        raise ValueError(f"error_on = {error_on!r:.60}: one of 'kept', 'all'")
    if not isinstance(problem.pruning_error, Linear | Table):
        name = type(problem.pruning_error).__name__
        raise ValueError(f"pruning_error: solve_bits takes Linear and Table, got {name}; sample it as a Table")
    offers, rounding = as_float64("bits", bits), as_float64("rounding_error", rounding_error)
    full = as_float64("full_bits", full_bits)
    if offers.ndim != 1 or not offers.size or not (offers > 0.0).all() or not (np.diff(offers) > 0.0).all():
        raise ValueError("bits: must be increasing numbers > 0, shape (n,)")
    if full.ndim or not np.isfinite(full) or full <= 0.0:
        raise ValueError(f"full_bits = {full_bits!r:.60}: must be one number > 0")
    try:
        wide = np.broadcast_to(rounding, (*problem.shape, offers.size))
    except ValueError:
        raise ValueError(
            f"rounding_error: shape {rounding.shape} does not broadcast to {(*problem.shape, offers.size)}"
        ) from None
    if not (np.isfinite(wide) & (wide >= 0.0)).all() or not (np.diff(wide, axis=-1) <= 0.0).all():
        raise ValueError("rounding_error: must be >= 0, finite and non-increasing in the bits")
    return offers, np.ascontiguousarray(wide.T)

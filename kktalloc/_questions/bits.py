"""Bits per value beside the pruning ratio: how coarsely should each device round what it keeps?

With v bits a value the payload is v over the unrounded bits, and rounding costs ``d(v)`` on what is kept, or on all.
For each number of bits a device is one of this package's own; at a price of bandwidth it takes the bits with the least
error and price together: the lower envelope of its offers. So one price answers all devices, and the value at it, by
weak duality, is below every choice of bits. What whole choices lose against it is at most one device's step from one
offer to the next: at the price where the bandwidth is used up those who are just then indifferent change one after
the other, and only one of them may have to wait.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._certificate.certificate import Certificate
from kktalloc._certificate.clocked import terms
from kktalloc._device.reduced import invert
from kktalloc._device.roots import crossing
from kktalloc._engine import clock_engine, compiled_clocks
from kktalloc._engine.priced_engine import DEAREST, FREE
from kktalloc._problem.arguments import one_number
from kktalloc._problem.arrays import FloatArray, as_float64, first_wrong, speaks_arrays
from kktalloc._problem.curves import Linear, Table
from kktalloc._problem.problem import Problem
from kktalloc._problem.shown import Rows, Shown, span
from kktalloc._problem.stats import measured
from kktalloc._problem.tolerances import FEASIBLE
from kktalloc._problem.variant import WHOLE, refuse_total_power, variant
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
    bandwidth_price_per_hz
        The price of that bound; the allocation's own, at these bits, is ``solution.certificate``'s.
    menu
        The problem with every offer's payload and error, shape ``(n, K)``.
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
    bandwidth_price_per_hz: FloatArray
    menu: Problem
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
        """The verdict on the allocation at these bits, on whether it is one for them, and on the bound, found anew."""
        found = self.solution.certificate
        if self.diagnosis is not None:
            return found
        claimed, rho = np.asarray(self.objective), np.asarray(self.solution.pruning_ratio)
        want = np.asarray(self.problem.devices.payload_bits) * np.asarray(self.bits) / self.full_bits
        off = np.max(np.abs(np.asarray(self.solution.problem.devices.payload_bits) / want - 1.0), initial=0.0)
        pick = np.abs(np.asarray(self.menu.devices.payload_bits) - want).argmin(axis=0)
        curve = self.menu.pruning_error
        assert isinstance(curve, Table)
        error = float((np.asarray(self.problem.devices.weight) * _of(curve, pick).value(rho)).sum())
        bound = _bound(self.menu, np.asarray(self.bandwidth_price_per_hz))
        beyond = np.maximum(np.asarray(self.lower_bound) - np.minimum(bound, claimed), 0.0)
        worst = np.max([found.residuals["consistency"], off, np.abs(claimed - error), beyond])
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
        What is offered, increasing, > 0 and at most `full_bits`, shape ``(n,)``; whole numbers or not.
    rounding_error
        ``d`` at each, >= 0 and non-increasing, in the unit of the pruning error: shape ``(n,)`` for all devices alike,
        or ``(K, n)``. Where K is n, one row stands for the bits, not for the devices.
    full_bits
        Bits per value of the payload that the problem tells, > 0: what is not rounded.
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
    # No device can have more than the cell: offers that would take more must not weaken the bound.
    most = np.minimum(np.asarray(problem.devices.bandwidth_max_hz), np.asarray(problem.cell.bandwidth_hz))
    menu = variant(problem, curve, payload_bits=payload * offers[:, None] / full_bits, bandwidth_max_hz=most)
    cheapest = variant(
        problem, _of(curve, np.zeros(payload.size, dtype=int)), payload_bits=payload * offers[0] / full_bits
    )
    diagnosis = diagnose(cheapest)
    if diagnosis is not None:
        if throw:
            raise InfeasibleError(diagnosis)
        nothing, none = np.full(payload.shape, np.nan), np.array(np.nan)
        unsolved = solve(cheapest, throw=False)
        return BitSolution(problem, nothing, full_bits, none, none, none, menu, unsolved, diagnosis)
    per_hz, chosen = _one_price(menu)
    tried = []
    for pick in chosen:
        at = variant(problem, _of(curve, pick), payload_bits=payload * offers[pick] / full_bits)
        found = solve(at, throw=False)
        if found.diagnosis is None:
            tried.append((float(found.objective), pick, found))
    _, pick, found = min(tried, key=lambda one: one[0])
    refuse_total_power(problem, found.tx_power_w.sum(axis=-1), "solve_bits", WHOLE)
    answer = BitSolution(
        problem, offers[pick], float(full_bits), found.objective, _bound(menu, per_hz), per_hz, menu, found, None
    )
    return close(answer, throw)


@dataclass(frozen=True, eq=False)
class _Offers:
    """What each offer of each device is at a price of bandwidth; shape ``(n, K)``."""

    rho: FloatArray
    b: FloatArray  # in cells; inf where the offer does not serve the device
    p: FloatArray  # in peaks
    clock: FloatArray
    pick: np.ndarray  # the offer with the least error and price together, shape ``(K,)``


def _offered(menu: Problem, log_price: float) -> _Offers:
    """Offers at a price per cell of bandwidth."""
    found = compiled_clocks.kept(menu, log_price)
    rho, b, p, clock = clock_engine.kept(menu, log_price) if found is None else found
    error = np.asarray(menu.devices.weight) * menu.pruning_error.value(rho)
    with np.errstate(invalid="ignore"):
        total = np.where(np.isfinite(b), error + np.exp(log_price) * b, np.inf)
    return _Offers(rho, b, p, clock, total.argmin(axis=0))


def _one_price(menu: Problem) -> tuple[FloatArray, list[np.ndarray]]:
    """The price of a Hz at which the bandwidth is used up, and choices there."""
    every = np.arange(menu.shape[-1])
    taken: dict[bool, np.ndarray] = {}  # the last offers that did not fit the band, and that did

    def excess(log_price: FloatArray, part: np.ndarray) -> FloatArray:
        at = _offered(menu, float(log_price[0]))
        used = float(at.b[at.pick, every].sum())
        taken[used <= 1.0 + FEASIBLE] = at.pick
        with np.errstate(divide="ignore"):
            return np.log(np.array([used]))

    log_price = float(crossing(excess, np.zeros(1), FREE, DEAREST).at[0])
    at = _offered(menu, log_price)
    per_hz = np.asarray(np.exp(log_price) / _band_hz(menu))
    before = at.pick
    after = taken.get(False, before)
    # Who is indifferent at this price, which devices that are alike are together, changes one after the other as long
    # as there is bandwidth. The next one may do better yet with less of it than it would take.
    pick, left = before.copy(), 1.0 - at.b[before, every].sum()
    waiting = []
    for k in np.flatnonzero(before != after):
        more = at.b[after[k], k] - at.b[before[k], k]
        if more <= left:
            pick[k], left = after[k], left - more
        else:
            waiting.append(k)
    choices = [before, after, pick]
    if waiting:
        choices.append(np.where(every == waiting[0], after, pick))
    return per_hz, choices


def _band_hz(menu: Problem) -> float:
    return float(np.asarray(menu.cell.bandwidth_hz).ravel()[0])


def _bound(menu: Problem, per_hz: FloatArray) -> FloatArray:
    """What no choice of offers can beat: the least that error and bandwidth come to at a price, by weak duality."""
    B = _band_hz(menu)
    at = _offered(menu, float(np.log(per_hz * B)))
    served = np.isfinite(at.b)
    b, p = (np.where(served, v, 0.0) for v in (at.b, at.p))
    everyone = np.ones(menu.sizes[0], dtype=bool)
    found = invert(menu, everyone, at.rho, b, p, at.clock)
    clock = np.where(served, found["clock"], np.asarray(menu.devices.clock_max))
    value = terms(
        menu, at.rho, found["bandwidth_hz"], found["tx_power_w"], clock, np.full(menu.batch_shape, per_hz)
    ).value
    return np.asarray(np.where(served, value, np.inf).min(axis=0).sum() - per_hz * B)


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
    offers, rounding = (
        np.atleast_1d(as_float64(name, given)) for name, given in (("bits", bits), ("rounding_error", rounding_error))
    )
    full = one_number("full_bits", full_bits, 0.0, True)
    if offers.ndim != 1 or not offers.size:
        raise ValueError(f"bits: shape {offers.shape} instead of (n,), n >= 1")
    _require("bits", offers, np.isfinite(offers) & (offers > 0.0), "finite and > 0")
    _require("bits", offers, np.append(True, np.diff(offers) > 0.0), "greater than the one before it")
    # More than the values have is no rounding, and most likely full_bits is not what the payload was counted with.
    _require("bits", offers, offers <= full, f"at most full_bits = {full:g}")
    one, each = offers.shape, (*problem.shape, *offers.shape)
    if rounding.shape not in (one, each):
        raise ValueError(f"rounding_error: shape {rounding.shape}, must be {one}, one for each of bits, or {each}")
    _require("rounding_error", rounding, np.isfinite(rounding) & (rounding >= 0.0), "finite and >= 0")
    rising = np.diff(rounding, axis=-1, prepend=np.inf) > 0.0
    _require("rounding_error", rounding, ~rising, "no more than that of fewer bits")
    return offers, np.ascontiguousarray(np.broadcast_to(rounding, each).T)


def _require(name: str, values: FloatArray, ok: np.ndarray, what: str) -> None:
    """Raise one line that names the first value that is not ok."""
    if not ok.all():
        raise ValueError(f"{first_wrong(name, values, ok)}: must be {what}")

"""Fair pruning: the least worst weighted pruning ratio, ``min max_k w_k rho_k``.

A level t asks every device to keep ``q_k = 1 - t / w_k``, and the least bandwidth for that falls as t rises. The
optimal level is therefore the root of one monotone function, ``sum_k b_k(q_k(t)) = B``.

Duality proves it. For any theta >= 0 with sum 1, ``max_k w_k rho_k >= sum_k theta_k w_k rho_k``, and minimising the
right-hand side is the weighted-sum problem with weights ``theta_k w_k``, whose certificate bounds it from below. At
the optimum all devices at the level share one price of bandwidth, ``theta_k w_k dq_k/db_k = lambda``, hence

    theta_k = lambda / (w_k dq_k/db_k),      1 / lambda = sum_k 1 / (w_k dq_k/db_k) = -d(sum b)/dt.

A cap on total power enters as in `kktalloc._engine.clearing`: at a fixed ratio of the two prices the devices pay for
bandwidth and power out of one budget, of which each uses the least that its keep ratio takes. The level that this one
budget allows never exceeds that of both, and reaches it at the ratio at which the power just suffices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from kktalloc._certificate.certificate import Certificate, certify
from kktalloc._certificate.compiled import gap_of, judge
from kktalloc._device.at_bandwidth import EPS, bandwidth_for
from kktalloc._device.clocked import Point, clocked_form, least_bandwidth
from kktalloc._device.efficiency import efficiency_at_power_price
from kktalloc._device.feasibility import floor_power
from kktalloc._device.form import Reduced
from kktalloc._device.reduced import reduce, scatter
from kktalloc._device.roots import crossing
from kktalloc._engine.floors import Question, ask
from kktalloc._problem.arrays import FloatArray, speaks_arrays
from kktalloc._problem.curves import Linear
from kktalloc._problem.problem import Problem
from kktalloc._problem.shown import Rows, Shown, span
from kktalloc._problem.stats import measured
from kktalloc._problem.tolerances import FEASIBLE, FILLED, LEVEL, LOOSE_GAP
from kktalloc._problem.variant import variant
from kktalloc._questions.diagnosis import Diagnosis, diagnose
from kktalloc._questions.export import device_table, headline
from kktalloc._questions.judgement import InfeasibleError, Judged, asked_again, close
from kktalloc._questions.solution import Solution, solve

_LINEAR = Linear()
RATIO_SPAN = 80.0  # how far from 1 the logarithm of the ratio of the prices is searched


@dataclass(frozen=True, eq=False, repr=False)
class MinMaxSolution(Shown, Judged):
    """A fair allocation. Device arrays have shape ``(..., K)``, the rest the batch shape; NaN where infeasible.

    Parameters
    ----------
    solution
        The allocation: the optimum of the problem in which no device may prune beyond the level. Where the level uses
        up the budgets it is the only one; what cannot lower the level lowers the weighted mean instead.
        Its prices and regimes are those of that problem, not of the level.
    level
        ``max_k w_k rho_k``.
    multiplier
        theta_k: how much of the level each device carries, >= 0, sum 1.
    bandwidth_price_per_hz
        Fall of the level per Hz, >= 0.
    total_power_price_per_w
        Fall of the level per W of the cap on total power, >= 0.
    lower_bound
        What no allocation can beat, from the certificate of the weighted-sum problem with weights ``theta_k w_k``.
    """

    solution: Solution
    level: FloatArray
    multiplier: FloatArray
    bandwidth_price_per_hz: FloatArray
    total_power_price_per_w: FloatArray
    lower_bound: FloatArray

    def _shown(self) -> tuple[str, Rows]:
        line = headline(self, f"level {span(self.level)}")
        one = not self.problem.batch_shape
        return line, device_table(self.solution, **{"carries": self.multiplier} if one else {})

    @property
    def gap(self) -> FloatArray:
        """Level minus its lower bound, shape ``(...)``."""
        return self.level - self.lower_bound

    @property
    def problem(self) -> Problem:  # type: ignore[override]
        """That of the solution, whose floors are at the level."""
        return self.solution.problem

    @property
    def diagnosis(self) -> Diagnosis | None:  # type: ignore[override]
        """For infeasible problems what is missing, else None."""
        return self.solution.diagnosis

    @cached_property
    def certificate(self) -> Certificate:
        """The verdict on the allocation, and on the level: that no ratio is beyond it, and how close its bound is."""
        inner, level = self.solution.certificate, np.asarray(self.level)
        weight = np.asarray(self.problem.of_devices("weight")) * self.problem.shape[-1]
        with np.errstate(all="ignore"):
            reached = (weight * np.asarray(self.solution.pruning_ratio)).max(axis=-1, initial=0.0)
            span = np.maximum(weight.max(axis=-1, initial=0.0), 1e-300)
            beyond = np.where(np.isnan(level), np.inf, np.maximum(reached - level, 0.0) / span)
            gap = (level - np.asarray(self.lower_bound)) / span
            worth = np.asarray(self.bandwidth_price_per_hz) * self.problem.of_cell("bandwidth_hz") / span
        residuals = inner.residuals | {"consistency": np.maximum(inner.residuals["consistency"], beyond)}
        prices = np.asarray(self.bandwidth_price_per_hz), np.asarray(self.total_power_price_per_w)
        resolution = np.maximum(inner.resolution, 8.0 * EPS * (1.0 + worth))
        return Certificate(residuals, np.where(np.isnan(gap), np.inf, gap), *prices, resolution, inner.tolerance)


@speaks_arrays
@measured
@asked_again
def solve_minmax(problem: Problem, throw: bool = True) -> MinMaxSolution:
    """Minimise the worst weighted pruning ratio, ``max_k w_k rho_k``.

    ``w_k = K alpha_k``: the device's aggregation weight relative to a uniform one. With uniform weights this is
    ``max_k rho_k``, so all devices prune alike, but those that prune less because nothing limits them or because
    their own ``pruning_ratio_max`` is tighter; a device of twice the weight is pruned half as much. The pruning-error
    curve of the problem plays no part in the level.

    Parameters
    ----------
    problem
        One problem or a batch.
    throw
        Raise for infeasible problems; with False inspect ``solution.diagnosis``.

    Raises
    ------
    ValueError
        A cap on total power binds, and devices have a clock or electronics: names all of them.
    InfeasibleError
        Some device cannot meet its floor, or together they need more bandwidth or power than there is.
    """
    found = _by_kernel(problem)
    if found is None:
        diagnosis = diagnose(problem)
        if diagnosis is not None and throw:
            raise InfeasibleError(diagnosis)
        fine = np.ones(problem.sizes[0], dtype=bool) if diagnosis is None else diagnosis.feasible.ravel()
        found = _with_clocks(problem, fine) if problem.clocked else _by_kernel(problem, fine)
        found = _by_numpy(problem, fine) if found is None else found
    rho, theta, level, price, ratio, bound = found
    solution = solve(variant(problem, pruning_ratio_max=rho), throw=False)
    per_hz = price / problem.of_cell("bandwidth_hz")
    per_w = 0.0 * level  # NaN where there is none
    if problem.capped:
        watts = np.asarray(problem.of_cell("total_power_w"))
        per_w = price * ratio / np.where(watts > 0.0, watts, np.inf)  # a cap of 0 W has no price
    if bound is None or np.isnan(bound).any():
        bound = _lower_bound(problem, solution, theta, per_hz, per_w)
        # Where everybody keeps everything no device carries the level, and it cannot be below 0.
        bound = np.where(level > 0.0, bound, level)
    return close(MinMaxSolution(solution, level, theta, per_hz, per_w, bound), throw)


# The most that devices prune at the level, in [0, 1] also where there is none, and theta, shape ``(..., K)``; the
# level, its fall per cell of bandwidth, the ratio of the prices, cap over cell, and, where it is known, the lower
# bound of the level, NaN where the prices must be looked at again, shape ``(...)``.
_Found = tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray, FloatArray | None]


def _by_kernel(problem: Problem, fine: np.ndarray | None = None) -> _Found | None:
    """The compiled search, or None where it does not serve or does not end.

    Without the flat mask of feasible problems, None also where one is not.
    """
    asked = ask(problem, Question.LEVEL)
    if asked is None:
        return None
    of_problem, of_device = asked
    levels = of_problem[0] if fine is None else of_problem[0, fine]
    if np.isnan(levels).any():
        return None
    if fine is not None:
        of_problem, of_device = (np.where(m, v, np.nan) for m, v in ((fine, of_problem), (fine[:, None], of_device)))
    level, price, ratio, bound = of_problem.reshape(-1, *problem.batch_shape)
    rho, theta = of_device[:2].reshape(2, *problem.shape)
    return rho if fine is None else np.nan_to_num(rho), theta, level, price, ratio, bound


def _by_numpy(problem: Problem, fine: np.ndarray) -> _Found:
    """The same by NumPy, for the problems that the flat mask `fine` selects."""
    part = reduce(problem).rows(fine)
    weight = part.weight * part.weight.shape[1]
    level, ratio = _level_and_ratio(part, weight)
    rho, level = _fitting(problem, fine, level, lambda level: _asked(part, weight, level))
    theta, price = _multipliers(part, weight, level, ratio)
    theta, level, price, ratio = (scatter(problem, fine, values) for values in (theta, level, price, ratio))
    return rho, theta, level, price, ratio, None


def _with_clocks(problem: Problem, fine: np.ndarray) -> _Found:
    """The same for devices with a clock and electronics; a cap on total power must not bind, which `solve` looks at."""
    part = clocked_form(problem).rows(fine)
    weight = part.weight * part.weight.shape[1]

    def at_level(level: FloatArray, some: slice | np.ndarray = slice(None)) -> tuple[FloatArray, Point]:
        with np.errstate(all="ignore"):
            q = np.fmax(1.0 - level[:, None] / weight[some], part.q_min[some])
        return q, least_bandwidth(part.rows(some), q)

    def excess(level: FloatArray, some: np.ndarray) -> FloatArray:
        at = at_level(level, some)[1]
        with np.errstate(divide="ignore"):
            return np.log(np.where(at.b > part.b_max[some], np.inf, at.b).sum(axis=1))

    most = np.max(weight * (1.0 - part.q_min), axis=1, initial=0.0)
    level = crossing(excess, np.zeros(most.size), 0.0, most, LEVEL, 0.0).at
    rho, level = _fitting(problem, fine, level, lambda level: at_level(level)[0])
    q, at = at_level(level)
    pressed = (q > part.q_min) & (at.slope > 0.0) & (level[:, None] > 0.0)
    with np.errstate(all="ignore"):
        carried = np.where(pressed, at.slope / weight, 0.0)
        # A device that can keep no more, whatever the bandwidth, may hold the level up: then it carries all of it.
        held = (weight * (1.0 - q) >= level[:, None] * (1.0 - 1e-12)) & (level[:, None] > 0.0)
        beyond = least_bandwidth(part, np.minimum(q * (1.0 + 1e-9) + 1e-12, 1.0)).b
        stuck = held & ~(beyond <= np.minimum(part.b_max, 1.0))
        idle = (at.b.sum(axis=1) < 1.0 - 1e-9) & stuck.any(axis=1)
        total = np.where(idle[:, None], stuck, carried).sum(axis=1)
        theta = np.where(total[:, None] > 0.0, np.where(idle[:, None], stuck, carried) / total[:, None], 0.0)
        price = np.where(idle | (total == 0.0), 0.0, 1.0 / total)
    found = (scatter(problem, fine, values) for values in (theta, level, price, np.zeros(level.shape)))
    theta, level, price, ratio = found
    return rho, theta, level, price, ratio, None


def _fitting(
    problem: Problem, fine: np.ndarray, level: FloatArray, asked: Callable[[FloatArray], FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """What devices may prune at the level, shape ``(..., K)``, and the level, with the last bits that they may need.

    The search ends next to the level, and 1 - rho rounds.
    """
    for step in 2.0 ** np.arange(-52, -16):
        rho = np.nan_to_num(scatter(problem, fine, 1.0 - asked(level)))
        missing = diagnose(variant(problem, pruning_ratio_max=rho))
        if missing is None or missing.feasible.ravel()[fine].all():
            break
        level = np.where(missing.feasible.ravel()[fine], level, level * (1.0 + step))
    return rho, level


def _level_and_ratio(form: Reduced, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Least level that both budgets allow, and the ratio of their prices (cap over cell), shape ``(N,)``."""
    ratio = np.zeros(weight.shape[0])
    level = _level(form, weight, ratio)
    rows = np.flatnonzero(floor_power(_floored(form, weight, level)) > 1.0 + 0.1 * FEASIBLE)
    if rows.size:
        some, heavy = form.rows(rows), weight[rows]

        def excess(log_ratio: FloatArray, part: np.ndarray) -> FloatArray:
            here, few, w = np.exp(log_ratio), some.rows(part), heavy[part]
            at = _at_level(few, w, _level(few, w, here, FILLED, FILLED), here)
            return np.log((few.power_share * at.p).sum(axis=1))

        ratio[rows] = np.exp(crossing(excess, np.zeros(rows.size), -RATIO_SPAN, RATIO_SPAN).at)
        level[rows] = _level(some, heavy, ratio[rows])
    return level, ratio


def _floored(form: Reduced, weight: FloatArray, level: FloatArray) -> Reduced:
    """The form with the keep ratios that the level asks for as floors."""
    q = _asked(form, weight, level)
    room = 1.0 - form.compute * q
    return replace(form, q_min=q, s_min=q / np.where(room > 0.0, room, 1.0), late=form.late | (room <= 0.0))


def _asked(form: Reduced, weight: FloatArray, level: FloatArray) -> FloatArray:
    """What devices must keep at the level, shape ``(N, K)``."""
    with np.errstate(all="ignore"):
        return np.fmax(1.0 - level[:, None] / weight, form.q_min)  # NaN for a device of no weight at level 0


def _level(
    form: Reduced, weight: FloatArray, ratio: FloatArray, closed: float = LEVEL, width: float = 0.0
) -> FloatArray:
    """Least level that fits the budget ``1 + ratio``, shape ``(N,)``: Newton on the log of the use, in a bracket."""
    most = np.max(weight * (1.0 - form.q_min), axis=1, initial=0.0)

    def excess(level: FloatArray, part: np.ndarray) -> FloatArray:
        with np.errstate(divide="ignore"):
            used = _at_level(form.rows(part), weight[part], level, ratio[part]).use.sum(axis=1)
            return np.log(used / (1.0 + ratio[part]))

    return crossing(excess, np.zeros(most.size), 0.0, most, closed, width).at


@dataclass(frozen=True, eq=False)
class _AtLevel:
    """What the level takes at a price ratio, shape ``(N, K)``; in cells and peaks."""

    b: FloatArray
    p: FloatArray
    use: FloatArray  # b + ratio power_share p, the least that will do
    carried: FloatArray  # -d(use)/d(level): 1 / (w dq/d(use)), 0 where the level decides nothing


def _at_level(form: Reduced, weight: FloatArray, level: FloatArray, ratio: FloatArray) -> _AtLevel:
    q = _asked(form, weight, level)
    b, slope = bandwidth_for(form, q)  # at the most power: right where power is free, or the rate needs it
    with np.errstate(all="ignore"):
        s = q / (1.0 - form.compute * q)
        ds_dq, rate, limit = (1.0 + form.compute * s) ** 2, form.rate0 + form.rate1 * s, form.power_limit(s)
        power_cost = ratio[:, None] * form.power_share
        y = efficiency_at_power_price(np.where(power_cost > 0.0, form.snr / power_cost, np.inf))
        y = np.maximum(y, rate / form.b_max)
        frugal = b * y < rate
        b = np.where(frugal, rate / y, b)
        p = np.where(frugal, b * np.expm1(y) / form.snr, np.where(rate > 0.0, limit, 0.0))
        use = b + power_cost * p
        fall = 1.0 / slope + power_cost * np.where(limit < 1.0, form.power1, 0.0) * ds_dq
        at_own = y <= rate / form.b_max  # all the bandwidth that it can use: more rate takes power alone
        steeper = power_cost * form.rate1 * np.exp(y) / form.snr
        fall = np.where(frugal, np.where(at_own, steeper, use / rate * form.rate1) * ds_dq, fall)
        pressed = (q > form.q_min) & (slope > 0.0)
        return _AtLevel(b, p, use, np.where(pressed, fall / weight, 0.0))


def _multipliers(
    form: Reduced, weight: FloatArray, level: FloatArray, ratio: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """theta, shape ``(N, K)``, and the fall of the level per cell of bandwidth, ``(N,)``."""
    at = _at_level(form, weight, level, ratio)
    # A device that can keep no more, whatever the bandwidth, may hold the level up: then it carries all of it.
    carried = np.where(level[:, None] > 0.0, at.carried, 0.0)
    most = form.keep_ratio(np.where(np.isfinite(form.s_max), form.s_max, 0.0))
    most = np.where(np.isfinite(form.s_max), most, 1.0)
    stuck = weight * (1.0 - most) >= level[:, None] * (1.0 - 1e-12)
    idle = (level > 0.0) & stuck.any(axis=1) & (at.use.sum(axis=1) < (1.0 + ratio) * (1.0 - 1e-9))
    carried = np.where(idle[:, None], stuck, carried)
    total = carried.sum(axis=1)
    with np.errstate(all="ignore"):
        theta = np.where(total[:, None] > 0.0, carried / total[:, None], 0.0)
        return theta, np.where(idle | (total == 0.0), 0.0, 1.0 / total)


def _lower_bound(
    problem: Problem, solution: Solution, theta: FloatArray, per_hz: FloatArray, per_w: FloatArray
) -> FloatArray:
    """Dual bound of the problem with weights ``theta_k w_k``, in units of the level; shape ``(...)``."""
    pressed = theta * np.asarray(problem.devices.weight) * problem.shape[-1]
    total = pressed.sum(axis=-1)
    usable = total > 0.0  # neither NaN, of no solution, nor 0
    every = usable.all()
    if not every:
        pressed = np.where(usable[..., None], pressed, 1.0)
        total, per_hz, per_w = (np.where(usable, v, w) for v, w in ((total, 1.0), (per_hz, 0.0), (per_w, 0.0)))
    linear = variant(problem, _LINEAR, weight=pressed)
    allocation = solution.pruning_ratio, solution.bandwidth_hz, solution.tx_power_w
    per_hz, per_w = np.asarray(per_hz / total), np.asarray(per_w / total)
    with np.errstate(all="ignore"):
        verdict = judge(linear, *allocation, per_hz, per_w, {})
        if verdict is not None:
            gap = gap_of(verdict)
        else:
            found = certify(linear, *allocation, bandwidth_price_per_hz=per_hz, total_power_price_per_w=per_w)
            gap = found.duality_gap
        if (gap > LOOSE_GAP).any():
            # Next to the wideband limit the price hangs on the last digits of the bandwidth: take the allocation's own.
            gap = np.fmin(gap, certify(linear, *allocation).duality_gap)
        reached = (np.asarray(linear.devices.weight) * solution.pruning_ratio).sum(axis=-1)
        bound = total * (reached - gap)
        return np.asarray(bound if every else np.where(usable, bound, np.nan))

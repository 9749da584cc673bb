"""Fair pruning: the least worst weighted pruning ratio, ``min max_k w_k rho_k``.

A level t asks every device to keep ``q_k = 1 - t / w_k``, and the least bandwidth for that falls as t rises. The
optimal level is therefore the root of one monotone function, ``sum_k b_k(q_k(t)) = B``.

Duality proves it. For any theta >= 0 with sum 1, ``max_k w_k rho_k >= sum_k theta_k w_k rho_k``, and minimising the
right-hand side is the weighted-sum problem with weights ``theta_k w_k``, whose certificate bounds it from below. At
the optimum all devices at the level share one price of bandwidth, ``theta_k w_k dq_k/db_k = lambda``, hence

    theta_k = lambda / (w_k dq_k/db_k),      1 / lambda = sum_k 1 / (w_k dq_k/db_k) = -d(sum b)/dt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kktalloc._arrays import speaks_arrays
from kktalloc._at_bandwidth import bandwidth_for
from kktalloc._certificate import certify
from kktalloc._diagnosis import ROUNDING, diagnose
from kktalloc._problem import FloatArray, Problem
from kktalloc._pruning_error import Linear
from kktalloc._reduced import Reduced, reduce
from kktalloc._solution import InfeasibleError, Solution, solve
from kktalloc._variant import refuse_total_power, variant

LEVEL_ITERATIONS = 200


@dataclass(frozen=True, eq=False)
class MinMaxSolution:
    """A fair allocation. Device arrays have shape ``(..., K)``, the rest the batch shape; NaN where infeasible.

    Parameters
    ----------
    solution
        The allocation: the optimum of the problem in which no device may prune beyond the level. Where the level uses
        up the bandwidth it is the only one; bandwidth that cannot lower the level lowers the weighted mean instead.
    level
        ``max_k w_k rho_k``.
    multiplier
        theta_k: how much of the level each device carries, >= 0, sum 1.
    bandwidth_price_per_hz
        Fall of the level per Hz, >= 0.
    lower_bound
        What no allocation can beat, from the certificate of the weighted-sum problem with weights ``theta_k w_k``.
    """

    solution: Solution
    level: FloatArray
    multiplier: FloatArray
    bandwidth_price_per_hz: FloatArray
    lower_bound: FloatArray

    @property
    def gap(self) -> FloatArray:
        """Level minus its lower bound, shape ``(...)``."""
        return self.level - self.lower_bound


@speaks_arrays
def solve_minmax(problem: Problem, throw: bool = True) -> MinMaxSolution:
    """Minimise the worst weighted pruning ratio, ``max_k w_k rho_k``.

    ``w_k = K alpha_k``: the device's aggregation weight relative to a uniform one. With uniform weights this is
    ``max_k rho_k``, so all devices prune alike, but those that prune less because nothing limits them or because
    their own ``pruning_ratio_max`` is tighter; a device of twice the weight is pruned half as much. The pruning-error
    curve of the problem plays no part in the level.

    Parameters
    ----------
    problem
        One problem or a batch, without a total-power cap that could bind.
    throw
        Raise for infeasible problems; with False inspect ``solution.diagnosis``.

    Raises
    ------
    InfeasibleError
        Some device cannot meet its floor, or together they need more bandwidth than there is.
    ValueError
        If a total-power cap could bind.
    """
    refuse_total_power(problem, "solve_minmax")
    form, batch = reduce(problem), problem.batch_shape
    diagnosis = diagnose(problem, form)
    if diagnosis is not None and throw:
        raise InfeasibleError(diagnosis)
    fine = np.ones(form.weight.shape[0], dtype=bool) if diagnosis is None else diagnosis.feasible.ravel()
    part = form.rows(fine)
    weight = part.weight * part.weight.shape[1]
    level = _level(part, weight)
    share, price = _multipliers(part, weight, level)

    def full(values: FloatArray) -> FloatArray:
        out = np.full((fine.size, *values.shape[1:]), np.nan)
        out[fine] = values
        return out.reshape((*batch, *values.shape[1:]))

    worst = np.where(weight > 0.0, level[:, None] / np.where(weight > 0.0, weight, 1.0), 1.0)
    rho_max = np.nan_to_num(full(np.minimum(worst, 1.0 - part.q_min)))
    solution = solve(variant(problem, pruning_ratio_max=rho_max), throw=False)
    theta, level = full(share), full(level)
    price = full(price) / np.broadcast_to(np.asarray(problem.cell.bandwidth_hz)[..., 0], batch)
    bound = _lower_bound(problem, solution, theta, price)
    # Where everybody keeps everything no device carries the level, and it cannot be below 0.
    return MinMaxSolution(solution, level, theta, price, np.where(level > 0.0, bound, level))


def _level(form: Reduced, weight: FloatArray) -> FloatArray:
    """Least level whose keep ratios fit the bandwidth, shape ``(N,)``: Newton on ``ln sum b``, kept in a bracket."""
    low, high = np.zeros(weight.shape[0]), np.max(weight * (1.0 - form.q_min), axis=1, initial=0.0)
    level = low
    before = np.full(low.shape, np.inf)
    for _ in range(LEVEL_ITERATIONS):
        total, fall = _total(form, weight, level)
        fits = total <= 1.0 + 0.1 * ROUNDING
        low, high = np.where(fits, low, level), np.where(fits, level, high)
        with np.errstate(all="ignore"):
            error = np.log(total)
            newton = level + error * total / fall
        middle = 0.5 * (low + high)
        halved = np.abs(error) <= 0.5 * before
        before = np.abs(error)
        moved = np.where((newton > low) & (newton < high) & halved, newton, middle)
        done = (before <= 1e-14) | ~((moved > low) & (moved < high)) | (fits & (level == 0.0))
        if done.all():
            break
        level = np.where(done, level, moved)
    return high


def _total(form: Reduced, weight: FloatArray, level: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Bandwidth (in cells) that the level takes, and how fast it falls with the level; shape ``(N,)``."""
    b, carried = _carried(form, weight, level)
    return b.sum(axis=1), carried.sum(axis=1)


def _carried(form: Reduced, weight: FloatArray, level: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Bandwidth of each device at the level, and ``1 / (w dq/db)`` of those whose pruning the level decides."""
    with np.errstate(all="ignore"):
        asked = 1.0 - level[:, None] / weight
        pressed = asked > form.q_min  # False for a device of no weight
        b, slope = bandwidth_for(form, np.where(pressed, asked, form.q_min))
        return b, np.where(pressed & (slope > 0.0), 1.0 / (weight * slope), 0.0)


def _multipliers(form: Reduced, weight: FloatArray, level: FloatArray) -> tuple[FloatArray, FloatArray]:
    """theta, shape ``(N, K)``, and the fall of the level per cell of bandwidth, ``(N,)``."""
    b, carried = _carried(form, weight, level)
    # A device that can send nothing holds the level up with bandwidth to spare: it carries all of it.
    carried = np.where(level[:, None] > 0.0, carried, 0.0)
    mute = (form.s_max <= form.s_min) & (weight * (1.0 - form.q_min) >= level[:, None] * (1.0 - 1e-12))
    idle = (level > 0.0) & mute.any(axis=1) & (b.sum(axis=1) < 1.0 - 1e-9)
    carried = np.where(idle[:, None], mute, carried)
    total = carried.sum(axis=1)
    with np.errstate(all="ignore"):
        theta = np.where(total[:, None] > 0.0, carried / total[:, None], 0.0)
        return theta, np.where(idle | (total == 0.0), 0.0, 1.0 / total)


def _lower_bound(problem: Problem, solution: Solution, theta: FloatArray, price: FloatArray) -> FloatArray:
    """Dual bound of the problem with weights ``theta_k w_k``, in units of the level; shape ``(...)``."""
    pressed = np.nan_to_num(theta * np.asarray(problem.devices.weight) * problem.shape[-1])
    total = pressed.sum(axis=-1)
    usable = total > 0.0
    weights = np.where(usable[..., None], pressed, 1.0)
    linear = variant(problem, Linear(), weight=weights)
    with np.errstate(all="ignore"):
        judged = certify(
            linear, solution.pruning_ratio, solution.bandwidth_hz, solution.tx_power_w,
            bandwidth_price_per_hz=np.nan_to_num(price / np.where(usable, total, 1.0)),
        )  # fmt: skip
        reached = (np.asarray(linear.devices.weight) * solution.pruning_ratio).sum(axis=-1)
        return np.where(usable, total * (reached - judged.duality_gap), np.nan)

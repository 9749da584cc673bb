"""The engine for devices with a clock and electronics: one price of bandwidth, each device a convex least bandwidth.

At a price lambda a device keeps the q with ``lambda B'(q) = alpha e'(1 - q)``; both sides are monotone. The more
bandwidth costs the less each keeps, so that the price at which the cell is filled is again a root of a falling
function. Brackets are kept: what a device keeps at a price between two lies between what it keeps at those.
"""

from __future__ import annotations

import numpy as np

from kktalloc._device.clocked import Clocked, clocked_form, least_bandwidth, most_kept, rising_root
from kktalloc._device.reduced import invert, scatter
from kktalloc._device.roots import crossing
from kktalloc._problem.allocation import Allocation
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import Problem
from kktalloc._problem.regime import Regime
from kktalloc._problem.stats import enter
from kktalloc._problem.tolerances import FEASIBLE, FILLED

FREE = -800.0  # the logarithm of a price that is 0
DEAREST = 800.0


def solve(problem: Problem, form: Clocked, todo: np.ndarray) -> Allocation:
    """Allocation of the problems that the mask `todo`, shape ``(...)``, selects; they must be feasible.

    The other entries are void.
    """
    flat = todo.ravel()
    part = form.rows(flat)
    q, price = _cleared(part)
    rho_max = np.asarray(problem.devices.pruning_ratio_max).reshape(form.weight.shape)[flat]
    rho = np.clip(np.where(1.0 - (1.0 - q) > q, np.nextafter(1.0 - q, 2.0), 1.0 - q), 0.0, rho_max)
    at = least_bandwidth(part, 1.0 - rho)
    regime = np.select(
        [rho >= rho_max, rho <= 0.0, at.b >= part.b_max * (1.0 - FEASIBLE)],
        [Regime.FLOOR, Regime.SATURATED, Regime.BANDWIDTH_MAX],
        at.regime,
    )
    return Allocation(
        **invert(problem, flat, rho, np.minimum(at.b, part.b_max), at.p, at.clock),
        regime=scatter(problem, flat, regime, missing=-1, dtype=np.int8),
        price_per_hz=scatter(problem, flat, price) / np.asarray(problem.cell.bandwidth_hz)[..., 0],
        price_per_w=np.where(todo, 0.0, np.nan),
        solved=todo,
    )


def _cleared(form: Clocked) -> tuple[FloatArray, FloatArray]:
    """Keep ratios, shape ``(N, K)``, that fill the bandwidth, and its price, ``(N,)``; 0 where some is to spare."""
    N = form.weight.shape[0]
    top = most_kept(form, np.minimum(form.b_max, 2.0))
    price, kept = np.zeros(N), top.copy()
    rows = np.flatnonzero(least_bandwidth(form, top).b.sum(axis=1) > 1.0 + FEASIBLE)
    if not rows.size:
        return kept, price
    some, floor = form.rows(rows), form.q_min[rows]
    # What devices keep at the cheapest price that is known to be too dear, and at the dearest that is too cheap.
    less, more = floor.copy(), top[rows]

    def excess(log_price: FloatArray, part: np.ndarray) -> FloatArray:
        few = some.rows(part)
        q = _kept_at(few, log_price, less[part], more[part])
        total = least_bandwidth(few, q).b.sum(axis=1)
        cheap = total > 1.0
        more[part[cheap]], less[part[~cheap]] = q[cheap], q[~cheap]
        with np.errstate(divide="ignore"):
            return np.log(total)

    root = crossing(excess, _guess(some, floor, top[rows]), FREE, DEAREST)

    # Where the answer jumps with the price, those on both sides are as good, and so is what lies between.
    def left_over(share: FloatArray, part: np.ndarray) -> FloatArray:
        few = less[part] + (1.0 - share[:, None]) * (more[part] - less[part])
        with np.errstate(divide="ignore"):
            return np.log(least_bandwidth(some.rows(part), few).b.sum(axis=1))

    share = crossing(left_over, np.full(rows.size, 0.5), 0.0, 1.0, FILLED, 0.0).at
    kept[rows], price[rows] = less + (1.0 - share[:, None]) * (more - less), np.exp(root.at)
    return kept, price


def kept(problem: Problem, log_price: float) -> FloatArray:
    """What devices keep at a price per cell of bandwidth, and how, shape ``(4, N, K)``.

    Pruning ratio, least bandwidth in cells, power in peaks and clock; the bandwidth is infinite where none serves a
    device's floor.
    """
    form = clocked_form(problem)
    enter("numpy", form.weight.shape[0])
    served = least_bandwidth(form, form.q_min).b < form.b_max
    top = np.where(served, most_kept(form, form.b_max), form.q_min)
    q = _kept_at(form, np.full(form.weight.shape[0], log_price), form.q_min, top)
    # A keep ratio that its pruning ratio does not tell from 0 sends nothing.
    q = np.where((1.0 - q == 1.0) & (form.rate0 == 0.0), 0.0, q)
    at = least_bandwidth(form, q)
    return np.stack([1.0 - q, at.b, at.p, at.clock])


def _kept_at(form: Clocked, log_price: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """What devices keep at prices of shape ``(N,)``, between `low` and `high`."""

    clock: FloatArray | None = None

    def too_much(q: FloatArray) -> FloatArray:
        nonlocal clock
        at = least_bandwidth(form, q, clock)
        clock = at.clock
        with np.errstate(divide="ignore", invalid="ignore"):
            worth = np.log(form.weight * form.error.slope(1.0 - q))
            gain = log_price[:, None] + np.log(at.slope) - worth
        return np.where(np.isnan(gain), 0.0, gain)

    return rising_root(too_much, low, high)


def _guess(form: Clocked, low: FloatArray, high: FloatArray) -> FloatArray:
    """A log price from what bandwidth is worth to the devices half way between their bounds."""
    q = 0.5 * (low + high)
    with np.errstate(divide="ignore", invalid="ignore"):
        worth = np.log(form.weight * form.error.slope(1.0 - q)) - np.log(least_bandwidth(form, q).slope)
    known = np.isfinite(worth) & (high > low)
    mean = np.where(known, worth, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.clip(mean, FREE, DEAREST)

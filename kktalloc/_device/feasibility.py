"""Whether devices can be served: the floors, alone and together, and the least bandwidth, power and time for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._device.at_price import bandwidth_at, floor_load, power_at
from kktalloc._device.efficiency import efficiency_at_power_price, efficiency_for
from kktalloc._device.reduced import Reduced, reduce
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import Problem
from kktalloc._problem.variant import at_level

# Floors that fill the bandwidth to within rounding count as feasible: `bandwidth_needed_hz` must do when it is given.
ROUNDING = 1e-12


def floor_power(form: Reduced) -> FloatArray:
    """Least total power, in caps and shape ``(N,)``, that serves the floors within the bandwidth; 0 without a cap.

    The price ratio that spends the whole bandwidth on saving power; its devices send at min(y*, y_floor).
    """
    watts = np.zeros(form.weight.shape[0])
    rows = np.flatnonzero((form.power_share > 0.0).any(axis=1) & (floor_bandwidth(form).sum(axis=1) <= 1.0 + ROUNDING))
    if not rows.size:
        return watts
    some = form.rows(rows)
    rate = some.rate0 + some.rate1 * some.s_min
    limit = efficiency_for(floor_load(some))

    def efficiency(log_ratio: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.minimum(
                limit, efficiency_at_power_price(some.snr / (np.exp(log_ratio)[:, None] * some.power_share))
            )

    low, high = np.full(rows.size, -200.0), np.full(rows.size, 200.0)
    for _ in range(80):
        middle = 0.5 * (low + high)
        with np.errstate(divide="ignore", invalid="ignore"):
            fits = np.where(rate > 0.0, rate / efficiency(middle), 0.0).sum(axis=1) <= 1.0
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    power = np.minimum(power_at(some, some.s_min, efficiency(low)), some.power_limit(some.s_min))
    watts[rows] = (some.power_share * power).sum(axis=1)
    return watts


def least_cells(form: Reduced) -> FloatArray:
    """Least bandwidth that serves the floors, in cells and shape ``(N,)``; ``inf`` where none does."""
    cells = floor_bandwidth(form).sum(axis=1)
    if not (form.power_share > 0.0).any():
        return cells
    # Bandwidth that just carries the floors at full power may need more power than the cell allows.
    finite = np.isfinite(cells) & (cells > 0.0)
    scale = np.where(finite, cells, 1.0)
    tight = replace(form, **{n: getattr(form, n) / scale[:, None] for n in ("rate0", "rate1", "snr")})
    dark = finite & (floor_power(tight) > 1.0 + ROUNDING)
    return cells * _bandwidth_under_cap(tight, dark) if dark.any() else cells


def _bandwidth_under_cap(form: Reduced, rows: np.ndarray) -> FloatArray:
    """Least bandwidth, in cells and shape ``(N,)``, with which the floors of `rows` meet the power cap; else 1."""
    low, high = np.zeros(rows.size), np.full(rows.size, 80.0)

    def fits(log_more: FloatArray) -> np.ndarray:
        more = np.exp(log_more)[:, None]
        wider = replace(form, rate0=form.rate0 / more, rate1=form.rate1 / more, snr=form.snr / more)
        return floor_power(wider) <= 1.0 + ROUNDING

    possible = rows & fits(high)
    for _ in range(60):
        if not possible.any():
            break
        middle = 0.5 * (low + high)
        enough = fits(middle)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.select([possible, rows], [np.exp(high), np.inf], 1.0)


def floor_bandwidth(form: Reduced) -> FloatArray:
    """Least bandwidth of each device at its floor, in cells; ``inf`` where none suffices."""
    theta = floor_load(form)
    power = form.power_limit(form.s_min)
    b = np.where(theta > 0.0, bandwidth_at(form, power, efficiency_for(theta)), 0.0)
    return np.where(form.late | form.drained | ~(theta < 1.0), np.inf, b)


def whole_blocks(floors: FloatArray, block: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Floors (in cells, ``(N, K)``) in whole blocks, and how many blocks of size `block` ``(N,)`` the cell holds.

    Rounding must not cost a block: a bandwidth or a floor of k blocks is k blocks.
    """
    return np.ceil(floors / block[:, None] * (1.0 - ROUNDING)), np.floor(1.0 / block * (1.0 + ROUNDING))


def least_deadline(
    problem: Problem, pruning_ratio: ArrayLike | None = None, *, block_hz: ArrayLike | None = None
) -> FloatArray:
    """Least deadline at which every device can meet its floor, shape ``(...)``; ``inf`` where none exists.

    With ``pruning_ratio = 0`` this is the shortest round of training without pruning, with the bandwidth shared
    as well as it can be. The bandwidth that the floors need falls monotonically with time, so bisection is exact.

    Parameters
    ----------
    problem
        One problem or a batch; its own deadline does not matter.
    pruning_ratio
        The most that devices may prune, in [0, 1], broadcast to ``(..., K)``; default their ``pruning_ratio_max``.
    block_hz
        Share the bandwidth in whole blocks of this size, shape ``(...)``.
    """
    problem = at_level(problem, pruning_ratio)
    d = problem.devices
    q_min = 1.0 - np.asarray(d.pruning_ratio_max)
    busy = np.asarray(d.fixed_latency_s) + np.asarray(d.pruned_compute_s) * q_min
    earliest = np.max(busy, axis=-1, initial=0.0)
    unit = np.asarray(problem.cell.deadline_s)[..., 0]
    block = None if block_hz is None else (np.asarray(block_hz) / np.asarray(problem.cell.bandwidth_hz)[..., 0]).ravel()

    def enough(wait: FloatArray) -> np.ndarray:
        form = reduce(problem, deadline_s=(earliest + wait)[..., None])
        floors = floor_bandwidth(form)
        if block is None:
            fits = (floors.sum(axis=1) <= 1.0 + ROUNDING) & (floor_power(form) <= 1.0 + ROUNDING)
        else:
            blocks, limit = whole_blocks(floors, block)
            fits = blocks.sum(axis=1) <= limit
        return fits.reshape(problem.batch_shape)

    # log of the time after the longest computation, in deadlines, from below rounding to beyond any use
    low, high = np.full(problem.batch_shape, -80.0), np.full(problem.batch_shape, 300.0)
    at_once, possible = enough(unit * np.exp(low)), enough(unit * np.exp(high))
    for _ in range(60):
        middle = 0.5 * (low + high)
        fits = enough(unit * np.exp(middle))
        low, high = np.where(fits, low, middle), np.where(fits, middle, high)
    # Who sends nothing needs no time beyond the computation.
    return np.select([at_once, possible], [earliest, earliest + unit * np.exp(high)], np.inf)

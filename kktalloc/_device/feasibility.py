"""Whether devices can be served: the floors together, and the least bandwidth, power and time for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._device.clocked import Clocked, clocked_form, floor_bandwidths
from kktalloc._device.efficiency import efficiency_at_power_price, efficiency_for
from kktalloc._device.form import Reduced
from kktalloc._device.link import floor_bandwidth, floor_load, least_efficiency, power_at
from kktalloc._device.reduced import reduce
from kktalloc._device.roots import crossing
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import Problem
from kktalloc._problem.tolerances import FEASIBLE, FILLED
from kktalloc._problem.variant import at_level, rows

Form = TypeVar("Form", Reduced, Clocked)


def floor_power(form: Reduced, floors: FloatArray | None = None) -> FloatArray:
    """Least total power, in caps and shape ``(N,)``, that serves the floors within the bandwidth; 0 without a cap.

    The price ratio that spends the whole bandwidth on saving power; its devices send at min(y*, y_floor). `floors` are
    those of `floor_bandwidth` where they are known.
    """
    watts = np.zeros(form.weight.shape[0])
    if not (form.power_share > 0.0).any():
        return watts
    floors = floor_bandwidth(form) if floors is None else floors
    some = np.flatnonzero((form.power_share > 0.0).any(axis=1) & (floors.sum(axis=1) <= 1.0 + FEASIBLE))
    if some.size:
        _, power, _ = sparing(form.rows(some))
        watts[some] = (form.power_share[some] * power).sum(axis=1)
    return watts


def sparing(form: Reduced) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Bandwidths and powers, shape ``(N, K)``, that serve the floors within the bandwidth with the least power.

    The third array is the price of the whole total power over that of the whole bandwidth, shape ``(N,)``.
    """
    rate = form.rate0 + form.rate1 * form.s_min
    most, own = efficiency_for(floor_load(form)), least_efficiency(form, form.s_min)

    def efficiency(log_ratio: FloatArray, part: slice | np.ndarray = slice(None)) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            free = efficiency_at_power_price(form.snr[part] / (np.exp(log_ratio)[:, None] * form.power_share[part]))
            return np.minimum(most[part], np.maximum(free, own[part]))

    def excess(less: FloatArray, part: np.ndarray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            used = np.where(rate[part] > 0.0, rate[part] / efficiency(-less, part), 0.0)
            return np.log(used.sum(axis=1))

    # The dearer power is, the more bandwidth is used: the unknown is how much less it costs.
    log_ratio = -crossing(excess, np.zeros(rate.shape[0]), -200.0, 200.0).at
    y = efficiency(log_ratio)
    power = np.minimum(power_at(form, form.s_min, y), form.power_limit(form.s_min))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(rate > 0.0, rate / y, 0.0), power, np.exp(log_ratio)


def wider(form: Reduced, factor: FloatArray) -> Reduced:
    """The same with `factor` times the bandwidth, shape ``(N, 1)``."""
    return replace(form, **{name: getattr(form, name) / factor for name in ("rate0", "rate1", "snr", "b_max")})


def least_cells(form: Reduced, floors: FloatArray | None = None) -> FloatArray:
    """Least bandwidth that serves the floors, in cells and shape ``(N,)``; ``inf`` where none does."""
    floors = floor_bandwidth(form) if floors is None else floors
    cells = floors.sum(axis=1)
    if not (form.power_share > 0.0).any():
        return cells
    # Bandwidth that just carries the floors at full power may need more power than the cell allows. The floors are
    # handed on: found anew in other units they may by rounding no longer fit.
    finite = np.isfinite(cells) & (cells > 0.0)
    unit = np.where(finite, cells, 1.0)[:, None]
    tight, share = wider(form, unit), floors / unit
    short = np.flatnonzero(finite & (floor_power(tight, share) > 1.0 + FEASIBLE))
    if short.size:
        some = tight.rows(short)

        def excess(log_more: FloatArray, part: np.ndarray) -> FloatArray:
            more = np.exp(log_more)[:, None]
            return floor_power(wider(some.rows(part), more), share[short[part]] / more) - (1.0 + 0.5 * FEASIBLE)

        root = crossing(excess, np.full(short.size, 0.5), 0.0, 80.0)
        cells[short] = np.where(root.found, cells[short] * np.exp(root.at), np.inf)
    return cells


def whole_blocks(form: Reduced | Clocked, block: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Least blocks and most blocks of each device, ``(N, K)``, and how many of size `block` ``(N,)`` the cell holds.

    Rounding must not cost a block: a bandwidth or a floor of k blocks is k blocks. The least is infinite where the most
    that the device can use is less.
    """
    floors = floor_bandwidths(form) if isinstance(form, Clocked) else floor_bandwidth(form)
    need = np.ceil(floors / block[:, None] * (1.0 - FEASIBLE))
    most = np.floor(form.b_max / block[:, None] * (1.0 + FEASIBLE))
    return np.where(need > most, np.inf, need), most, np.floor(1.0 / block * (1.0 + FEASIBLE))


def least_deadline(
    problem: Problem, pruning_ratio: ArrayLike | None = None, *, block_hz: ArrayLike | None = None
) -> FloatArray:
    """Least deadline at which every device can meet its floor, shape ``(...)``; ``inf`` where none exists.

    With ``pruning_ratio = 0`` this is the shortest round of training without pruning, with the bandwidth shared
    as well as it can be. The bandwidth that the floors need falls monotonically with time: a bracketed search for
    where it fills the cell.

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
    count = int(np.prod(problem.batch_shape))
    flat = rows(problem, np.ones(count, dtype=bool)) if problem.batch_shape else problem
    d = flat.devices
    busy = np.asarray(d.fixed_latency_s) + np.asarray(d.pruned_compute_s) * (1.0 - np.asarray(d.pruning_ratio_max))
    if problem.clocked:
        work = busy - np.asarray(d.fixed_latency_s) + np.asarray(d.fixed_compute_s)
        busy = np.asarray(d.fixed_latency_s) + work / np.asarray(d.clock_max)
    earliest = np.max(busy, axis=-1, initial=0.0).reshape(count)
    unit = np.asarray(flat.cell.deadline_s)[..., 0].reshape(count)
    block = None if block_hz is None else (np.asarray(block_hz) / np.asarray(problem.cell.bandwidth_hz)[..., 0]).ravel()
    kept = np.arange(count), flat  # the problems that are still searched for

    def form_at(log_wait: FloatArray, some: np.ndarray, form: Callable[..., Form]) -> Form:
        nonlocal kept
        if some.size < kept[0].size:
            kept = some, rows(flat, np.isin(np.arange(count), some))
        wait = unit[some] * np.exp(log_wait)
        deadline = (earliest[some] + wait)[:, None]
        return form(kept[1], deadline_s=deadline if kept[1].batch_shape else deadline[0])

    def excess(log_wait: FloatArray, some: np.ndarray) -> FloatArray:
        if problem.clocked:
            least = floor_bandwidths(form_at(log_wait, some, clocked_form))
            if block is None:
                with np.errstate(divide="ignore"):
                    return np.asarray(np.log(least.sum(axis=1)) - 0.5 * FEASIBLE)
            counts, held = (
                np.ceil(least / block[some, None] * (1.0 - FEASIBLE)),
                np.floor((1.0 + FEASIBLE) / block[some]),
            )
            return np.where(counts.sum(axis=1) <= held, -1.0, 1.0)
        form = form_at(log_wait, some, reduce)
        if block is not None:
            need, _, held = whole_blocks(form, block[some])
            return np.asarray(np.where(need.sum(axis=1) <= held, -1.0, 1.0))
        floors = floor_bandwidth(form)
        with np.errstate(divide="ignore"):
            # Half of what counts as feasible is left to the end of the search.
            cells = np.log(floors.sum(axis=1)) - 0.5 * FEASIBLE
            if not problem.capped:
                return np.asarray(cells)
            watts = np.log(floor_power(form, floors)) - 0.5 * FEASIBLE
        return np.asarray(np.where(cells > FILLED, cells, np.maximum(cells, watts)))

    # The logarithm of the time after the longest computation, in deadlines, from below rounding to beyond any use.
    own = unit - earliest
    start = np.log(np.where(own > 0.0, own / unit, 0.1))
    root = crossing(excess, start, -80.0, 300.0)
    # Who sends nothing needs no time beyond the computation.
    wait = np.where(root.at <= -80.0, 0.0, unit * np.exp(root.at))
    return np.asarray(np.where(root.found, earliest + wait, np.inf)).reshape(problem.batch_shape)

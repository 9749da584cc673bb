"""Infeasibility: which devices, which resource, and how much more of it would do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._efficiency import efficiency_at_power_price, efficiency_for
from kktalloc._problem import FloatArray, Problem
from kktalloc._reduced import Reduced, reduce
from kktalloc._response import bandwidth_at, floor_load, power_at
from kktalloc._variant import at_level

# Floors that fill the bandwidth to within rounding count as feasible: `bandwidth_needed_hz` must do when it is given.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Why problems have no solution; shapes ``(...)`` and ``(..., K)``.

    Parameters
    ----------
    feasible
        Which problems of the batch have a solution after all.
    resource
        Per device, shape ``(..., K)``: what it lacks to meet its floor; ``"deadline"``, ``"energy"``, ``"peak_power"``
        by itself, ``"bandwidth"`` or ``"total_power"`` where all could be served alone but not together, ``""`` where
        nothing.
    bandwidth_needed_hz
        Least cell bandwidth that would do, shape ``(...)``; ``inf`` where none would.
    total_power_needed_w
        Least total power that would do with the bandwidth there is, shape ``(...)``. 0 where there is no cap on it, and
        where another resource is lacking, so that no total power would do.

    The least deadline that would do, ``deadline_needed_s``, takes a search; it is made when asked for.
    """

    problem: Problem
    feasible: np.ndarray
    resource: np.ndarray
    bandwidth_needed_hz: FloatArray
    total_power_needed_w: FloatArray

    @property
    def devices(self) -> np.ndarray:
        """Which devices lack something, shape ``(..., K)``."""
        return self.resource != ""

    @cached_property
    def deadline_needed_s(self) -> FloatArray:
        """Least deadline that would do, shape ``(...)``; ``inf`` where none would."""
        return least_deadline(self.problem)

    @cached_property
    def message(self) -> str:
        """One line about the first infeasible problem."""
        where_not = np.argwhere(~self.feasible)
        index = tuple(int(i) for i in where_not[0])
        lacking = self.resource[index]
        parts = []
        for resource, text in _TEXT.items():
            which = np.flatnonzero(lacking == resource)
            if which.size:
                names = ", ".join(map(str, which[:5])) + (f" and {which.size - 5} more" if which.size > 5 else "")
                verb = text if which.size > 1 else text.replace("need", "needs").replace(" together", "")
                parts.append(f"device{'s' if which.size > 1 else ''} {names} {verb} ({resource})")
        others = f" (and {len(where_not) - 1} more of {self.feasible.size})" if len(where_not) > 1 else ""
        where = f"problem {list(index)}{others}: " if index else ""
        cell = self.problem.cell
        have = float(np.asarray(cell.bandwidth_hz)[index][0]), float(np.asarray(cell.deadline_s)[index][0])
        bandwidth, deadline = float(self.bandwidth_needed_hz[index]), float(self.deadline_needed_s[index])
        more = [
            f"bandwidth_hz {_rounded_up(bandwidth)} instead of {have[0]:.6g}" if np.isfinite(bandwidth) else "",
            f"deadline_s {_rounded_up(deadline)} instead of {have[1]:.6g}" if np.isfinite(deadline) else "",
        ]
        if (lacking == "total_power").any():
            watts = float(self.total_power_needed_w[index])
            cap = float(np.asarray(cell.total_power_w)[index][0])
            more.append(f"total_power_w {_rounded_up(watts)} instead of {cap:.6g}")
        would_do = " or ".join(m for m in more if m) or "no bandwidth and no deadline"
        return f"infeasible: {where}{'; '.join(parts)}; {would_do} would do"


_TEXT = {
    "deadline": "cannot finish the least computation in time",
    "energy": "cannot send the least payload within the energy budget",
    "peak_power": "cannot reach the least rate at peak power, whatever the bandwidth",
    "bandwidth": "need more bandwidth together than the cell has",
    "total_power": "need more power together than the cell allows",
}


def _rounded_up(amount: float) -> str:
    """To 6 digits and never less than the amount: what a message says would do has to do."""
    shown = f"{amount:.6g}"
    return shown if float(shown) >= amount else f"{amount + 10.0 ** (np.floor(np.log10(amount)) - 5):.6g}"


def diagnose(problem: Problem, form: Reduced) -> Diagnosis | None:
    """What makes problems infeasible, or None if every problem has a solution."""
    floors, watts = floor_bandwidth(form), floor_power(form)
    total = floors.sum(axis=1)
    alone = np.isinf(floors)
    crowded = (total > 1.0 + ROUNDING) & ~alone.any(axis=1)
    dark = (watts > 1.0 + ROUNDING) & ~crowded & ~alone.any(axis=1)
    if not (alone.any() or crowded.any() or dark.any()):
        return None
    rate = form.rate0 + form.rate1 * form.s_min
    with np.errstate(divide="ignore", invalid="ignore"):
        energy = form.drained | ((form.power_limit(form.s_min) < 1.0) & (rate < form.snr))
    sends = floors > 0.0
    resource = np.select(
        [form.late, alone & energy, alone, crowded[:, None] & sends, dark[:, None] & sends],
        ["deadline", "energy", "peak_power", "bandwidth", "total_power"],
        "",
    )
    batch = problem.batch_shape
    feasible = ~(alone.any(axis=1) | crowded | dark)
    needed = least_cells(form) * np.broadcast_to(np.asarray(problem.cell.bandwidth_hz)[..., 0], batch).ravel()
    cap = np.inf if problem.cell.total_power_w is None else np.asarray(problem.cell.total_power_w)[..., 0]
    with np.errstate(invalid="ignore"):
        watts_needed = np.where(watts > 0.0, watts * np.broadcast_to(cap, batch).ravel(), 0.0)
    return Diagnosis(
        problem,
        feasible.reshape(batch),
        resource.reshape(problem.shape),
        needed.reshape(batch),
        watts_needed.reshape(batch),
    )


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

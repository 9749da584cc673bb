"""Infeasibility: which devices, which resource, and how much more of it would do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kktalloc._efficiency import efficiency_for
from kktalloc._kkt import bandwidth_at, floor_load
from kktalloc._problem import FloatArray, Problem
from kktalloc._reduced import Reduced, reduce

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
        by itself, ``"bandwidth"`` where all could be served alone but not together, ``""`` where nothing.
    bandwidth_needed_hz
        Least cell bandwidth that would do, shape ``(...)``; ``inf`` where none would.
    """

    problem: Problem
    feasible: np.ndarray
    resource: np.ndarray
    bandwidth_needed_hz: FloatArray

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
        index = tuple(int(i) for i in np.argwhere(~self.feasible)[0])
        lacking = self.resource[index]
        parts = []
        for resource, text in _TEXT.items():
            which = np.flatnonzero(lacking == resource)
            if which.size:
                names = ", ".join(map(str, which[:5])) + (f" and {which.size - 5} more" if which.size > 5 else "")
                parts.append(f"device{'s' if which.size > 1 else ''} {names} {text} ({resource})")
        where = f"problem {list(index)}: " if index else ""
        cell = self.problem.cell
        have = float(np.asarray(cell.bandwidth_hz)[index][0]), float(np.asarray(cell.deadline_s)[index][0])
        bandwidth, deadline = float(self.bandwidth_needed_hz[index]), float(self.deadline_needed_s[index])
        more = [
            f"bandwidth_hz {bandwidth:.6g} instead of {have[0]:.6g}" if np.isfinite(bandwidth) else "",
            f"deadline_s {deadline:.6g} instead of {have[1]:.6g}" if np.isfinite(deadline) else "",
        ]
        would_do = " or ".join(m for m in more if m) or "no bandwidth and no deadline"
        return f"infeasible: {where}{'; '.join(parts)}; {would_do} would do"


_TEXT = {
    "deadline": "cannot finish the least computation in time",
    "energy": "cannot send the least payload within the energy budget",
    "peak_power": "cannot reach the least rate at peak power, whatever the bandwidth",
    "bandwidth": "need more bandwidth together than the cell has",
}


def diagnose(problem: Problem, form: Reduced) -> Diagnosis | None:
    """What makes problems infeasible, or None if every problem has a solution."""
    floors = floor_bandwidth(form)
    total = floors.sum(axis=1)
    alone = np.isinf(floors)
    crowded = (total > 1.0 + ROUNDING) & ~alone.any(axis=1)
    if not (alone.any() or crowded.any()):
        return None
    rate = form.rate0 + form.rate1 * form.s_min
    with np.errstate(divide="ignore", invalid="ignore"):
        energy = form.drained | ((form.power_limit(form.s_min) < 1.0) & (rate < form.snr))
    resource = np.select(
        [form.late, alone & energy, alone, crowded[:, None] & (floors > 0.0)],
        ["deadline", "energy", "peak_power", "bandwidth"],
        "",
    )
    batch = problem.batch_shape
    feasible = ~(alone.any(axis=1) | crowded)
    needed = total * np.broadcast_to(np.asarray(problem.cell.bandwidth_hz)[..., 0], batch).ravel()
    return Diagnosis(problem, feasible.reshape(batch), resource.reshape(problem.shape), needed.reshape(batch))


def floor_bandwidth(form: Reduced) -> FloatArray:
    """Least bandwidth of each device at its floor, in cells; ``inf`` where none suffices."""
    theta = floor_load(form)
    power = form.power_limit(form.s_min)
    b = np.where(theta > 0.0, bandwidth_at(form, power, efficiency_for(theta)), 0.0)
    return np.where(form.late | form.drained | ~(theta < 1.0), np.inf, b)


def least_deadline(problem: Problem) -> FloatArray:
    """Least deadline at which every device can meet its floor, shape ``(...)``; ``inf`` where none exists.

    With ``pruning_ratio_max = 0`` this is the shortest round of training without pruning, with the bandwidth shared
    as well as it can be. The bandwidth that the floors need falls monotonically with time, so bisection is exact.
    """
    d = problem.devices
    q_min = 1.0 - np.asarray(d.pruning_ratio_max)
    busy = np.asarray(d.fixed_latency_s) + np.asarray(d.pruned_compute_s) * q_min
    earliest = np.max(busy, axis=-1, initial=0.0)
    unit = np.asarray(problem.cell.deadline_s)[..., 0]

    def enough(wait: FloatArray) -> np.ndarray:
        form = reduce(problem, deadline_s=(earliest + wait)[..., None])
        return (floor_bandwidth(form).sum(axis=1) <= 1.0 + ROUNDING).reshape(problem.batch_shape)

    # log of the time after the longest computation, in deadlines, from below rounding to beyond any use
    low, high = np.full(problem.batch_shape, -80.0), np.full(problem.batch_shape, 300.0)
    possible = enough(unit * np.exp(high))
    for _ in range(60):
        middle = 0.5 * (low + high)
        fits = enough(unit * np.exp(middle))
        low, high = np.where(fits, low, middle), np.where(fits, middle, high)
    return np.where(possible, earliest + unit * np.exp(high), np.inf)

"""Infeasibility: which devices, which resource, and how much more of it would do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kktalloc._device.feasibility import ROUNDING, floor_bandwidth, floor_power, least_cells, least_deadline
from kktalloc._device.reduced import Reduced
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import Problem


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

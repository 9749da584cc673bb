"""Infeasibility: which devices, which resource, and how much more of it would do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from kktalloc._device.clocked import clocked_form, floor_bandwidths
from kktalloc._device.feasibility import floor_power, least_cells, least_deadline
from kktalloc._device.form import Reduced
from kktalloc._device.link import floor_bandwidth
from kktalloc._device.reduced import reduce
from kktalloc._engine.floors import Question, ask
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import Problem
from kktalloc._problem.shown import Rows, Shown, table
from kktalloc._problem.tolerances import FEASIBLE


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis(Shown):
    """Why problems have no solution; shapes ``(...)`` and ``(..., K)``.

    Parameters
    ----------
    feasible
        Which problems of the batch have a solution after all.
    resource
        Per device, shape ``(..., K)``: what it lacks to meet its floor; ``"deadline"``, ``"energy"``, ``"peak_power"``,
        ``"bandwidth_max"`` by itself, ``"bandwidth"`` or ``"total_power"`` where all could be served alone but not
        together, ``"shared_energy"`` where the energy that all share is less than their floors take, ``""`` where
        nothing.
    shared_energy_j, shared_energy_needed_j
        That energy, and the least that would do, 0 where enough is there; None where none is shared.

    What would do, and the message, take searches of their own: they are made when they are read.
    """

    problem: Problem
    feasible: np.ndarray
    resource: np.ndarray
    shared_energy_j: FloatArray | None = field(default=None, kw_only=True)
    shared_energy_needed_j: FloatArray | None = field(default=None, kw_only=True)

    @property
    def devices(self) -> np.ndarray:
        """Which devices lack something, shape ``(..., K)``."""
        return self.resource != ""

    @cached_property
    def bandwidth_needed_hz(self) -> FloatArray:
        """Least cell bandwidth that would do, shape ``(...)``; ``inf`` where none would."""
        batch = self.problem.batch_shape
        if self.problem.clocked:
            own = np.asarray(self.problem.cell.bandwidth_hz)[..., 0]
            return floor_bandwidths(clocked_form(self.problem)).sum(axis=1).reshape(batch) * own
        return least_cells(reduce(self.problem)).reshape(batch) * np.asarray(self.problem.cell.bandwidth_hz)[..., 0]

    @cached_property
    def total_power_needed_w(self) -> FloatArray:
        """Least total power that would do with the bandwidth there is, shape ``(...)``.

        0 where there is no cap on it, and where another resource is lacking, so that no total power would do.
        """
        total = self.problem.cell.total_power_w
        if total is None or self.problem.clocked:  # with a clock the cap is looked at in the end
            return np.zeros(self.problem.batch_shape)
        caps = floor_power(reduce(self.problem)).reshape(self.problem.batch_shape)
        return np.where(caps > 0.0, caps * np.asarray(total)[..., 0], 0.0)

    @cached_property
    def deadline_needed_s(self) -> FloatArray:
        """Least deadline that would do, shape ``(...)``; ``inf`` where none would."""
        return least_deadline(self.problem)

    def _shown(self) -> tuple[str, Rows]:
        if self.feasible.all():
            return "nothing is lacking", ()
        if self.feasible.ndim:
            return self.message, ()
        names = [self.problem.device((k,)) for k in range(self.resource.size)]
        return self.message, table("device", names, {"lacks": self.resource})

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
                names = ", ".join(self.problem.device((*index, k)) for k in which[:5]) + (
                    f" and {which.size - 5} more" if which.size > 5 else ""
                )
                verb = text if which.size > 1 else _singular(text)
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
        if (lacking == "shared_energy").any():
            assert self.shared_energy_j is not None
            assert self.shared_energy_needed_j is not None
            joules, there = float(self.shared_energy_needed_j[index]), float(self.shared_energy_j[index])
            more = [f"shared_energy_j {_rounded_up(joules)} instead of {there:.6g}"]
        would_do = " or ".join(m for m in more if m) or "no bandwidth and no deadline"
        return f"infeasible: {where}{'; '.join(parts)}; {would_do} would do"


_TEXT = {
    "deadline": "cannot finish the least computation in time",
    "energy": "cannot send the least payload within the energy budget",
    "bandwidth_max": "need more bandwidth than they can use themselves",
    "peak_power": "cannot reach the least rate at peak power, whatever the bandwidth",
    "bandwidth": "need more bandwidth together than the cell has",
    "total_power": "need more power together than the cell allows",
    "shared_energy": "need more energy together than they share",
}


def _singular(text: str) -> str:
    for plural, single in (("need", "needs"), (" together", ""), ("they can use themselves", "it can use itself")):
        text = text.replace(plural, single)
    return text


def _rounded_up(amount: float) -> str:
    """To 6 digits and never less than the amount: what a message says would do has to do."""
    shown = f"{amount:.6g}"
    return shown if float(shown) >= amount else f"{amount + 10.0 ** (np.floor(np.log10(amount)) - 5):.6g}"


# What a device lacks, in the kernel's order.
RESOURCES = np.array(["", "deadline", "energy", "peak_power", "bandwidth_max", "bandwidth", "total_power"])
DEADLINE, ENERGY, PEAK_POWER, BANDWIDTH_MAX, BANDWIDTH, TOTAL_POWER = range(1, 7)


def diagnose(problem: Problem, form: Reduced | None = None) -> Diagnosis | None:
    """What makes problems infeasible, or None if every problem has a solution; `form` is the reduced form if known.

    The kernel is not asked where the reduced form is known.
    """
    asked = ask(problem, Question.FLOORS) if form is None else None
    if asked is not None:
        lacks = asked[1][1]
    else:
        floors, lacks, watts = floors_of(problem, form)
        needed = floors.sum(axis=1)
        fits = (needed <= 1.0 + FEASIBLE) & (watts <= 1.0 + FEASIBLE)
        together = np.where(needed == np.inf, 0, np.where(needed > 1.0 + FEASIBLE, BANDWIDTH, TOTAL_POWER))
        lacks = np.where((lacks == 0) & (floors > 0.0) & ~fits[:, None], together[:, None], lacks)
    if not lacks.any():
        return None
    feasible = ~lacks.any(axis=1).reshape(problem.batch_shape)
    return Diagnosis(problem, feasible, RESOURCES[lacks.astype(np.intp)].reshape(problem.shape))


def floors_of(problem: Problem, form: Reduced | None = None) -> tuple[FloatArray, np.ndarray, FloatArray]:
    """Least bandwidths in cells, what each device lacks by itself (of `RESOURCES`), the least power for all in caps.

    Shapes ``(N, K)``, ``(N, K)`` and ``(N,)``, by NumPy.
    """
    if problem.clocked:
        return _clock_floors(problem)
    form = reduce(problem) if form is None else form
    floors = floor_bandwidth(form)
    watts = floor_power(form, floors)
    alone = np.isinf(floors)
    rate = form.rate0 + form.rate1 * form.s_min
    with np.errstate(divide="ignore", invalid="ignore"):
        energy = form.drained | ((form.power_limit(form.s_min) < 1.0) & (rate < form.snr))
    narrow = np.zeros_like(alone)
    if problem.bandwidth_limited:
        own = np.asarray(problem.devices.bandwidth_max_hz).reshape(floors.shape)
        unlimited = replace(form, b_max=np.full(floors.shape, np.inf))
        narrow = alone & ~form.drained & ((own == 0.0) | np.isfinite(floor_bandwidth(unlimited)))
    lacks = np.select([form.late, narrow, alone & energy, alone], [DEADLINE, BANDWIDTH_MAX, ENERGY, PEAK_POWER], 0)
    return floors, lacks, watts


def _clock_floors(problem: Problem) -> tuple[FloatArray, np.ndarray, FloatArray]:
    """The same for devices with a clock and electronics; a cap on total power is not looked at."""
    form = clocked_form(problem)
    floors = floor_bandwidths(form)
    alone, endless = np.isinf(floors), np.full(floors.shape, np.inf)
    narrow = alone & np.isfinite(form.b_max) & np.isfinite(floor_bandwidths(replace(form, b_max=endless)))
    if problem.bandwidth_limited:
        narrow |= alone & (np.asarray(problem.devices.bandwidth_max_hz).reshape(floors.shape) == 0.0)
    poor = alone & np.isfinite(floor_bandwidths(replace(form, energy=endless, b_max=endless)))
    lacks = np.select([form.late, narrow, poor, alone], [DEADLINE, BANDWIDTH_MAX, ENERGY, PEAK_POWER], 0)
    return floors, lacks, np.zeros(floors.shape[0])

"""The least weighted sum of energy and time at a pruning level: how long a round should be, and who gets what.

At a given deadline the least energy is convex in bandwidth, time and power, clock and electronics included
(`kktalloc._device.priced`), and so it is in the deadline. Its fall per second is known from the devices' answers: the
deadline is where that is the price of a second.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._certificate.certificate import Certificate
from kktalloc._certificate.priced import cost_bound, deadline_price, judge_cost
from kktalloc._device.clocked import clocked_form
from kktalloc._device.priced import Paid, cheapest, joules_per_heat, windows_s
from kktalloc._device.reduced import invert
from kktalloc._device.roots import crossing
from kktalloc._engine.priced_engine import DEAREST, FREE
from kktalloc._problem.allocation import Allotment
from kktalloc._problem.arrays import FloatArray, as_float64, first_wrong, speaks_arrays
from kktalloc._problem.problem import Problem
from kktalloc._problem.shown import Rows, Shown, span
from kktalloc._problem.stats import enter, measured
from kktalloc._problem.variant import UNPROVED, at_level, refuse_total_power, rows, variant
from kktalloc._questions.diagnosis import Diagnosis, diagnose
from kktalloc._questions.export import device_table, headline
from kktalloc._questions.judgement import InfeasibleError, Judged, close

SHORTEST_WAIT = -60.0  # logarithm of the time left after the longest computation, in deadlines
_IMPLIED = ("total_energy_j", "lower_bound", "energy_price_per_j", "deadline_price_per_s")  # by the allocation
ROUNDING = 1e-15  # of a round that ends with a computation: less might leave it no time


@dataclass(frozen=True, eq=False, repr=False)
class LeastCost(Shown, Judged, Allotment):
    """The cheapest round at a pruning level. Device arrays have shape ``(..., K)``, the rest the batch shape.

    Entries of infeasible problems are NaN.

    Parameters
    ----------
    pruning_ratio, bandwidth_hz, tx_power_w, upload_s, latency_s, energy_j, clock
        As in `Solution`.
    deadline_s
        Length of the round, at most that of the problem.
    total_energy_j
        Energy of all devices together.
    cost
        ``sum energy_weight E + time_weight T``.
    bandwidth_price_per_hz
        Fall of the cost per Hz, >= 0.
    deadline_price_per_s
        Fall of the cost per second that the problem's deadline were later, >= 0; 0 where the round ends before it.
    energy_price_per_j
        Fall of the cost per J that a device's budget were larger, >= 0, shape ``(..., K)``.
    lower_bound
        What no allocation can beat, by convexity and weak duality at these prices.
    diagnosis
        For infeasible problems what is missing, else None.
    """

    problem: Problem
    deadline_s: FloatArray
    total_energy_j: FloatArray
    cost: FloatArray
    bandwidth_price_per_hz: FloatArray
    deadline_price_per_s: FloatArray
    energy_price_per_j: FloatArray
    lower_bound: FloatArray
    energy_weight: FloatArray
    time_weight: FloatArray
    diagnosis: Diagnosis | None

    @property
    def gap(self) -> FloatArray:
        """Cost minus its lower bound, shape ``(...)``; blurred by 1e-13 of what the budgets are worth."""
        return self.cost - self.lower_bound

    def _shown(self) -> tuple[str, Rows]:
        line = f"cost {span(self.cost)}, {span(self.total_energy_j)} J in {span(self.deadline_s)} s"
        return headline(self, line), device_table(self)

    @cached_property
    def certificate(self) -> Certificate:
        """The verdict on these arrays; `dataclasses.replace` has it found anew, writing into them does not."""
        longest = np.asarray(self.problem.cell.deadline_s)[..., 0]
        taken = np.where(np.isfinite(self.deadline_s), self.deadline_s, longest)
        return judge_cost(
            variant(self.problem, deadline_s=taken), self, longest, self.energy_weight, self.time_weight,
            self.bandwidth_price_per_hz, self.cost,
            {name: np.asarray(getattr(self, name)) for name in _IMPLIED},
        )  # fmt: skip


@speaks_arrays
@measured
def least_cost(
    problem: Problem,
    *,
    time_weight: ArrayLike,
    energy_weight: ArrayLike = 1.0,
    pruning_ratio: ArrayLike | None = None,
    throw: bool = True,
) -> LeastCost:
    """Least ``sum energy_weight E + time_weight T`` at which every device meets a pruning level, in a round of T s.

    The length T of the round is chosen, up to the problem's deadline, together with bandwidth, power, clock and how
    long each upload takes. Keeping more takes more energy and time, so every device prunes exactly the level. The
    problem is jointly convex, so that the answer is the optimum: Yang et al. (IEEE TWC 20, 2021) and Dinh et al. (FEDL,
    IEEE/ACM ToN 29, 2021) weigh energy and time so.

    Parameters
    ----------
    problem
        One problem or a batch; its deadline is the longest that a round may take.
    time_weight
        Cost of a second of the round, >= 0, shape ``(...)``. In J/s where the energies are weighed by 1.
    energy_weight
        Cost of a joule of each device, >= 0, broadcast to ``(..., K)``.
    pruning_ratio
        What devices prune, in [0, 1], broadcast to ``(..., K)``; default their ``pruning_ratio_max``.
    throw
        Raise for infeasible problems; with False inspect ``diagnosis``.

    Raises
    ------
    ValueError
        A weight is no number >= 0; or a cap on total power binds, with which the problem is not known to be convex.
    InfeasibleError
        Some device cannot meet the level, or together they need more bandwidth than there is.
    UncertifiedError
        The verdict refuses the answer (numerically hopeless input).
    """
    problem = at_level(problem, pruning_ratio)
    per_s = weights("time_weight", time_weight, problem.batch_shape)
    per_j = weights("energy_weight", energy_weight, problem.shape)
    diagnosis = diagnose(problem)
    if diagnosis is not None and throw:
        raise InfeasibleError(diagnosis)
    fine = np.ones(problem.sizes[0], dtype=bool) if diagnosis is None else diagnosis.feasible.ravel()
    longest = np.asarray(problem.cell.deadline_s)[..., 0]
    seconds, price = np.where(fine, longest.ravel(), np.nan), np.full(fine.size, np.nan)
    arrays = {name: np.full(problem.sizes, np.nan) for name in ("b", "p", "clock")}
    if fine.any():
        part = rows(problem, fine)
        T, at, per_cell = _cheapest_rounds(part, per_s.ravel()[fine], per_j.reshape(problem.sizes)[fine])
        seconds[fine], price[fine] = T, per_cell
        for name in arrays:
            arrays[name][fine] = getattr(at, name)
    batch = problem.batch_shape
    taken = seconds.reshape(batch)
    timed = variant(problem, deadline_s=np.where(np.isfinite(taken), taken, longest))
    rho = np.asarray(problem.devices.pruning_ratio_max).reshape(problem.sizes)
    found = invert(timed, fine, rho[fine], *(arrays[n][fine] for n in ("b", "p", "clock")))
    del found["objective"]
    allotment = Allotment(**found)
    refuse_total_power(
        problem, np.nansum(allotment.tx_power_w, axis=-1), "the least cost or energy of a round", UNPROVED
    )
    per_hz = price.reshape(batch) / np.asarray(problem.cell.bandwidth_hz)[..., 0]
    with np.errstate(all="ignore"):
        cost = (per_j * allotment.energy_j).sum(axis=-1) + per_s * taken
        bound, rest, lower, _ = cost_bound(problem, allotment, per_hz, per_j, per_s, taken, cost)
    answer = LeastCost(
        **{f.name: getattr(allotment, f.name) for f in fields(Allotment)},
        problem=problem, deadline_s=taken, total_energy_j=allotment.energy_j.sum(axis=-1), cost=cost,
        bandwidth_price_per_hz=per_hz, deadline_price_per_s=deadline_price(taken, longest, rest),
        energy_price_per_j=bound.joule, lower_bound=lower, energy_weight=per_j, time_weight=per_s,
        diagnosis=diagnosis,
    )  # fmt: skip
    return close(answer, throw)


def _cheapest_rounds(problem: Problem, per_s: FloatArray, per_j: FloatArray) -> tuple[FloatArray, Paid, FloatArray]:
    """Lengths of the rounds, shape ``(N,)``, the devices' answers and the prices of a cell of bandwidth.

    At a price of bandwidth the best length is where a second less would cost as much as it is worth; the price is the
    one at which the bandwidth is used up.
    """
    N = problem.sizes[0]
    q = 1.0 - np.asarray(problem.devices.pruning_ratio_max)
    longest = np.asarray(problem.cell.deadline_s)[..., 0]
    earliest, soonest = _computed(problem)
    end = np.log(np.maximum((longest - earliest) / longest, np.exp(SHORTEST_WAIT)))
    waits = end - 1.0
    kept: tuple[np.ndarray, Problem] = np.arange(N), problem

    def served(log_wait: FloatArray, price: FloatArray, part: np.ndarray) -> tuple[Paid, FloatArray]:
        """The answers, and the logarithm of what a second is worth to all devices over what it costs."""
        nonlocal kept
        if part.size != kept[0].size or (part != kept[0]).any():
            kept = part, rows(problem, np.isin(np.arange(N), part))
        deadline = length(log_wait, part)[:, None]
        worth = per_j[part] * joules_per_heat(kept[1], deadline)
        at = cheapest(clocked_form(kept[1], deadline), q[part], price, worth)
        second = (at.second / windows_s(kept[1], deadline).reshape(at.second.shape)).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = np.log(second) - np.log(per_s[part])
        return at, np.where(np.isinf(at.b).any(axis=1), np.inf, np.where(np.isnan(excess), 0.0, excess))

    def length(log_wait: FloatArray, part: np.ndarray) -> FloatArray:
        T = np.minimum(earliest[part] + longest[part] * np.exp(log_wait), longest[part])
        T = np.where(log_wait <= SHORTEST_WAIT, np.minimum(soonest[part], T), T)
        return np.where(log_wait >= end[part], longest[part], T)

    def excess(log_price: FloatArray, part: np.ndarray) -> FloatArray:
        enter("numpy", log_price.size)
        price = np.exp(log_price)
        waits[part] = crossing(
            lambda wait, some: served(wait, price[some], part[some])[1], waits[part], SHORTEST_WAIT, end[part]
        ).at
        with np.errstate(divide="ignore"):
            return np.log(served(waits[part], price, part)[0].b.sum(axis=1))

    every = np.arange(N)
    spent = (per_j * np.asarray(problem.devices.tx_power_max_w)).sum(axis=1) * longest + per_s * longest
    start = np.log(np.clip(spent, 1e-200, 1e200))
    found = crossing(excess, start, start + FREE, start + DEAREST).at
    excess(found, every)
    # Bandwidth that is not used up at the least price is worth nothing.
    price = np.where(found <= start + FREE, 0.0, np.exp(found))
    return length(waits, every), served(waits, np.exp(found), every)[0], price


def _computed(problem: Problem) -> tuple[FloatArray, FloatArray]:
    """When the last device has computed at the earliest, and how short a round may be at the least; shape ``(N,)``.

    The second is the first, but for rounding, where who is last sends nothing.
    """
    d = problem.devices
    q = 1.0 - np.asarray(d.pruning_ratio_max)
    work = np.asarray(d.fixed_compute_s) + np.asarray(d.pruned_compute_s) * q
    ends = np.asarray(d.fixed_latency_s) + work / np.asarray(d.clock_max)
    sends = np.asarray(d.payload_bits) * q + np.asarray(d.overhead_bits) > 0.0
    earliest = np.max(ends, axis=-1, initial=0.0)
    upload = np.exp(SHORTEST_WAIT) * np.asarray(problem.cell.deadline_s)[..., 0]
    sent = np.max(np.where(sends, ends, 0.0), axis=-1, initial=0.0)
    return earliest, np.maximum(earliest * (1.0 + ROUNDING), sent + upload)


def weights(name: str, value: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Weights >= 0 broadcast to a shape, or one line that names what is wrong."""
    array = as_float64(name, value)
    ok = np.isfinite(array) & (array >= 0.0)
    if not ok.all():
        raise ValueError(f"{first_wrong(name, array, ok)}: must be >= 0 and finite")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name}: shape {array.shape} does not broadcast to the problem's {shape}") from None
